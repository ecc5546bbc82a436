"""To observe a plugin costs its waiting and nothing else, and a look-up that runs ahead writes nothing."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import suppress
from typing import Any

import pytest

from gatepost import Clock, Decision, Session, accept, defer, deny, hookimpl, points
from gatepost.errors import PluginError
from gatepost.gate.score import Score
from gatepost.write_guard import Observed, forbid_writes, may_write
from tests.core.gate.asking import ASKED, KINDS, Async, Plain, ask, policy_of, really_ask
from tests.policy import Client, Keeps, Policy, delivering, instance, saying, vouching

# The guard.


def test_who_is_not_observed_may_write() -> None:
    assert may_write("anything")


def test_what_an_observed_plugin_does_is_withheld_until_its_call_is_over() -> None:
    with Observed(()) as observed:
        assert not may_write("one")
        assert not may_write("two")
    assert may_write("three")
    assert observed.withheld == ("one", "two")


def test_an_observed_plugin_edits_lists_of_its_own() -> None:
    keywords, other = ["SIZE", "8BITMIME"], ("kept",)
    with Observed((keywords, other)) as observed:
        own, same = observed.arguments
        own.remove("SIZE")
        own.append("XTRA")
    assert keywords == ["SIZE", "8BITMIME"]
    assert same is other
    assert observed.withheld == ("add 'XTRA'", "remove 'SIZE'")


def test_a_call_that_fails_ends_the_observing_and_keeps_what_was_withheld() -> None:
    observed = Observed(())
    with suppress(ValueError), observed:
        may_write("one")
        raise ValueError("a fault")
    assert may_write("two")
    assert observed.withheld == ("one",)


def test_where_writes_are_forbidden_each_is_an_error() -> None:
    def look_up() -> None:
        forbid_writes()
        may_write("session.trust('me')")

    with pytest.raises(PluginError, match=r"must not write to the session: session\.trust\('me'\)"):
        contextvars.copy_context().run(look_up)
    assert may_write("anything")


# Observed plugins.


class Hanging:
    """Never answers at MAIL."""

    clock: Clock

    @hookimpl
    async def mail(self) -> None:
        await self.clock.sleep(1000)


class Waiting:
    """Waits at connect for longer than the phase has, without having said so."""

    @hookimpl
    async def connect(self, session: Session) -> None:
        await session.silence(45)


async def test_the_time_of_observed_plugins_is_not_taken_from_the_phase() -> None:
    """Two time limits of 30 s would use up the 60 s that MAIL has."""
    hanging = (Hanging(), Hanging())
    observed = [instance(each, f"hanging{place}", mode="observe") for place, each in enumerate(hanging)]
    policy = Policy(*observed, vouching(), delivering())
    for each in hanging:
        each.clock = policy.clock
    client = await policy.connect()
    assert (await client.transaction()).code == 250


async def test_an_observed_wait_at_connect_does_not_turn_the_client_away() -> None:
    policy = Policy(instance(Waiting(), "waiting", mode="observe"), vouching(), delivering())
    client = await policy.connect()
    assert client.banner.code == 220
    assert client.waited >= 45


async def test_an_observed_banner_is_recorded() -> None:
    observed = instance(saying("greeting", "mx.example.org says hello"), "polite", mode="observe")
    told: list[Any] = []
    told_of = instance(_Told(told), "told")
    client = await Policy(observed, told_of, vouching()).connect()
    assert client.banner.text == "mx.example.org ESMTP"
    (ruling,) = [ruling for ruling in told if ruling.phase == "greeting"]
    assert str(ruling.said[0].answer) == "accept mx.example.org says hello"


class _Told:
    """Keeps the rulings that it is told."""

    def __init__(self, told: list[Any]) -> None:
        self._told = told

    @hookimpl
    def ruled(self, ruling: Any) -> None:
        self._told.append(ruling)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", [deny("no"), defer("x", disconnect=True), accept(), points(50, "x")])
async def test_an_observed_answer_is_recorded_and_not_applied(kind: str, answer: Decision) -> None:
    policy = policy_of(instance(ASKED[kind](answer), "watched", mode="observe"), score=Score(None, 1))
    ruling = await really_ask(policy)
    assert ruling.decision is None
    assert ruling.remarkable
    said = ruling.said[0]
    assert (said.plugin, said.answer, said.observed) == ("watched", answer, True)


class Meddles:
    """Trusts everybody, edits every message, and offers and hides capabilities."""

    def trust(self, session: Session) -> None:
        session.trust("observed")

    @hookimpl
    def connect(self, session: Session) -> None:
        self.trust(session)

    @hookimpl(blocking=True)
    def helo(self, session: Session) -> None:
        self.trust(session)

    @hookimpl
    async def mail(self, session: Session, envelope: Any) -> None:
        await asyncio.sleep(0)
        self.trust(session)
        envelope.trust("observed")
        envelope.claim("elsewhere")

    @hookimpl
    def capabilities(self, keywords: list[str]) -> None:
        keywords.remove("8BITMIME")
        keywords.append("XTRA")

    @hookimpl
    def headers(self, message: Any) -> None:
        message.prepend("X-Meddled", "yes")

    @hookimpl
    async def message(self, message: Any) -> None:
        await asyncio.sleep(0)
        message.remove("Subject")


@pytest.mark.parametrize(("mode", "applied"), [("enforce", True), ("observe", False)])
async def test_trust_header_edits_and_capabilities_of_an_observed_plugin_are_recorded_and_not_applied(
    mode: str, applied: bool
) -> None:
    keeps = Keeps()
    policy = Policy(instance(Meddles(), "meddles", mode=mode), keeps)
    client = Client(policy, "192.0.2.1")
    await client.rehearsal.connect()
    hello = await client.rehearsal.say("EHLO x")
    await client.mail()
    envelope = client.session.envelope
    assert envelope is not None
    assert bool(client.session.trusted) == bool(envelope.trusted) == applied
    assert (b"XTRA" in hello.wire, b"8BITMIME" in hello.wire) == (applied, not applied)
    await client.rcpt()
    assert (await client.data()).code == 250
    assert (b"X-Meddled" in keeps.content, b"Subject:" in keeps.content) == (applied, not applied)
    assert b"Received:" in keeps.content
    withheld = [what for ruling in policy.events.records[-1].rulings for said in ruling.said for what in said.withheld]
    assert withheld == (
        []
        if applied
        else [
            "session.trust('observed')",
            "session.trust('observed')",
            "add 'XTRA'",
            "remove '8BITMIME'",
            "session.trust('observed')",
            "envelope.trust('observed')",
            "envelope.claim('elsewhere')",
            "message.prepend('X-Meddled')",
            "message.remove('Subject')",
        ]
    )


async def test_an_observed_plugin_that_fails_changes_nothing_and_is_recorded() -> None:
    policy = policy_of(instance(Plain(ValueError("x")), mode="observe"))
    ruling = await ask(policy)
    assert ruling.decision is None
    assert ruling.said[0].error.startswith("ValueError: x (")


async def test_waiting_of_an_observed_plugin_is_real() -> None:
    policy = policy_of(instance(Async(deny("no"), seconds=7), mode="observe"))
    assert (await ask(policy)).decision is None
    assert policy.clock.monotonic() == 7


async def test_a_client_that_leaves_in_the_midst_of_an_observed_plugin_leaves_no_trace_of_it() -> None:
    policy = policy_of(instance(Async(seconds=50), mode="observe"))

    async def asked_then_writing() -> bool:
        with suppress(asyncio.CancelledError):
            await really_ask(policy)
        return may_write("anything")

    task = asyncio.ensure_future(asked_then_writing())
    await asyncio.sleep(0)
    task.cancel()
    assert await task
