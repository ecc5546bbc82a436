"""Queries in flight: who waits for which, deadlines, slots, and the end."""

from __future__ import annotations

import asyncio
import gc

import pytest

from gatepost.errors import DNSTemporaryError
from gatepost.services.clock import SystemClock
from gatepost.services.dns import client as module
from gatepost.services.dns.client import DNS
from gatepost.services.virtual_clock import VirtualClock
from tests.peers.dns_server import DNSServer, Fault


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


@pytest.mark.patches
async def test_queries_beyond_the_number_of_slots_wait_in_their_own_time(
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


@pytest.mark.patches
async def test_a_slot_is_passed_to_the_next_however_many_wait_and_fail(
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


@pytest.mark.patches
async def test_a_query_that_waits_for_a_slot_when_it_is_closed_gets_a_temporary_error(
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


@pytest.mark.patches
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
