"""The gate asks in the configured order, overlaps what may overlap, and lets no plugin do more than its part."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from gatepost import Address, Decision, DNSTemporaryError, Later, Session, accept, defer, deny, hookimpl, points
from gatepost.concurrency.deadlines import abandon
from gatepost.gate.chain import BUDGET, BUDGETS, CONNECT_SLACK
from gatepost.gate.instance import FAILURES_TO_OPEN, OPEN_SECONDS
from gatepost.gate.score import Score
from gatepost.ids import new_id
from gatepost.rulings import Ruling, Said
from gatepost.write_guard import may_write
from tests.policy import MESSAGE, Client, Policy, delivering, instance, saying, vouching

KINDS = ["plain", "async", "ahead", "blocking"]


class Asked:
    """A plugin that waits, does something, writes down that it was asked, and answers or raises."""

    clock: Any

    def __init__(
        self,
        answer: Any = None,
        *,
        seconds: float = 0.0,
        does: Callable[[Session], object] | None = None,
        log: list[str] | None = None,
        name: str = "",
    ) -> None:
        self.answer = answer
        self.seconds = seconds
        self.does = does
        self.log: list[str] = [] if log is None else log
        self.name = name
        self.cancelled = False

    def say(self, session: Session) -> Any:
        self.log.append(self.name)
        if self.does is not None:
            self.does(session)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def wait_and_say(self, session: Session) -> Any:
        try:
            await (self.clock.sleep(self.seconds) if self.seconds else asyncio.sleep(0))
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.say(session)


class Plain(Asked):
    @hookimpl
    def data(self, session: Session) -> Any:
        return self.say(session)


class Async(Asked):
    @hookimpl
    async def data(self, session: Session) -> Any:
        return await self.wait_and_say(session)


class Ahead(Asked):
    @hookimpl(ahead=True)
    async def data(self, session: Session) -> Any:
        return await self.wait_and_say(session)


class Blocking(Asked):
    @hookimpl(blocking=True)
    def data(self, session: Session) -> Any:
        return self.say(session)


ASKED: dict[str, type[Asked]] = {"plain": Plain, "async": Async, "ahead": Ahead, "blocking": Blocking}


def policy_of(*plugins: Any, **how: Any) -> Policy:
    """A policy over ``plugins``, named in their order, that takes every message."""
    named = [
        plugin if not isinstance(plugin, Asked) else instance(plugin, plugin.name or f"p{number}")
        for number, plugin in enumerate(plugins)
    ]
    policy = Policy(*named, vouching(), delivering(), **how)
    for made in policy.gate.instances:
        made.plugin.clock = policy.clock
    return policy


async def at_data(policy: Policy) -> Client:
    """A client whose recipient was accepted, and that may now say DATA."""
    client = await policy.connect()
    await client.ehlo()
    await client.mail()
    assert (await client.rcpt()).code == 250
    return client


async def ask(policy: Policy, phase: str = "data", client: Client | None = None) -> Ruling:
    """Ask one phase directly, moving the clock when everybody waits."""
    client = client or Client(policy, "192.0.2.1")
    arguments = {"data": (client.session, client.session.envelope), "connect": (client.session,)}[phase]
    ruling: Ruling = await client.wait_for(policy.gate.ask(phase, arguments, client.session, client.session.envelope))
    return ruling


async def really_ask(policy: Policy) -> Ruling:
    """The same while threads are at work, which the virtual clock does not know of."""
    session = Client(policy, "192.0.2.1").session
    return await policy.gate.ask("data", (session, None), session)


def names(ruling: Ruling) -> list[str]:
    return [said.plugin for said in ruling.said]


# Order.


@pytest.mark.parametrize("kinds", [KINDS, KINDS[::-1], ["blocking", "ahead", "plain", "async"]])
async def test_plugins_are_asked_in_the_configured_order_whatever_their_kind(kinds: list[str]) -> None:
    log: list[str] = []
    policy = policy_of(*(ASKED[kind](log=log, name=kind) for kind in kinds))
    ruling = await really_ask(policy)
    assert names(ruling) == list(policy.gate.order("data")) == kinds
    assert [name for name in log if name != "ahead"] == [kind for kind in kinds if kind != "ahead"]
    assert sorted(log) == sorted(kinds)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", [deny("no"), defer("later"), accept()])
async def test_nobody_is_asked_after_the_one_who_decides(kind: str, answer: Decision) -> None:
    last = Plain(deny("never said"))
    policy = policy_of(Plain(), ASKED[kind](answer), last)
    ruling = await really_ask(policy)
    assert (ruling.decision, ruling.plugin, ruling.unasked) == (answer, "p1", ("p2",))
    assert last.log == []


async def test_a_hook_gets_the_arguments_that_it_names_in_the_order_in_which_it_names_them() -> None:
    got: dict[str, object] = {}

    class Picky:
        @hookimpl
        def rcpt(self, recipient: Address, session: Session, parameters: object = None) -> None:
            got.update(recipient=recipient, session=session, parameters=parameters)

        @hookimpl
        def data(self) -> None:
            got["data"] = True

        @hookimpl(specname="mail")
        def whatever(self, sender: Address) -> None:
            got["sender"] = sender

    client = await at_data(policy_of(Picky()))
    await client.say("DATA")
    assert got == {
        "recipient": Address("b", "example.org"),
        "session": client.session,
        "parameters": {},
        "data": True,
        "sender": Address("a", "example.com"),
    }


async def test_a_plain_def_that_returns_something_to_wait_for_is_awaited_within_its_limit() -> None:
    class Wrapped(Asked):
        @hookimpl
        def data(self, session: Session) -> Any:
            return self.wait_and_say(session)

    assert (await ask(policy_of(Wrapped(deny("no"), seconds=3)))).decision == deny("no")
    slow = policy_of(Wrapped(deny("no"), seconds=1000))
    ruling = await ask(slow)
    assert ruling.fault
    assert 30 <= slow.clock.monotonic() <= 32
    assert slow.events.named("stall") == []


# Looking ahead.


async def test_look_ups_ahead_overlap_with_each_other_and_with_what_stands_before_them() -> None:
    policy = policy_of(Async(seconds=3), Ahead(seconds=4), Ahead(seconds=5), Ahead(seconds=2))
    ruling = await ask(policy)
    assert not ruling.refuses
    assert policy.clock.monotonic() == 5


async def test_the_answer_of_a_look_up_ahead_counts_at_its_turn_however_early_it_comes() -> None:
    policy = policy_of(Async(defer("first"), seconds=4), Ahead(deny("second"), seconds=1))
    assert (await ask(policy)).decision == defer("first")


async def test_what_a_decided_phase_no_longer_needs_is_cancelled() -> None:
    slow = Ahead(seconds=50)
    policy = policy_of(Async(deny("no"), seconds=1), slow)
    await ask(policy)
    assert policy.clock.monotonic() == 1
    await asyncio.sleep(0)
    assert slow.cancelled
    assert policy.gate.instances[1].circuit.closed


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_an_error_of_a_look_up_that_nobody_takes_makes_no_noise(error: BaseException) -> None:
    noise: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: noise.append(context))
    policy = policy_of(Async(deny("no"), seconds=2), Ahead(error, seconds=1))
    assert (await ask(policy)).decision == deny("no")
    del policy
    gc.collect()
    await asyncio.sleep(0)
    assert noise == []


@pytest.mark.parametrize("first", [Plain, Async])
async def test_a_look_up_ahead_sees_the_session_as_at_the_start_of_the_phase(first: type[Asked]) -> None:
    seen: list[str] = []

    class Looks:
        @hookimpl(ahead=True)
        async def data(self, session: Session) -> None:
            seen.append(session.trusted)

    await ask(policy_of(first(does=lambda session: session.trust("network")), Looks()))
    assert seen == [""]


@pytest.mark.parametrize("on_error", ["defer", "pass"])
async def test_a_look_up_ahead_must_not_write_to_the_session(on_error: str) -> None:
    policy = policy_of(instance(Ahead(does=lambda session: session.trust("me")), on_error=on_error))
    client = Client(policy, "192.0.2.1")
    ruling = await ask(policy, client=client)
    assert client.session.trusted == ""
    assert "must not write" in ruling.said[0].error
    assert ruling.fault == (on_error == "defer")


async def test_the_time_limit_of_a_look_up_ahead_counts_from_the_start_of_the_phase() -> None:
    policy = policy_of(Async(seconds=4), instance(Ahead(seconds=100), time_limit=5.0))
    ruling = await ask(policy)
    assert ruling.said[1].error == "no answer within 5 s"
    assert 5 <= policy.clock.monotonic() <= 6


@pytest.mark.parametrize("before", [0, 20])
async def test_an_answer_after_the_limit_does_not_count_even_if_it_is_there_at_its_turn(before: float) -> None:
    policy = policy_of(Async(seconds=before), instance(Ahead(deny("late"), seconds=5.5), time_limit=5.0))
    ruling = await ask(policy)
    assert (ruling.fault, ruling.said[1].error) == (True, "no answer within 5 s")


async def test_who_became_trusted_meanwhile_is_asked_again_at_the_turn_of_a_look_up() -> None:
    class Skippable(Ahead):
        skip_trusted = True

    look_up = Skippable(deny("no"), seconds=1)
    policy = policy_of(Async(seconds=3, does=lambda session: session.trust("network")), instance(look_up))
    ruling = await ask(policy)
    assert ruling.decision is None
    assert ruling.said[1].skipped == "trusted"


# Settling later.


class Starts:
    """Starts work at connect and takes it at data."""

    def __init__(self, seconds: float, result: Any, on_error: str = "defer") -> None:
        self.seconds, self.result, self.on_error = seconds, result, on_error
        self.clock: Any
        self.handle: Later[Any]
        self.cancelled = False

    async def work(self) -> Any:
        try:
            await self.clock.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    @hookimpl
    def connect(self, session: Session) -> None:
        self.handle = session.later(self.work())

    @hookimpl
    async def data(self) -> Any:
        assert await self.handle is await self.handle
        return await self.handle


async def test_work_for_later_runs_while_the_session_goes_on_and_is_taken_in_a_later_phase() -> None:
    starts = Starts(5, deny("listed"))
    policy = policy_of(starts)
    client = await policy.connect()
    assert client.waited == 0
    await client.ehlo()
    await client.mail()
    await client.rcpt()
    assert "listed" in (await client.say("DATA")).lines()[0]
    assert client.waited == 5
    assert starts.handle.done


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
@pytest.mark.parametrize(("on_error", "code"), [("defer", 451), ("pass", 354)])
async def test_an_error_of_work_for_later_counts_where_it_is_taken(
    error: BaseException, on_error: str, code: int
) -> None:
    client = await at_data(policy_of(Starts(5, error, on_error)))
    await client.policy.clock.advance(10)
    assert (await client.say("DATA")).code == code


async def test_work_that_nobody_takes_is_cancelled_at_disconnect() -> None:
    starts = Starts(500, None)
    client = await policy_of(starts).connect()
    await client.close()
    await asyncio.sleep(0)
    assert starts.cancelled


async def test_work_that_never_began_is_closed_without_a_word() -> None:
    starts = Starts(500, None)
    client = Client(policy_of(starts), "192.0.2.1")
    starts.connect(client.session)
    client.session.cancel_later()
    await asyncio.sleep(0.001)
    assert starts.handle.done
    with pytest.raises(asyncio.CancelledError):
        await starts.handle


POINTER = "1.2.0.192.in-addr.arpa"


class NamesEarly:
    """Looks up the client's name from the connection on, and wants to know it at rcpt."""

    @hookimpl
    def connect(self, session: Session) -> None:
        session.look_up_name()

    @hookimpl
    async def rcpt(self, session: Session) -> Decision | None:
        return deny(f"you are {await session.verified_name()}")


