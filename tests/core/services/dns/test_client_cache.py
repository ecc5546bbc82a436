"""The answers that the DNS client caches, and for how long."""

from __future__ import annotations

import pytest

from gatepost.errors import DNSTemporaryError
from gatepost.services.dns.client import DNS
from gatepost.services.virtual_clock import VirtualClock
from tests.peers.dns_server import DNSServer, Fault


async def test_an_answer_is_kept_for_its_ttl(dns: DNS, server: DNSServer, clock: VirtualClock) -> None:
    server.ttl = 100
    first = await dns.query("mx.example", "A")
    await clock.advance(99)
    assert await dns.query("MX.example", "A") == first
    assert len(server.received) == 1

    await clock.advance(1)
    server.records["mx.example"] = {"A": ["192.0.2.9"]}
    assert await dns.query("mx.example", "A") == ("192.0.2.9",)


@pytest.mark.parametrize(
    ("negative_ttl", "kept"),
    [(60, 60), (86_400, 900)],
    ids=["as long as the SOA says", "a quarter of an hour at most"],
)
@pytest.mark.parametrize("name", ["gone.example", "example"])
async def test_a_negative_answer_is_kept(
    dns: DNS, server: DNSServer, clock: VirtualClock, name: str, negative_ttl: int, kept: int
) -> None:
    server.negative_ttl = negative_ttl
    await dns.query(name, "A")
    server.records[name] = {"A": ["192.0.2.9"]}
    await clock.advance(kept - 1)
    assert await dns.query(name, "A") == ()

    await clock.advance(1)
    assert await dns.query(name, "A") == ("192.0.2.9",)


async def test_an_answer_is_kept_for_a_day_at_most(dns: DNS, server: DNSServer, clock: VirtualClock) -> None:
    server.ttl = 1_000_000
    await dns.query("mx.example", "A")
    await clock.advance(86_399)
    await dns.query("mx.example", "A")
    assert len(server.received) == 1

    await clock.advance(1)
    await dns.query("mx.example", "A")
    assert len(server.received) == 2


@pytest.mark.parametrize("name", ["mx.example", "gone.example"])
async def test_what_is_kept_is_known_without_asking(
    dns: DNS, server: DNSServer, clock: VirtualClock, name: str
) -> None:
    assert dns.known(name, "A") is None
    answer = await dns.query(name, "A")

    assert dns.known(name.upper(), "A") == answer
    assert dns.known(name, "AAAA") is None
    assert len(server.received) == 1
    await clock.advance(86_400)
    assert dns.known(name, "A") is None


async def test_a_negative_answer_without_an_soa_is_not_kept(dns: DNS, server: DNSServer) -> None:
    server.negative_ttl = None

    assert await dns.query("gone.example", "A") == await dns.query("gone.example", "A") == ()
    assert len(server.received) == 2


async def test_an_answer_with_ttl_0_is_not_kept(dns: DNS, server: DNSServer) -> None:
    server.ttl = 0

    assert await dns.query("mx.example", "AAAA") == await dns.query("mx.example", "AAAA")
    assert len(server.received) == 2


async def test_a_failure_is_not_kept(dns: DNS, server: DNSServer) -> None:
    server.faults["mx.example"] = Fault.SERVFAIL
    with pytest.raises(DNSTemporaryError):
        await dns.query("mx.example", "AAAA")
    server.faults.clear()

    assert await dns.query("mx.example", "AAAA") == ("2001:db8::1",)


async def test_the_cache_is_bounded_and_forgets_the_oldest_answer_first(server: DNSServer, clock: VirtualClock) -> None:
    # Three names of nine octets that do not exist take 279 octets each, and an address 65 to 68 more.
    dns = DNS([server.address], clock=clock, cache_size=900)
    for name in ("a.example", "b.example", "c.example", "a.example", "d.example", "b.example", "c.example"):
        await dns.query(name, "A")
    assert [name for name, *_ in server.received] == ["a.example", "b.example", "c.example", "d.example"]

    await dns.query("a.example", "A")
    assert len(server.received) == 5

    server.ttl = 0  # what is not kept takes no place
    await dns.query("mx.example", "A")
    for name in ("c.example", "d.example", "a.example"):
        await dns.query(name, "A")
    assert len(server.received) == 6
    await dns.close()


async def test_it_is_bounded_in_octets_so_one_long_answer_takes_the_place_of_many(
    server: DNSServer, clock: VirtualClock
) -> None:
    dns = DNS([server.address], clock=clock, cache_size=14_000)
    for number in range(20):
        await dns.query(f"{number}.example", "A")
    assert all(dns.known(f"{number}.example", "A") == () for number in range(20))

    assert len(await dns.query("big.example", "TXT")) == 60  # 12,240 octets of text
    assert [number for number in range(20) if dns.known(f"{number}.example", "A") is not None] == []
    assert dns.known("big.example", "TXT") is None, "an answer that is larger than the cache is not kept"

    await dns.query("mx.example", "TXT")
    assert dns.known("mx.example", "TXT") == ("one two",)
    await dns.close()


async def test_an_answer_that_is_replaced_counts_once(server: DNSServer, clock: VirtualClock) -> None:
    dns = DNS([server.address], clock=clock, cache_size=900)
    for _ in range(5):
        await dns.query("a.example", "A")
        await dns.query("b.example", "A")
        await clock.advance(900)
    await dns.query("c.example", "A")
    assert len(server.received) == 11
    await dns.query("b.example", "A")
    await dns.query("a.example", "A")
    assert all(dns.known(name, "A") == () for name in ("a.example", "b.example", "c.example"))
    await dns.close()
