"""The DNS service against a real server on loopback that a test can make fail in every way."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from gatepost.errors import DNSError, DNSTemporaryError
from gatepost.services import dns as module
from gatepost.services.clock import SystemClock, VirtualClock
from gatepost.services.dns import DNS, Resolver, Server, reversed_address, system_servers
from tests.peers.dns_server import DNSServer, Fault

RECORDS = {
    "mx.example": {"A": ["192.0.2.1", "192.0.2.2"], "AAAA": ["2001:db8::1"], "TXT": ['"one " "two"']},
    "example": {"MX": ["10 MX.example.", "0 ."], "NS": ["NS1.Example."]},
    "www.example": {"CNAME": ["web.example."]},
    "web.example": {"CNAME": ["mx.example."]},
    "lost.example": {"CNAME": ["gone.example."]},
    "big.example": {"TXT": [f'"{number:03d} {"x" * 200}"' for number in range(60)]},
    "odd.example": {"TXT": ['"a\\010b\\200c"'], "PTR": ["we\\032ird.example."]},
    "1.2.0.192.in-addr.arpa": {"PTR": ["MX.example."]},
}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def server() -> AsyncIterator[DNSServer]:
    async with DNSServer(RECORDS) as server:
        yield server


@pytest.fixture
async def dns(server: DNSServer, clock: VirtualClock) -> AsyncIterator[DNS]:
    resolver = DNS([server.address], clock=clock)
    yield resolver
    await resolver.close()


# What is said


@pytest.mark.parametrize(
    ("name", "kind", "texts"),
    [
        ("mx.example", "A", ("192.0.2.1", "192.0.2.2")),
        ("mx.example.", "A", ("192.0.2.1", "192.0.2.2")),
        ("MX.Example", "A", ("192.0.2.1", "192.0.2.2")),
        ("mx.example", "AAAA", ("2001:db8::1",)),
        ("mx.example", "TXT", ("one two",)),
        ("example", "MX", ("10 mx.example", "0 .")),
        ("example", "NS", ("ns1.example",)),
        ("www.example", "A", ("192.0.2.1", "192.0.2.2")),
        ("www.example", "CNAME", ("web.example",)),
        ("1.2.0.192.in-addr.arpa", "PTR", ("mx.example",)),
        ("odd.example", "TXT", ("a\\010b\\200c",)),
        ("odd.example", "PTR", ("we\\032ird.example",)),
    ],
)
async def test_records_come_as_text(dns: DNS, name: str, kind: str, texts: tuple[str, ...]) -> None:
    assert sorted(await dns.query(name, kind)) == sorted(texts)


@pytest.mark.parametrize(
    ("name", "kind"), [("gone.example", "A"), ("example", "A"), ("lost.example", "A"), ("web.example", "MX")]
)
async def test_nxdomain_and_nodata_are_empty(dns: DNS, name: str, kind: str) -> None:
    assert await dns.query(name, kind) == ()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.SERVFAIL, "SERVFAIL"),
        (Fault.REFUSED, "REFUSED"),
        (Fault.REFERRAL, "a referral"),
        (Fault.GARBAGE, "cannot be read"),
        (Fault.HANG_UP, "0 bytes read"),
    ],
)
@pytest.mark.parametrize("name", ["example", "gone.example"])
async def test_a_failure_is_never_an_empty_answer(
    dns: DNS, server: DNSServer, fault: Fault, reason: str, name: str
) -> None:
    server.faults[name] = fault

    with pytest.raises(DNSTemporaryError, match=rf"^{name} A: {server.address}: .*{reason}"):
        await dns.query(name, "A")


@pytest.mark.parametrize(
    "name", ["", "a..example", ".example", "x" * 64, "é.example", "\u212a.example", "a\\300.example"]
)
async def test_a_name_that_is_none_can_never_be_asked_for(dns: DNS, server: DNSServer, name: str) -> None:
    with pytest.raises(DNSError) as caught:
        await dns.query(name, "A")

    assert type(caught.value) is DNSError and not server.received


@pytest.mark.parametrize("kind", ["", "ADDRESS", "ANY", "AXFR", "OPT"])
async def test_a_kind_that_is_none_can_never_be_asked_for(dns: DNS, server: DNSServer, kind: str) -> None:
    with pytest.raises(DNSError) as caught:
        await dns.query("mx.example", kind)

    assert type(caught.value) is DNSError and not server.received


async def test_a_truncated_answer_is_asked_for_over_tcp(dns: DNS, server: DNSServer) -> None:
    server.faults["big.example"] = Fault.TRUNCATE

    assert len(await dns.query("big.example", "TXT")) == 60
    assert [transport for *_, transport in server.received] == ["udp", "tcp"]


async def test_forged_answers_are_not_heard(dns: DNS, server: DNSServer) -> None:
    server.faults["mx.example"] = Fault.FORGERY

    assert "203.0.113.66" not in await dns.query("mx.example", "A")


async def test_a_server_may_have_an_ipv6_address(clock: VirtualClock) -> None:
    async with DNSServer(RECORDS, host="::1") as server:
        dns = DNS([server.address], clock=clock)
        server.faults["big.example"] = Fault.TRUNCATE

        assert await dns.query("mx.example", "AAAA") == ("2001:db8::1",)
        assert len(await dns.query("big.example", "TXT")) == 60
        await dns.close()


# What is kept


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


async def test_the_cache_is_bounded_and_forgets_what_was_not_asked_for_longest(
    server: DNSServer, clock: VirtualClock
) -> None:
    dns = DNS([server.address], clock=clock, cache_size=3)
    for name in ("a.example", "b.example", "c.example", "a.example", "d.example", "a.example", "c.example"):
        await dns.query(name, "A")
    assert [name for name, *_ in server.received] == ["a.example", "b.example", "c.example", "d.example"]

    await dns.query("b.example", "A")
    assert len(server.received) == 5
    await dns.close()


# Who waits for what


async def test_a_question_is_asked_once_however_many_wait_for_it(dns: DNS, server: DNSServer) -> None:
    server.held["mx.example"] = asyncio.Event()
    askers = [asyncio.create_task(dns.query("mx.example", "AAAA")) for _ in range(10)]
    await server.wait_for(1)
    server.held["mx.example"].set()

    assert await asyncio.gather(*askers) == [("2001:db8::1",)] * 10
    assert len(server.received) == 1


async def test_a_failure_reaches_all_who_wait(dns: DNS, server: DNSServer) -> None:
    server.faults["mx.example"] = Fault.SERVFAIL
    outcomes = await asyncio.gather(*(dns.query("mx.example", "A") for _ in range(3)), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [DNSTemporaryError] * 3
    assert len(server.received) == 1


@pytest.mark.parametrize("leaver", [0, 1], ids=["who asked first", "who joined"])
async def test_an_asker_who_leaves_takes_nothing_from_the_others(dns: DNS, server: DNSServer, leaver: int) -> None:
    server.held["mx.example"] = asyncio.Event()
    askers = [asyncio.create_task(dns.query("mx.example", "AAAA")) for _ in range(2)]
    await server.wait_for(1)
    askers[leaver].cancel()
    await asyncio.wait([askers[leaver]])
    server.held["mx.example"].set()

    assert askers[leaver].cancelled()
    assert await askers[1 - leaver] == ("2001:db8::1",)


async def test_an_answer_for_which_nobody_waits_any_more_is_kept_nonetheless(dns: DNS, server: DNSServer) -> None:
    server.held["mx.example"] = asyncio.Event()
    asker = asyncio.create_task(dns.query("mx.example", "AAAA"))
    await server.wait_for(1)
    asker.cancel()
    await asyncio.wait([asker])
    server.held["mx.example"].set()

    assert await dns.query("mx.example", "AAAA") == ("2001:db8::1",)
    assert len(server.received) == 1


async def test_silence_is_a_temporary_error_in_the_time_given(dns: DNS, server: DNSServer, clock: VirtualClock) -> None:
    server.faults[""] = Fault.DROP
    asker = asyncio.create_task(dns.query("mx.example", "A"))
    await server.wait_for(1)
    await clock.advance(4.9)
    assert not asker.done()

    await clock.advance(0.1)
    with pytest.raises(DNSTemporaryError, match="mx"):
        await asker


async def test_a_query_that_was_lost_is_sent_again(dns: DNS, server: DNSServer, clock: VirtualClock) -> None:
    server.faults[""] = Fault.DROP
    asker = asyncio.create_task(dns.query("mx.example", "AAAA"))
    await server.wait_for(1)
    server.faults.clear()
    await clock.advance(2.5)

    assert await asker == ("2001:db8::1",)
    assert len(server.received) == 2


async def test_each_asker_has_his_own_time(dns: DNS, server: DNSServer, clock: VirtualClock) -> None:
    server.held["mx.example"] = asyncio.Event()
    hasty = asyncio.create_task(dns.query("mx.example", "AAAA", timeout=1))
    patient = asyncio.create_task(dns.query("mx.example", "AAAA"))
    await server.wait_for(1)
    await clock.advance(1)
    with pytest.raises(DNSTemporaryError, match="no answer within 1 s"):
        await hasty

    server.held["mx.example"].set()
    assert await patient == ("2001:db8::1",)


async def test_an_asker_may_have_more_time_than_is_usual(dns: DNS, server: DNSServer, clock: VirtualClock) -> None:
    server.held["mx.example"] = asyncio.Event()
    asker = asyncio.create_task(dns.query("mx.example", "AAAA", timeout=20))
    await server.wait_for(1)
    await clock.advance(9.9)
    server.held["mx.example"].set()

    assert await asker == ("2001:db8::1",)


async def test_the_system_clock_ends_a_question_too(server: DNSServer) -> None:
    server.faults[""] = Fault.DROP
    dns = DNS([server.address], timeout=0.1, clock=SystemClock())

    with pytest.raises(DNSTemporaryError):
        await dns.query("mx.example", "A")
    await dns.close()


async def test_questions_beyond_the_number_of_sockets_wait_in_their_own_time(
    server: DNSServer, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SOCKETS", 1)
    dns = DNS([server.address], clock=clock)
    server.faults["a.example"] = Fault.DROP
    first = asyncio.create_task(dns.query("a.example", "A", timeout=20))
    await server.wait_for(1)
    second = asyncio.create_task(dns.query("b.example", "A"))
    third = asyncio.create_task(dns.query("mx.example", "AAAA", timeout=30))
    await clock.advance(10)
    with pytest.raises(DNSTemporaryError):
        await second
    await clock.advance(10)
    with pytest.raises(DNSTemporaryError):
        await first

    assert await third == ("2001:db8::1",)
    assert "b.example" not in [name for name, *_ in server.received]
    await dns.close()


async def test_closing_ends_all_questions(dns: DNS, server: DNSServer) -> None:
    server.faults[""] = Fault.DROP
    askers = [asyncio.create_task(dns.query(name, "A")) for name in ("mx.example", "mx.example", "example")]
    await server.wait_for(2)
    await dns.close()

    for asker in askers:
        with pytest.raises(DNSTemporaryError):
            await asker
    with pytest.raises(DNSTemporaryError, match="closed"):
        await dns.query("www.example", "A")


# Several servers


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.REFUSED, Fault.GARBAGE, Fault.HANG_UP, Fault.REFERRAL])
async def test_the_next_server_is_asked_when_one_fails(server: DNSServer, clock: VirtualClock, fault: Fault) -> None:
    async with DNSServer({}) as broken:
        broken.faults[""] = fault
        dns = DNS([broken.address, server.address], clock=clock)

        assert await dns.query("mx.example", "AAAA") == ("2001:db8::1",)
        await dns.close()


async def test_the_next_server_is_asked_when_one_is_silent_and_is_preferred_then(
    server: DNSServer, clock: VirtualClock
) -> None:
    async with DNSServer({}) as silent:
        silent.faults[""] = Fault.DROP
        dns = DNS([silent.address, server.address], clock=clock)
        asker = asyncio.create_task(dns.query("mx.example", "AAAA"))
        await silent.wait_for(1)
        await clock.advance(1.25)
        assert await asker == ("2001:db8::1",)

        assert await dns.query("www.example", "AAAA") == ("2001:db8::1",)
        assert len(silent.received) == 1
        await dns.close()


async def test_the_next_server_is_asked_when_nobody_listens_at_one(server: DNSServer, clock: VirtualClock) -> None:
    async with DNSServer({}) as gone:
        address = gone.address
    dns = DNS([address, server.address], clock=clock)

    assert await dns.query("mx.example", "AAAA") == ("2001:db8::1",)
    await dns.close()


async def test_the_error_names_every_server_and_what_it_did(server: DNSServer, clock: VirtualClock) -> None:
    async with DNSServer({}) as other:
        server.faults[""], other.faults[""] = Fault.SERVFAIL, Fault.REFUSED
        dns = DNS([server.address, other.address], clock=clock)

        with pytest.raises(DNSTemporaryError, match=f"{server.address}: SERVFAIL, {other.address}: REFUSED$"):
            await dns.query("mx.example", "A")
        assert len(server.received) == len(other.received) == 1
        await dns.close()


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.1", Server("192.0.2.1", 53)),
        ("127.0.0.1:5300", Server("127.0.0.1", 5300)),
        ("2001:db8::1", Server("2001:db8::1", 53)),
        ("::", Server("::", 53)),
        ("[::1]", Server("::1", 53)),
        ("[::1]:5300", Server("::1", 5300)),
        ("fe80::1%eth0", Server("fe80::1%eth0", 53)),
    ],
)
def test_a_server_is_an_address_with_or_without_a_port(text: str, server: Server) -> None:
    assert Server.parse(text) == server
    assert Server.parse(str(server)) == server


@pytest.mark.parametrize("text", ["", "localhost", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "::1]x:5", "1:x"])
def test_what_is_no_server_is_refused_at_once(text: str, clock: VirtualClock) -> None:
    with pytest.raises(DNSError):
        DNS([text], clock=clock)


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        (
            "# ours\nsearch example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n",
            ("192.0.2.1:53", "[2001:db8::1]:53"),
        ),
        ("options ndots:2\n", ("127.0.0.1:53",)),
        (None, ("127.0.0.1:53",)),
    ],
)
def test_without_servers_those_of_the_system_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, servers: tuple[str, ...]
) -> None:
    monkeypatch.setattr(module, "RESOLV_CONF", tmp_path / "resolv.conf")
    if text is not None:
        (tmp_path / "resolv.conf").write_text(text)

    assert tuple(map(str, system_servers())) == servers


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_either_loop_will_do(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def ask() -> None:
        async with DNSServer(RECORDS) as server, DNSServer({}) as gone:
            await gone.__aexit__()
            server.faults["big.example"] = Fault.TRUNCATE
            dns = DNS([gone.address, server.address], timeout=5, clock=SystemClock())
            assert await dns.query("mx.example", "AAAA") == ("2001:db8::1",)
            assert len(await dns.query("big.example", "TXT")) == 60
            server.faults[""] = Fault.DROP
            asker = asyncio.create_task(dns.query("silent.example", "A"))
            await server.wait_for(4)
            await dns.close()
            with pytest.raises(DNSTemporaryError):
                await asker

    run(ask())


# Addresses and their names


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("127.0.0.2", "2.0.0.127"),
        ("2001:db8:1:2:3:4:567:89ab", "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2"),
        ("::ffff:7f00:2", "2.0.0.0.0.0.f.7.f.f.f.f" + ".0" * 20),
        ("fe80::1%eth0", "1" + ".0" * 28 + ".8.e.f"),
    ],
)
def test_an_address_is_reversed_for_a_list(address: str, text: str) -> None:
    assert reversed_address(address) == text


@given(st.ip_addresses())
def test_a_reversed_address_can_be_turned_back(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    parts = reversed_address(str(address)).split(".")[::-1]
    groups = ["".join(parts[at : at + 4]) for at in range(0, 32, 4)]

    assert ipaddress.ip_address(".".join(parts) if len(parts) == 4 else ":".join(groups)) == address


async def test_what_is_no_address_has_no_name(dns: DNS) -> None:
    for ask in (dns.reverse, dns.verified_name):
        with pytest.raises(DNSError, match="is not an IP address"):
            await ask("mx.example")
    with pytest.raises(DNSError, match="is not an IP address"):
        reversed_address("1.2.3")


class Book(Resolver):
    """Answers from a table, as a fake of a plugin's test does; an exception in it is raised."""

    def __init__(self, records: dict[tuple[str, str], tuple[str, ...] | DNSError]) -> None:
        self.records = records
        self.asked: list[tuple[str, str]] = []

    async def query(self, name: str, kind: str, *, timeout: float | None = None) -> tuple[str, ...]:
        self.asked.append((name, kind))
        answer = self.records.get((name, kind), ())
        if isinstance(answer, DNSError):
            raise answer
        return answer