async def test_a_name_that_is_looked_up_early_is_there_when_it_is_asked_for() -> None:
    policy = policy_of(NamesEarly())
    policy.dns.name("192.0.2.1", "mx.example.org")
    policy.dns.delay(POINTER, 2)
    client = await policy.connect("192.0.2.1")
    await client.ehlo()
    await client.mail()
    assert client.waited == 0
    await policy.clock.advance(2)
    assert "you are mx.example.org" in (await client.rcpt()).lines()[0]
    assert client.waited == 0
    assert policy.dns.asked == [(POINTER, "PTR"), ("mx.example.org", "A")]


async def test_a_name_that_could_not_be_looked_up_early_is_asked_for_once_more() -> None:
    policy = policy_of(NamesEarly())
    policy.dns.servfail(POINTER)
    client = await policy.connect("192.0.2.1")
    await policy.clock.advance(1)
    policy.dns.name("192.0.2.1", "mx.example.org")
    policy.dns.answer(POINTER, "PTR", "mx.example.org")
    await client.ehlo()
    await client.mail()
    assert "you are mx.example.org" in (await client.rcpt()).lines()[0]


async def test_nobody_is_asked_early_for_what_dns_has_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(NamesEarly())
    policy.dns.name("192.0.2.1")
    monkeypatch.setattr(policy.dns, "known", lambda name, kind: () if (name, kind) == (POINTER, "PTR") else None)
    client = await policy.connect("192.0.2.1")
    await policy.clock.advance(1)
    assert policy.dns.asked == []
    await client.ehlo()
    await client.mail()
    assert "you are None" in (await client.rcpt()).lines()[0]


