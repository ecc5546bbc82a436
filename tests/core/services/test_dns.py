"""The DNS service against a real server on loopback that a test can make fail in every way."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvloop

from gatepost.errors import DNSError, DNSTemporaryError
from gatepost.services.clock import SystemClock
from gatepost.services.dns import client as module
from gatepost.services.dns.client import DNS
from gatepost.services.virtual_clock import VirtualClock
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
        (Fault.CUT, "truncates its answer over TCP too"),
        (Fault.CROSS, "answers another question"),
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


async def test_neither_id_nor_port_of_a_query_can_be_told_beforehand(dns: DNS, server: DNSServer) -> None:
    await asyncio.gather(*(dns.query(f"{number}.example", "A") for number in range(50)))

    ids, ports = map(set, zip(*server.origins, strict=True))
    assert len(ids) > 45 and len(ports) > 45


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
    dns = DNS([server.address], clock=clock, cache_size=3)
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


async def test_a_failure_for_which_nobody_waits_any_more_leaves_no_trace(
    dns: DNS, server: DNSServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.held["mx.example"], server.faults["mx.example"] = asyncio.Event(), Fault.SERVFAIL
    asker = asyncio.create_task(dns.query("mx.example", "A"))
    await server.wait_for(1)
    asker.cancel()
    await asyncio.wait([asker])
    server.held["mx.example"].set()
    await dns.query("www.example", "A")  # is answered behind it
    gc.collect()

    assert not caplog.records


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


async def test_a_place_is_left_to_the_next_however_many_wait_and_fail(
    server: DNSServer, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SOCKETS", 1)
    dns = DNS([server.address], clock=clock)
    server.held["mx.example"] = asyncio.Event()
    first = asyncio.create_task(dns.query("mx.example", "AAAA"))
    await server.wait_for(1)
    others = [asyncio.create_task(dns.query(f"{number}.example", "A")) for number in range(3000)]
    await asyncio.sleep(0)
    no_sockets = OSError("too many open files")
    with monkeypatch.context() as broken:
        broken.setattr("gatepost.services.dns.client.socket.socket", lambda *_: (_ for _ in ()).throw(no_sockets))
        server.held["mx.example"].set()
        outcomes = await asyncio.gather(*others, return_exceptions=True)

    assert await first == ("2001:db8::1",)
    assert {type(outcome) for outcome in outcomes} == {DNSTemporaryError}
    assert "too many open files" in str(outcomes[0])
    assert await dns.query("www.example", "AAAA") == ("2001:db8::1",)
    await dns.close()


async def test_who_waits_for_a_place_when_it_is_closed_gets_a_temporary_error(
    server: DNSServer, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SOCKETS", 1)
    dns = DNS([server.address], clock=clock)
    server.faults[""] = Fault.DROP
    askers = [asyncio.create_task(dns.query(name, "A")) for name in ("a.example", "b.example", "c.example")]
    await server.wait_for(1)
    await dns.close()

    for asker in askers:
        with pytest.raises(DNSTemporaryError, match="closed"):
            await asker
    assert len(server.received) == 1
    assert not await clock.jump()


@pytest.mark.parametrize("where", ["read_answer", "is_truncated", "is_answered"])
async def test_a_fault_of_our_own_is_told_to_who_asked_and_nothing_is_left_of_it(
    dns: DNS, server: DNSServer, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("our own")

    with monkeypatch.context() as broken:
        broken.setattr(module.Question if where == "is_answered" else module, where, fail)
        outcomes = await asyncio.gather(*(dns.query("mx.example", "AAAA") for _ in range(2)), return_exceptions=True)

    assert [str(outcome) for outcome in outcomes] == ["our own"] * 2
    assert len(server.received) == 1
    assert await dns.query("mx.example", "AAAA") == ("2001:db8::1",)


async def test_an_answer_that_does_not_come_over_tcp_is_asked_for_again(
    dns: DNS, server: DNSServer, clock: VirtualClock
) -> None:
    server.faults["big.example"] = Fault.TRUNCATE
    server.held["big.example"] = asyncio.Event()
    asker = asyncio.create_task(dns.query("big.example", "TXT"))
    await server.wait_for(1)
    server.held["big.example"].set()
    server.held["big.example"] = asyncio.Event()
    await server.wait_for(2)
    await clock.advance(2.5)
    server.held["big.example"].set()

    assert len(await asker) == 60
    assert [transport for *_, transport in server.received] == ["udp", "tcp", "udp", "tcp"]
    assert not await clock.jump()


async def test_an_answered_question_leaves_no_timer(dns: DNS, clock: VirtualClock) -> None:
    await dns.query("mx.example", "A")

    assert not await clock.jump()


async def test_closing_ends_all_questions(dns: DNS, server: DNSServer) -> None:
    await dns.query("www.example", "A")
    server.faults[""] = Fault.DROP
    askers = [asyncio.create_task(dns.query(name, "A")) for name in ("mx.example", "mx.example", "example")]
    await server.wait_for(3)
    await dns.close()

    for asker in askers:
        with pytest.raises(DNSTemporaryError):
            await asker
    with pytest.raises(DNSTemporaryError, match="closed"):
        await dns.query("www.example", "A")


async def test_who_has_just_asked_when_it_is_closed_gets_a_temporary_error(
    server: DNSServer, clock: VirtualClock
) -> None:
    dns = DNS([server.address], clock=clock)
    asking = asyncio.ensure_future(dns.query("mx.example", "A"))
    await asyncio.sleep(0)  # it has asked, and what is to find the answer has not begun
    await dns.close()

    with pytest.raises(DNSTemporaryError, match="closed"):
        await asking


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


async def test_a_name_is_verified_over_the_wire(dns: DNS, server: DNSServer) -> None:
    assert await dns.verified_name("192.0.2.1") == "mx.example"
    assert server.received == [("1.2.0.192.in-addr.arpa", "PTR", "udp"), ("mx.example", "A", "udp")]
