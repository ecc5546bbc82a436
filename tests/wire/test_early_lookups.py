"""Look-ups start in the last seconds of the wait for the greeting, through a real socket."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost import Decision, Session, defer, hookimpl
from gatepost.doors.pregreet import Pregreet
from gatepost.services.store.memory import MemoryBackend
from gatepost.services.virtual_clock import VirtualClock
from gatepost.testing.dns import ScriptedDNS
from gatepost_builtin.connection.dnsbl import Dnsbl, DnsblOptions
from gatepost_builtin.connection.earlytalker import Earlytalker, EarlytalkerOptions
from gatepost_builtin.envelope.greylist import Greylist, GreylistOptions
from tests.door import Deaf, live, until
from tests.policy import Policy, instance, vouching

POINTER = "1.0.0.127.in-addr.arpa"
LISTED = "1.0.0.127.bl.example.net"


def policy(*others: Any, delay: float = 6, looks_up: bool = False) -> Policy:
    """A policy that makes its clients wait, and then asks a DNS list and reverse DNS about them, or ``others``."""
    clock = VirtualClock()
    dns = ScriptedDNS(clock, lenient=True)
    stores = MemoryBackend(clock)
    plugins = [instance(Earlytalker(EarlytalkerOptions(delay=delay), stores.namespace("earlytalker"), clock, Deaf()))]
    if looks_up:
        lists = DnsblOptions(zones={"bl.example.net": 1}, ask_private=True)
        plugins += [
            instance(Dnsbl(lists, dns, Deaf()), "dnsbl"),
            instance(Greylist(GreylistOptions(), stores.namespace("greylist"), clock), "greylist"),
        ]
    rules = Policy(*plugins, *others, vouching(), clock=clock, resolver=dns)
    rules.dns = dns
    return rules


class Trusts:
    @hookimpl
    def connect(self, session: Session) -> None:
        session.trust("our branch")


class Early:
    """Starts something early, and does more than it may."""

    skip_trusted = True

    def __init__(self) -> None:
        self.calls: list[str] = []

    @hookimpl(early=True)
    def connect(self, session: Session) -> Decision | None:
        self.calls.append(session.trusted)
        session.trust("no reason")
        return defer("too early to say") if len(self.calls) == 1 else None


class Failing:
    @hookimpl(early=True)
    def connect(self) -> None:
        raise ZeroDivisionError


async def test_they_start_three_seconds_before_the_greeting_and_are_there_at_rcpt() -> None:
    rules = policy(looks_up=True)
    for name in (POINTER, LISTED):
        rules.dns.delay(name, 2.9)
    rules.dns.answer(LISTED, "A", "127.0.0.2")
    async with live(rules) as door:
        wire = await door.connect()
        await until(lambda: door.listener.connected)
        await rules.clock.advance(2.9)
        assert rules.dns.asked == []
        await rules.clock.advance(0.1)
        await until(lambda: rules.dns.asked == [(LISTED, "A"), (POINTER, "PTR")])
        await rules.clock.advance(2.9)
        await rules.clock.advance(0.1)
        assert (await wire.reply()).startswith(b"220 ")
        for line in (b"EHLO x", b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>"):
            wire.send(line + b"\r\n")
            reply = await wire.reply()
        # The virtual clock stands still: what had to be waited for would never come.
        assert reply.startswith(b"550 5.7.1 127.0.0.1 is listed by bl.example.net [")
        await until(lambda: rules.dns.asked == [(LISTED, "A"), (POINTER, "PTR")])


@pytest.mark.parametrize(("delay", "start"), [(6, 3), (4, 2), (60, 57)])
async def test_they_take_at_most_half_of_the_wait(delay: float, start: float) -> None:
    rules = policy(delay=delay, looks_up=True)
    async with live(rules) as door:
        wire = await door.connect()
        await until(lambda: door.listener.connected)
        await rules.clock.advance(start - 0.1)
        assert rules.dns.asked == []
        await rules.clock.advance(0.1)
        await until(lambda: rules.dns.asked == [(LISTED, "A"), (POINTER, "PTR")])
        await rules.clock.advance(delay - start - 0.1)
        assert isinstance(door.client, Pregreet)
        await rules.clock.advance(0.1)
        assert (await wire.reply()).startswith(b"220 ")


async def test_a_client_that_talks_or_leaves_before_costs_no_question() -> None:
    rules = policy(looks_up=True)
    async with live(rules) as door:
        wire = await door.connect()
        await until(lambda: door.listener.connected)
        await rules.clock.advance(2.9)
        wire.send(b"EHLO x\r\n")
        assert (await wire.rest()).startswith(b"554 5.5.1 ")
        leaving = await door.connect()
        await until(lambda: door.listener.connected)
        await rules.clock.advance(2.9)
        await leaving.close()
        await until(lambda: not door.listener.connected)
        await rules.clock.advance(60)
    assert rules.dns.asked == []


async def test_a_client_that_is_not_held_is_looked_up_at_once() -> None:
    rules = policy(looks_up=True)
    async with live(rules) as door:
        wire = await door.connect()
        await until(lambda: door.listener.connected)
        await rules.clock.advance(3)
        await rules.clock.advance(3)
        assert (await wire.reply()).startswith(b"220 ")
        rules.dns.asked.clear()
        again = await door.connect()
        assert (await again.reply()).startswith(b"220 ")
        await until(lambda: rules.dns.asked == [(LISTED, "A"), (POINTER, "PTR")])


async def test_a_trusted_client_is_not_looked_up_early() -> None:
    early = Early()
    rules = policy(Trusts(), instance(Earlytalking(), "waits"), early, delay=0)
    async with live(rules) as door:
        wire = await door.connect()
        await until(lambda: door.listener.connected)
        await rules.clock.advance(10)
        assert (await wire.reply()).startswith(b"220 ")
    assert early.calls == []


class Earlytalking:
    """Makes every client wait, trusted or not."""

    longest_wait = 10.0

    @hookimpl
    async def connect(self, session: Session) -> None:
        await session.silence(10)


async def test_the_early_call_decides_nothing_and_writes_nothing() -> None:
    early = Early()
    rules = policy(instance(Earlytalking(), "waits"), early, delay=0)
    async with live(rules) as door:
        wire = await door.connect()
        await until(lambda: door.listener.connected)
        await rules.clock.advance(7)
        client = door.client
        assert early.calls == [""]
        assert client.session.trusted == ""
        await rules.clock.advance(3)
        assert (await wire.reply()).startswith(b"220 ")
        # At its turn it is called as usual; "no reason" would stand here if the early call had counted.
        assert early.calls == ["", ""]


async def test_an_early_call_that_fails_is_logged_and_the_client_still_waits_and_is_greeted() -> None:
    rules = policy(instance(Failing(), "failing", on_error="pass"))
    async with live(rules) as door:
        wire = await door.connect()
        await until(lambda: door.listener.connected)
        await rules.clock.advance(3)
        assert [facts["plugin"] for facts in rules.events.named("plugin_failed")] == ["failing"]
        await rules.clock.advance(3)
        assert (await wire.reply()).startswith(b"220 ")


async def test_a_plugin_whose_circuit_is_open_is_not_called_early() -> None:
    early = Early()
    broken = instance(early, "early", on_error="pass")
    rules = policy(broken)
    for _ in range(5):
        broken.circuit.failed(rules.clock.monotonic())
    async with live(rules) as door:
        await door.connect()
        await until(lambda: door.listener.connected)
        await rules.clock.advance(3)
        assert early.calls == []