async def test_a_name_that_is_still_looked_up_at_disconnect_is_let_go() -> None:
    policy = policy_of(NamesEarly())
    policy.dns.name("192.0.2.1", "mx.example.org")
    policy.dns.delay(POINTER, 2)
    client = await policy.connect("192.0.2.1")
    await policy.clock.advance(1)
    await client.close()
    await policy.clock.advance(2)
    assert policy.dns.asked == [(POINTER, "PTR")]


async def test_a_time_out_of_who_takes_the_work_does_not_end_the_work() -> None:
    starts = Starts(40, deny("listed"))
    policy = policy_of(instance(starts, on_error="pass"))
    client = await at_data(policy)
    assert (await client.say("DATA")).code == 354  # after 30 s
    await policy.clock.advance(20)
    assert await starts.handle == deny("listed")


# Notes.


async def test_notes_belong_to_one_plugin_in_one_session_or_transaction() -> None:
    one, two = saying("data", None), saying("data", None)
    policy = policy_of(one, two)
    client, other = await at_data(policy), await at_data(policy)
    session, envelope = client.session, client.session.envelope
    assert envelope is not None
    session.notes(one)["seen"] = 1
    envelope.notes(one)["seen"] = 2
    assert session.notes(one) == {"seen": 1}
    assert envelope.notes(one) == {"seen": 2}
    assert session.notes(two) == envelope.notes(two) == other.session.notes(one) == {}
    await client.say("RSET")
    await client.mail()
    assert client.session.envelope is not None
    assert client.session.envelope.notes(one) == {}


# Points.


async def recipient_reply(*plugins: Any, deny_at: float = 3.0, defer_at: float | None = None, **how: Any) -> str:
    """What a recipient is told by a policy with a score."""
    client = await Policy(*plugins, vouching(), score=Score(defer_at, deny_at), **how).connect()
    await client.ehlo()
    await client.mail()
    return (await client.rcpt()).wire.decode()


@pytest.mark.parametrize("phase", ["connect", "helo", "mail", "rcpt"])
@pytest.mark.parametrize(("number", "start"), [(3, "550 5.7.1 score 3: x (+3)"), (2.5, "250"), (-5, "250")])
async def test_points_of_every_phase_count_at_rcpt(phase: str, number: float, start: str) -> None:
    assert (await recipient_reply(saying(phase, points(number, "x")))).startswith(start)


async def test_points_of_all_scopes_add_up_and_defer_comes_before_deny() -> None:
    plugins = [saying(phase, points(1, "same reason")) for phase in ("connect", "helo", "mail", "rcpt")]
    assert (await recipient_reply(*plugins, deny_at=4)).startswith("550 5.7.1 score 4: ")
    assert (await recipient_reply(*plugins, deny_at=5, defer_at=4)).startswith("450 4.7.1 score 4: ")
    assert (await recipient_reply(*plugins, deny_at=5)).startswith("250 ")


async def test_a_reason_counts_once_in_each_scope_and_not_once_in_all() -> None:
    class Both:
        @hookimpl
        def connect(self) -> Decision:
            return points(2, "listed")

        @hookimpl
        def mail(self) -> Decision:
            return points(1, "listed")

    assert (await recipient_reply(Both(), deny_at=3)).startswith("550 ")