PTR4 = ("1.2.0.192.in-addr.arpa", "PTR")
PTR6 = (f"{reversed_address('2001:db8::1')}.ip6.arpa", "PTR")
UNKNOWN = DNSTemporaryError("nobody knows")


@pytest.mark.parametrize(
    ("address", "records", "name"),
    [
        ("192.0.2.1", {PTR4: ("a.x",), ("a.x", "A"): ("192.0.2.9", "192.0.2.1")}, "a.x"),
        ("::ffff:192.0.2.1", {PTR4: ("a.x",), ("a.x", "A"): ("192.0.2.1",)}, "a.x"),
        ("2001:DB8:0::1", {PTR6: ("a.x",), ("a.x", "AAAA"): ("2001:db8::1",)}, "a.x"),
        ("192.0.2.1", {}, None),
        ("192.0.2.1", {PTR4: ("a.x",)}, None),
        ("192.0.2.1", {PTR4: ("a.x",), ("a.x", "A"): ("192.0.2.9",)}, None),
        ("192.0.2.1", {PTR4: ("a.x", "b.x"), ("b.x", "A"): ("192.0.2.1",)}, "b.x"),
        ("192.0.2.1", {PTR4: ("a.x", "b.x"), ("a.x", "A"): UNKNOWN, ("b.x", "A"): ("192.0.2.1",)}, "b.x"),
        ("192.0.2.1", {PTR4: ("..", "b.x"), ("..", "A"): DNSError("no name"), ("b.x", "A"): ("192.0.2.1",)}, "b.x"),
        ("192.0.2.1", {PTR4: tuple("abcdef"), ("f", "A"): ("192.0.2.1",)}, None),
    ],
    ids=[
        "confirmed",
        "an IPv4 client on an IPv6 socket",
        "IPv6",
        "no name",
        "a name without addresses",
        "the name of another",
        "the second name is confirmed",
        "the first is unknown and the second is confirmed",
        "the first is no name",
        "only five are looked at",
    ],
)
async def test_a_name_counts_when_it_leads_back(
    address: str, records: dict[tuple[str, str], Any], name: str | None
) -> None:
    assert await Book(records).verified_name(address) == name


@pytest.mark.parametrize(
    "records",
    [{PTR4: UNKNOWN}, {PTR4: ("a.x",), ("a.x", "A"): UNKNOWN}, {PTR4: ("a.x", "b.x"), ("a.x", "A"): UNKNOWN}],
    ids=["the names are unknown", "the addresses are unknown", "the first is unknown and the second is not confirmed"],
)
async def test_a_name_that_cannot_be_confirmed_now_is_not_known(records: dict[tuple[str, str], Any]) -> None:
    with pytest.raises(DNSTemporaryError):
        await Book(records).verified_name("192.0.2.1")


async def test_a_verified_name_is_found_over_the_wire(dns: DNS, server: DNSServer) -> None:
    assert await dns.verified_name("192.0.2.1") == "mx.example"
    assert server.received == [(*PTR4, "udp"), ("mx.example", "A", "udp")]
