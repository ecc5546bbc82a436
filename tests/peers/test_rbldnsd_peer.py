"""The real rbldnsd of these tests answers as a DNS list does."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.patience import PATIENCE
from tests.peers.rbldnsd import BLOCKED, EVERYTHING, TEST_POINTS, Rbldnsd

LISTED = {"ip4trie": "127.0.0.9 :127.0.0.4:listed, see $\n", "ip6trie": "::1 :127.0.0.3:listed too\n"}
ZONES = {"bl.test": LISTED, "healthy.test": TEST_POINTS, "all.test": EVERYTHING, "blocked.test": BLOCKED}


def ask(peer: Rbldnsd, host: str, name: str, kind: str = "A") -> list[str]:
    response = dns.query.udp(dns.message.make_query(name, kind), host, port=peer.port, timeout=PATIENCE)
    return [record.to_text() for answer in response.answer for record in answer]


def reverse(address: str) -> str:
    pointer = ipaddress.ip_address(address).reverse_pointer
    return pointer.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


@pytest.fixture
def peer(start_rbldnsd: Callable[..., Rbldnsd]) -> Rbldnsd:
    return start_rbldnsd(ZONES)


@pytest.mark.parametrize(
    ("client", "zone", "answers"),
    [
        ("127.0.0.9", "bl.test", ["127.0.0.4"]),
        ("127.0.0.10", "bl.test", []),
        ("::1", "bl.test", ["127.0.0.3"]),
        ("::2", "bl.test", []),
        ("127.0.0.1", "healthy.test", []),
        ("127.0.0.2", "healthy.test", ["127.0.0.2"]),
        ("::ffff:7f00:1", "healthy.test", []),
        ("::ffff:7f00:2", "healthy.test", ["127.0.0.2"]),
        ("127.0.0.1", "all.test", ["127.0.0.2"]),
        ("2001:db8::5", "all.test", ["127.0.0.2"]),
        ("192.0.2.1", "blocked.test", ["127.255.255.254"]),
        ("::1", "blocked.test", ["127.255.255.254"]),
    ],
)
def test_a_zone_answers_for_what_it_lists(peer: Rbldnsd, client: str, zone: str, answers: list[str]) -> None:
    for host in peer.hosts:
        assert ask(peer, host, f"{reverse(client)}.{zone}") == answers


def test_the_text_of_a_listing_names_the_client(peer: Rbldnsd) -> None:
    assert ask(peer, "127.0.0.1", f"{reverse('127.0.0.9')}.bl.test", "TXT") == ['"listed, see 127.0.0.9"']


def test_domains_and_generic_records_can_be_zones(start_rbldnsd: Callable[..., Rbldnsd]) -> None:
    generic = "www A 192.0.2.7\n"
    peer = start_rbldnsd({"dbl.test": {"dnset": ".bad.example :127.0.0.4:\n"}, "names.test": {"generic": generic}})

    assert ask(peer, "127.0.0.1", "mail.bad.example.dbl.test") == ["127.0.0.4"]
    assert ask(peer, "127.0.0.1", "good.example.dbl.test") == []
    assert ask(peer, "127.0.0.1", "www.names.test") == ["192.0.2.7"]


def test_a_query_for_a_foreign_zone_is_refused(peer: Rbldnsd) -> None:
    response = dns.query.udp(
        dns.message.make_query("2.0.0.127.other.test", "A"), "127.0.0.1", port=peer.port, timeout=PATIENCE
    )

    assert response.rcode() == dns.rcode.REFUSED


def test_a_stopped_server_is_silent_until_it_is_started_again(peer: Rbldnsd) -> None:
    peer.stop()
    with pytest.raises((dns.exception.Timeout, OSError)):
        dns.query.udp(dns.message.make_query("2.0.0.127.all.test", "A"), "127.0.0.1", port=peer.port, timeout=0.2)

    peer.start()
    assert ask(peer, "127.0.0.1", "2.0.0.127.all.test") == ["127.0.0.2"]


def test_a_zone_that_cannot_be_read_stops_the_start(start_rbldnsd: Callable[..., Rbldnsd]) -> None:
    with pytest.raises(RuntimeError, match="invalid address"):
        start_rbldnsd({"bl.test": {"ip4set": "0/0 :127.0.0.2:\n"}})