async def test_the_same_reason_of_the_same_plugin_counts_once_in_its_scope() -> None:
    plugin = saying("rcpt", points(2, "x"))
    client = await Policy(plugin, vouching(), score=Score(None, 3)).connect()
    await client.ehlo()
    await client.mail()
    assert [(await client.rcpt()).code for _ in range(3)] == [250, 250, 250]


async def test_points_of_helo_are_replaced_at_the_next_helo_and_those_of_mail_end_with_the_transaction() -> None:
    class ByName:
        @hookimpl
        def helo(self, hostname: str) -> Decision | None:
            return points(3, "bad name") if hostname == "bad" else None

        @hookimpl
        def mail(self, sender: Address) -> Decision | None:
            return points(3, "bad sender") if sender.local == "bad" else None

    client = await Policy(ByName(), vouching(), score=Score(None, 3)).connect()
    codes = []
    for helo, sender in [("bad", "good"), ("good", "good"), ("good", "bad"), ("good", "good")]:
        await client.ehlo(helo)
        await client.mail(f"{sender}@example.com")
        codes.append((await client.rcpt()).code)
    assert codes == [550, 250, 550, 250]


async def test_points_of_a_recipient_count_for_it_alone() -> None:
    class ByRecipient:
        @hookimpl
        def rcpt(self, recipient: Address) -> Decision | None:
            return points(3, "trap") if recipient.local == "trap" else None

    client = await Policy(ByRecipient(), vouching(), delivering(), score=Score(None, 3)).connect()
    await client.ehlo()
    await client.mail()
    assert [(await client.rcpt(f"{name}@example.org")).code for name in ("b", "trap", "c")] == [250, 550, 250]
    assert (await client.data()).code == 250


@pytest.mark.parametrize("phase", ["data", "headers", "message"])
async def test_points_of_the_message_are_ruled_at_its_end_and_an_accept_does_not_override_them(phase: str) -> None:
    accepting = saying("message", accept())
    order = [saying(phase, points(3, "x")), accepting]
    client = await Policy(*order, vouching(), delivering(), score=Score(None, 3)).connect()
    reply = await client.transaction()
    assert reply.wire.startswith(b"550 5.7.1 score 3: x (+3) [")
    assert (await client.transaction()).code == 550


async def test_trusted_and_relaying_clients_are_not_scored() -> None:
    bad = saying("connect", points(9, "x"))
    trusting = Asked(does=lambda session: session.trust("network"))
    trusting_plugin = type("Trusts", (), {"connect": hookimpl(lambda self, session: trusting.say(session))})()
    assert (await recipient_reply(bad)).startswith("550")
    assert (await recipient_reply(bad, trusting_plugin)).startswith("250")
    client = await Policy(bad, vouching(), score=Score(None, 3)).connect()
    client.session.may_relay = True
    await client.ehlo()
    await client.mail()
    assert (await client.rcpt()).code == 250


async def test_without_a_score_points_only_stand_in_the_record() -> None:
    client = await Policy(saying("rcpt", points(99, "x")), vouching(), delivering()).connect()
    assert (await client.transaction()).code == 250
    assert not client.session.scored
    said = [said for ruling in client.policy.events.records[-1].rulings for said in ruling.said]
    assert points(99, "x") in [each.answer for each in said]


# Trust.


class Skipped:
    skip_trusted = True

    @hookimpl
    def rcpt(self) -> Decision:
        return deny("strangers only")


async def test_who_is_trusted_is_not_asked_for_by_plugins_that_skip_it() -> None:
    client = await at_data(policy_of(saying("rcpt", None)))
    assert client.session.envelope is not None
    policy = policy_of(Skipped())
    client = await policy.connect()
    await client.ehlo()
    await client.mail()
    assert (await client.rcpt("one@example.org")).code == 550
    assert client.session.envelope is not None
    client.session.envelope.trust("friend", Address("one", "example.org"))
    assert (await client.rcpt("one@example.org")).code == 250
    assert (await client.rcpt("two@example.org")).code == 550
    client.session.envelope.trust("known sender")
    assert (await client.rcpt("two@example.org")).code == 250
    await client.say("RSET")
    await client.mail()
    assert (await client.rcpt("two@example.org")).code == 550
    client.session.trust("network")
    assert (await client.rcpt("two@example.org")).code == 250


async def test_trust_lapses_with_its_day() -> None:
    import datetime

    policy = policy_of()
    today = datetime.datetime.fromtimestamp(policy.clock.now(), datetime.UTC).date()
    session = Client(policy, "192.0.2.1").session
    session.trust("old", until=today - datetime.timedelta(days=1))
    assert not session.privileged
    session.trust("today", until=today)
    assert session.privileged


# Mode.


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

    def trusts(self, session: Session) -> None:
        session.trust("observed")

    @hookimpl
    def connect(self, session: Session) -> None:
        self.trusts(session)

    @hookimpl(blocking=True)
    def helo(self, session: Session) -> None:
        self.trusts(session)

    @hookimpl
    async def mail(self, session: Session, envelope: Any) -> None:
        await asyncio.sleep(0)
        self.trusts(session)
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


class Keeps:
    """Takes a message and keeps what it says."""

    grants = ("recipients", "delivery")

    def __init__(self) -> None:
        self.content = b""

    @hookimpl
    def rcpt(self) -> Decision:
        return accept()

    @hookimpl
    def queue(self, message: Any) -> Decision:
        self.content = b"".join(message.blocks())
        return accept()


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
    assert ruling.said[0].error == "ValueError: x"


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


async def test_a_plugin_that_is_off_is_not_asked() -> None:
    plugin = Plain(deny("no"))
    policy = policy_of(instance(plugin, mode="off"))
    assert (await ask(policy)).decision is None
    assert plugin.log == []
    assert policy.gate.order("data") == ()


async def test_a_plugin_takes_part_only_in_the_phases_that_the_configuration_names() -> None:
    class Everywhere:
        @hookimpl
        def helo(self) -> Decision:
            return deny("helo")

        @hookimpl
        def data(self) -> Decision:
            return deny("data")

    client = await at_data(policy_of(instance(Everywhere(), phases=frozenset({"data"}))))
    assert "data" in (await client.say("DATA")).lines()[0]


# Time.


@pytest.mark.parametrize("kind", [Async, Ahead])
@pytest.mark.parametrize(("on_error", "code"), [("defer", 451), ("pass", 354)])
async def test_a_call_over_its_time_limit_counts_as_an_error(kind: type[Asked], on_error: str, code: int) -> None:
    policy = policy_of(instance(kind(deny("no"), seconds=100), time_limit=5.0, on_error=on_error))
    client = await at_data(policy)
    assert (await client.say("DATA")).code == code
    assert 5 <= client.waited <= 6
    assert policy.events.named("plugin_failed")[0]["error"] == "no answer within 5 s"


async def test_a_blocking_call_over_its_time_limit_counts_as_an_error() -> None:
    release = threading.Event()
    policy = policy_of(Blocking(deny("no"), does=lambda session: release.wait(20)))
    task = asyncio.ensure_future(really_ask(policy))
    await policy.clock.advance(31)
    ruling = await task
    release.set()
    assert ruling.fault
    assert ruling.said[0].error == "no answer within 30 s"


class Stubborn:
    """Swallows its cancellation, and does not hurry afterwards."""

    clock: Any

    def __init__(self, *, raises: bool = False, again: float = 0.0) -> None:
        self.raises, self.again = raises, again

    @hookimpl
    async def data(self) -> Decision:
        try:
            await self.clock.sleep(1000)
        except asyncio.CancelledError:
            await self.clock.sleep(self.again)
            if self.raises:
                raise ValueError("was cancelled") from None
        return deny("too late")


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("again", [0.0, 0.5])
async def test_a_plugin_that_swallows_its_cancellation_has_not_answered(raises: bool, again: float) -> None:
    after = Async(deny("after"), seconds=3)
    policy = policy_of(instance(Stubborn(raises=raises, again=again), on_error="pass"), after)
    ruling = await ask(policy)
    assert ruling.said[0].error == "no answer within 30 s"
    assert ruling.decision == deny("after")


async def test_a_plugin_that_cleans_up_for_long_is_cancelled_again_and_the_session_goes_on() -> None:
    policy = policy_of(instance(Stubborn(again=100), on_error="pass"), Plain(deny("after")))
    ruling = await ask(policy)
    assert ruling.decision == deny("after")
    assert policy.clock.monotonic() < 40
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_time_in_silence_does_not_count() -> None:
    class Waits:
        longest_wait = 50.0

        def __init__(self) -> None:
            self.heard: bool | None = None

        @hookimpl
        async def connect(self, session: Session) -> None:
            self.heard = await session.silence(50)

    waits = Waits()
    client = await policy_of(instance(waits, time_limit=5.0)).connect()
    assert (client.banner.code, client.waited, waits.heard) == (220, 50, True)


@pytest.mark.parametrize(
    ("phase", "longest_wait", "budget"),
    [("data", 0.0, BUDGET), ("connect", 0.0, CONNECT_SLACK), ("connect", 40.0, 40 + CONNECT_SLACK)],
)
async def test_a_phase_over_its_budget_is_451_though_every_plugin_would_let_it_pass(
    phase: str, longest_wait: float, budget: float
) -> None:
    class Slow:
        on_error = "pass"
        clock: Any

        def __init__(self) -> None:
            self.longest_wait = longest_wait

        async def wait(self) -> None:
            await self.clock.sleep(25)

        @hookimpl
        async def connect(self) -> None:
            await self.wait()

        @hookimpl
        async def data(self) -> None:
            await self.wait()

    policy = policy_of(*(instance(Slow(), f"slow{number}") for number in range(5)))
    ruling = await ask(policy, phase)
    assert (ruling.fault, ruling.plugin) == (True, "gatepost")
    assert budget <= policy.clock.monotonic() <= budget + 1
    assert ruling.unasked


async def test_the_message_has_120_seconds_and_the_hand_over_no_limit() -> None:
    class Slow:
        clock: Any
        on_error = "pass"

        @hookimpl
        async def message(self) -> None:
            await self.clock.sleep(25)

    class SlowDelivery:
        grants = "delivery"
        clock: Any

        @hookimpl
        async def queue(self) -> Decision:
            await self.clock.sleep(900)
            return accept("at last")

    policy = Policy(*(instance(Slow(), f"slow{number}") for number in range(4)), vouching(), SlowDelivery())
    for made in policy.gate.instances:
        made.plugin.clock = policy.clock
    client = await policy.connect()
    assert "at last" in (await client.transaction()).lines()[0]
    assert client.waited == 1000
    assert BUDGETS["message"] == 120.0
    over = Policy(*(instance(Slow(), f"slow{number}") for number in range(6)), vouching(), delivering())
    for made in over.gate.instances:
        made.plugin.clock = over.clock
    client = await over.connect()
    assert (await client.transaction()).wire.startswith(b"451 4.3.0 local error")
    assert 120 <= client.waited <= 121


async def test_many_sessions_wait_at_the_same_time_each_within_its_own_limit() -> None:
    class ByClient:
        clock: Any

        @hookimpl
        async def data(self, session: Session) -> Decision:
            await self.clock.sleep(float(session.client.rpartition(".")[2]))
            return deny("in time")

    policy = policy_of(ByClient())
    sessions = [Client(policy, f"192.0.2.{number}").session for number in range(1, 61)]
    tasks = [asyncio.ensure_future(policy.gate.ask("data", (session, None), session, None)) for session in sessions]
    await policy.clock.advance(100)
    rulings = [task.result() for task in tasks]
    assert [ruling.fault for ruling in rulings] == [number >= 30 for number in range(1, 61)]


# Errors.

WRONG = [True, 5, "text", b"octets", [deny("no")], (deny("no"),), {}, {"x": deny("no")}, object(), Decision]
ERRORS: list[Any] = [
    ValueError("secret text"),
    ConnectionResetError(104, "reset"),
    TimeoutError(),
    SystemExit(1),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    StopIteration(),
    RecursionError(),
    MemoryError(),
    *WRONG,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize(("on_error", "code"), [("defer", 451), ("pass", 354)])
async def test_an_error_or_a_wrong_return_value_is_never_accept_and_never_permanent(
    kind: str, error: Any, on_error: str, code: int
) -> None:
    asked_after = Plain()
    policy = policy_of(instance(ASKED[kind](error), "bad", on_error=on_error), instance(asked_after, "after"))
    client = await at_data(policy)
    reply = await client.rehearsal.say("DATA")
    assert reply.code == code
    assert asked_after.log == ([""] if on_error == "pass" else [])
    failed = policy.events.named("plugin_failed")
    assert (failed[0]["plugin"], failed[0]["phase"]) == ("bad", "data")
    if code == 451:
        assert reply.wire.decode() == f"451 4.3.0 local error, try again later [{failed[0]['id']}]\r\n"


@pytest.mark.parametrize("phase", ["rcpt", "queue"])
@pytest.mark.parametrize("on_error", ["defer", "pass"])
async def test_an_accept_without_the_grant_is_an_error_of_that_plugin(phase: str, on_error: str) -> None:
    others = {"rcpt": delivering(), "queue": vouching()}[phase]
    policy = Policy(instance(saying(phase, accept(), grants="logins"), on_error=on_error), others)
    client = await policy.connect()
    reply = await client.transaction()
    assert 400 <= reply.code < 500
    assert policy.events.named("plugin_failed")[0]["error"] == f"accepted at {phase} without the grant"


async def test_an_error_in_a_phase_in_which_all_run_stops_nobody() -> None:
    log: list[str] = []

    class Notes:
        @hookimpl
        def reset(self) -> None:
            log.append("reset")

        @hookimpl
        async def disconnect(self) -> None:
            log.append("disconnect")

    bad = [saying(phase, error) for phase in ("reset", "disconnect", "quit") for error in (ValueError(), SystemExit())]
    client = await policy_of(*bad, Notes()).connect()
    await client.transaction()
    assert (await client.say("QUIT")).code == 221
    await client.close()
    assert log == ["reset", "disconnect"]


# The circuit.


async def test_after_five_failures_in_a_row_a_plugin_is_not_asked_until_a_trial_30_seconds_later() -> None:
    plugin = Plain(ValueError("x"))
    policy = policy_of(instance(plugin, "bad"))
    for _ in range(FAILURES_TO_OPEN):
        assert (await ask(policy)).fault
    assert [facts["plugin"] for facts in policy.events.named("circuit_opened")] == ["bad"]
    ruling = await ask(policy)
    assert (ruling.fault, ruling.said[0].skipped) == (True, "circuit open")
    assert len(plugin.log) == FAILURES_TO_OPEN

    await policy.clock.advance(OPEN_SECONDS)
    await ask(policy)  # the trial fails
    assert (await ask(policy)).said[0].skipped == "circuit open"
    assert len(plugin.log) == FAILURES_TO_OPEN + 1

    await policy.clock.advance(OPEN_SECONDS)
    plugin.answer = deny("well again")
    assert (await ask(policy)).decision == deny("well again")
    assert (await ask(policy)).decision == deny("well again")
    assert len(policy.events.named("circuit_closed")) == 1
    assert len(policy.events.named("circuit_opened")) == 1


@pytest.mark.parametrize("kind", ["async", "ahead", "plain"])
async def test_an_open_circuit_counts_as_on_error_says(kind: str) -> None:
    policy = policy_of(instance(ASKED[kind](ValueError()), on_error="pass"), Plain(deny("next")))
    for _ in range(FAILURES_TO_OPEN + 1):
        assert (await ask(policy)).decision == deny("next")
    assert (await ask(policy)).said[0].skipped == "circuit open"


async def test_a_success_between_failures_keeps_the_circuit_closed() -> None:
    plugin = Plain()
    policy = policy_of(instance(plugin, on_error="pass"))
    for number in range(4 * FAILURES_TO_OPEN):
        plugin.answer = ValueError() if number % FAILURES_TO_OPEN else None
        await ask(policy)
    assert len(plugin.log) == 4 * FAILURES_TO_OPEN


@pytest.mark.parametrize("kind", [Async, Ahead])
async def test_only_one_client_makes_the_trial_and_may_leave_in_the_midst_of_it(kind: type[Asked]) -> None:
    plugin = kind(ValueError())
    policy = policy_of(instance(plugin, on_error="pass"))
    for _ in range(FAILURES_TO_OPEN):
        await ask(policy)
    await policy.clock.advance(OPEN_SECONDS)
    plugin.answer, plugin.seconds = deny("x"), 5
    trial = asyncio.ensure_future(really_ask(policy))
    await policy.clock.advance(0)
    assert (await really_ask(policy)).said[0].skipped == "circuit open"
    trial.cancel()
    await asyncio.wait([trial])
    assert (await ask(policy)).decision == deny("x")


# Stalls.


async def test_a_plain_def_that_stalls_the_loop_is_named() -> None:
    def stall(session: Session) -> None:
        end = time.perf_counter() + 0.12
        while time.perf_counter() < end:
            pass

    policy = policy_of(instance(Plain(does=stall), "slow"), instance(Blocking(does=stall), "thread"))
    await really_ask(policy)
    stalls = policy.events.named("stall")
    assert [facts["plugin"] for facts in stalls] == ["slow"]
    assert float(str(stalls[0]["seconds"])) >= 0.12


async def test_an_error_that_is_taken_a_thousand_times_stays_small() -> None:
    async def fails() -> None:
        raise KeyError

    handle = Later(fails())
    for _ in range(1000):
        with pytest.raises(KeyError) as caught:
            await handle
    assert len(list(traceback.walk_tb(caught.value.__traceback__))) < 10


# A client that leaves.


@pytest.mark.parametrize("kind", [Async, Ahead])
async def test_a_client_that_leaves_cancels_the_phase_without_a_ruling(kind: type[Asked]) -> None:
    first, second = kind(seconds=20), Ahead(seconds=25)
    policy = policy_of(first, second)
    session = Client(policy, "192.0.2.1").session
    task = asyncio.ensure_future(policy.gate.ask("data", (session, None), session))
    await policy.clock.advance(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert first.cancelled and second.cancelled
    assert policy.events.events == []
    assert session._watch is None
    assert all(made.circuit.closed for made in policy.gate.instances)


async def test_a_client_that_leaves_is_noticed_although_a_plugin_swallows_the_cancellation() -> None:
    after = Plain()
    policy = policy_of(Stubborn(), after)
    task = asyncio.ensure_future(really_ask(policy))
    await policy.clock.advance(5)
    abandon(task)
    await policy.clock.advance(1)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert after.log == []


@pytest.mark.parametrize("handled", [False, True])
async def test_a_plugin_whose_task_group_fails_does_not_make_its_client_leave(handled: bool) -> None:
    """Before Python 3.13 a TaskGroup that waits for a task that fails leaves a cancellation behind."""

    class Groups:
        @hookimpl
        async def data(self) -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.fails())
            except* ValueError:
                if not handled:
                    raise

        async def fails(self) -> None:
            raise ValueError

    policy = policy_of(instance(Groups(), on_error="pass"), Async(deny("after")))
    ruling = await ask(policy)
    assert ruling.decision == deny("after")
    assert bool(ruling.said[0].error) is not handled
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("sweep_first", [False, True])
async def test_a_client_that_leaves_as_the_time_is_up_has_left(sweep_first: bool) -> None:
    policy = policy_of(instance(Async(seconds=100), on_error="pass"))
    session = Client(policy, "192.0.2.1").session
    task = asyncio.ensure_future(policy.gate.ask("data", (session, None), session))
    await policy.clock.advance(29)
    assert session._watch is not None
    policy.clock._elapsed += 5
    if sweep_first:
        policy.gate.deadlines._sweep()
    task.cancel()
    if not sweep_first:
        policy.gate.deadlines._sweep()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_phases_that_run_after_the_client_has_left_keep_their_limits() -> None:
    """A door may run ``disconnect`` in the very task that was cancelled."""
    log: list[str] = []

    class Cleans(Asked):
        @hookimpl
        async def disconnect(self, session: Session) -> None:
            log.append("begun")
            await self.wait_and_say(session)

    policy = policy_of(Cleans(seconds=100), Cleans(seconds=1, log=log, name="done"))
    client = Client(policy, "192.0.2.1")

    async def door() -> None:
        try:
            await policy.clock.sleep(1000)
        finally:
            await client.rehearsal.close()

    task = asyncio.ensure_future(door())
    await asyncio.sleep(0)
    task.cancel()
    await policy.clock.advance(60)
    assert log == ["begun", "begun", "done"]
    assert policy.events.named("plugin_failed")[0]["error"] == "no answer within 30 s"


# Rulings and records.


async def test_ruled_is_told_after_the_reply_of_every_ruling_that_decided_or_observed_something() -> None:
    told: list[tuple[str, str]] = []

    class Tells:
        @hookimpl
        def ruled(self, session: Session, ruling: Ruling) -> None:
            told.append((ruling.phase, str(ruling.decision) if ruling.decision else "observed"))

    class Fails:
        @hookimpl
        def ruled(self) -> None:
            raise SystemExit

    observed = instance(saying("helo", points(1, "x")), "observed", mode="observe")
    policy = Policy(observed, saying("mail", None), Fails(), Tells(), vouching(), saying("data", deny("no")))
    client = await policy.connect()
    conversation = client.rehearsal.conversation
    await client.ehlo()
    await client.mail()
    await client.rcpt()
    assert told == [("helo", "observed")]
    await conversation.command(b"DATA")
    assert told == [("helo", "observed")]
    conversation.replied()
    assert told == [("helo", "observed"), ("data", "deny no")]


async def test_the_record_says_who_was_asked_what_each_said_and_what_else_would_have_been() -> None:
    policy = policy_of(
        instance(Plain(), "silent"),
        instance(Plain(deny("seen")), "watched", mode="observe"),
        instance(Plain(ValueError("x"), name="bad"), "bad", on_error="pass"),
        instance(Plain(points(1, "odd")), "scorer"),
        instance(Plain(deny("no")), "decider"),
        instance(Plain(), "unasked"),
    )
    client = await at_data(policy)
    reply = await client.say("DATA")
    record = next(record for record in policy.events.records if record.event == "refused")
    assert reply.lines()[-1].endswith(f"[{record.id}]")
    assert (record.client, record.helo, record.sender) == ("192.0.2.1", "client.example.com", "a@example.com")
    assert (record.recipients, record.phase, record.plugin) == (("b@example.org",), "data", "decider")
    facts = record.facts()["rulings"]
    assert isinstance(facts, list)
    ruling = facts[-1]
    assert [(said["plugin"], said["answer"], said["observed"]) for said in ruling["said"]] == [
        ("silent", "no opinion", False),
        ("watched", "deny seen", True),
        ("bad", "ValueError: x", False),
        ("scorer", "points +1: odd", False),
        ("decider", "deny no", False),
    ]
    assert ruling["outcome"] == "deny no"
    assert ruling["unasked"] == ["unasked"]
    assert ruling["otherwise"] == "unknown: unasked would have been asked"


async def test_what_a_delivery_said_of_each_recipient_stands_in_the_record() -> None:
    class Mixed:
        grants = "delivery"

        @hookimpl
        def queue(self, envelope: Any) -> dict[Address, Decision]:
            return {recipient: accept("ok") for recipient in envelope.pending}

    policy = Policy(vouching(), Mixed())
    client = await policy.connect()
    await client.transaction()
    said = policy.events.records[-1].rulings[-1].said[0]
    assert str(said) == "<b@example.org> accept ok"


def test_ids_are_ten_characters_that_sort_by_time_and_never_repeat() -> None:
    ids = [new_id() for _ in range(2000)]
    assert ids == sorted(set(ids))
    assert {len(text) for text in ids} == {10}
    assert set("".join(ids)) <= set("0123456789abcdefghjkmnpqrstvwxyz")


def test_two_rulings_that_say_the_same_are_two() -> None:
    assert Ruling("data") != Ruling("data")


def test_what_was_said_shows_who_said_it() -> None:
    assert repr(Said("x", deny("no"))) == "Said('x', 'deny no')"


async def test_a_message_is_taken_when_nobody_says_anything() -> None:
    client = await policy_of().connect()
    assert (await client.transaction(content=MESSAGE)).code == 250


async def test_whom_a_plugin_trusts_stands_in_the_record() -> None:
    class Trusting:
        @hookimpl
        def connect(self, session: Any) -> None:
            session.trust("our branch")

        @hookimpl
        def mail(self, envelope: Any) -> None:
            envelope.trust("a friend")

    policy = policy_of(instance(Trusting(), "access"))
    client = await policy.connect()
    await client.transaction()
    said = {ruling.phase: str(ruling.said[0]) for record in policy.events.records for ruling in record.rulings}
    assert said["connect"] == "no opinion; trusts the client: our branch"
    assert said["mail"] == "no opinion; trusts the sender: a friend"


async def test_names_that_nobody_answers_for_do_not_open_a_circuit() -> None:
    """A stranger chooses them, and could so switch off what would refuse it."""
    looking = saying("data", DNSTemporaryError("SERVFAIL"), on_error="pass")
    policy = policy_of(instance(looking, "looking"))
    for _ in range(7):
        ruling = await ask(policy)
        assert ruling.said[0].error.startswith("DNSTemporaryError")
    assert not policy.events.named("circuit_opened")


# Beginning to ask.


def begin(policy: Policy) -> Ruling | Coroutine[Any, Any, Ruling]:
    session = Client(policy, "192.0.2.1").session
    return policy.gate.begin("data", (session, None), session)


class AtOnce(Asked):
    """An ``async def`` that never waits."""

    @hookimpl
    async def data(self, session: Session) -> Any:
        return self.say(session)


class Handing(AtOnce):
    """A plain ``def`` that gives a coroutine, which never waits."""

    @hookimpl
    def data(self, session: Session) -> Coroutine[Any, Any, Any]:
        return super().data(session)


@pytest.mark.parametrize("kind", [AtOnce, Handing])
async def test_a_phase_in_which_nobody_waits_is_ruled_at_once(kind: type[Asked]) -> None:
    policy = policy_of(Plain(), kind(), Plain(points(1, "odd")), kind(deny("no")), Plain())
    ruling = begin(policy)
    assert isinstance(ruling, Ruling)
    assert (ruling.decision, ruling.plugin, ruling.unasked) == (deny("no"), "p3", ("p4",))
    assert names(ruling) == ["p0", "p1", "p2", "p3"]


@pytest.mark.parametrize("kind", [Async, Ahead])
async def test_where_somebody_waits_the_rest_is_asked_when_that_is_awaited(kind: type[Asked]) -> None:
    first, last = Plain(), Plain(deny("no"))
    policy = policy_of(first, kind(), last)
    asked = begin(policy)
    assert not isinstance(asked, Ruling)
    assert last.log == []
    ruling = await asked
    assert names(ruling) == ["p0", "p1", "p2"]
    assert ruling.decision == deny("no")
    assert (len(first.log), len(last.log)) == (1, 1)
    assert ruling.seconds >= 0.99 * sum(said.seconds for said in ruling.said) > 0


async def test_after_a_failure_the_rest_is_asked_and_the_time_of_all_is_counted() -> None:
    policy = policy_of(instance(Plain(ValueError("x")), "bad", on_error="pass"), Plain(), Plain(deny("no")), Plain())
    asked = begin(policy)
    assert not isinstance(asked, Ruling)
    ruling = await asked
    assert [said.error for said in ruling.said] == ["ValueError: x", "", ""]
    assert (ruling.decision, ruling.unasked) == (deny("no"), ("p3",))
