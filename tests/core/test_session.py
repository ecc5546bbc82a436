"""The methods that a session offers to plugins: work for later, the verified name, notes, trust."""

from __future__ import annotations

import asyncio
import datetime
import traceback
from typing import Any

import pytest

from gatepost import Address, Decision, DNSTemporaryError, Envelope, Later, Session, defer, deny, hookimpl, testing
from tests.core.gate.asking import at_data, policy_of
from tests.policy import Client, delivering, instance, saying, vouching

# Work for later.


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
    client.session._cancel_later()
    await asyncio.sleep(0.001)
    assert starts.handle.done
    with pytest.raises(asyncio.CancelledError):
        await starts.handle


async def test_a_plugin_that_is_late_because_of_its_work_does_not_end_the_work() -> None:
    starts = Starts(40, deny("listed"))
    policy = policy_of(instance(starts, on_error="pass"))
    client = await at_data(policy)
    assert (await client.say("DATA")).code == 354  # after 30 s
    await policy.clock.advance(20)
    assert await starts.handle == deny("listed")


async def test_an_error_that_is_taken_a_thousand_times_stays_small() -> None:
    async def fails() -> None:
        raise KeyError

    handle = Later(fails())
    for _ in range(1000):
        with pytest.raises(KeyError) as caught:
            await handle
    assert len(list(traceback.walk_tb(caught.value.__traceback__))) < 10


# The verified name.


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


class NamesLater:
    """Asks for the name at rcpt, like several plugins of one chain."""

    @hookimpl
    async def rcpt(self, session: Session) -> Decision | None:
        try:
            name = await session.verified_name()
        except DNSTemporaryError:
            return defer("who are you?")
        return deny(f"you are {name}")


@pytest.mark.parametrize("early", [True, False])
async def test_a_reverse_dns_that_does_not_answer_is_asked_once_a_session(early: bool) -> None:
    policy = policy_of(*([instance(NamesEarly(), on_error="pass")] if early else []), NamesLater())
    policy.dns.timeout(POINTER)
    client = await policy.connect("192.0.2.1")
    await client.ehlo()
    await client.mail()
    waited = []
    for _ in range(3):
        assert (await client.rcpt()).code == 450
        waited.append(client.waited)
    assert waited == [5, 0, 0]
    assert policy.dns.asked == [(POINTER, "PTR")]


async def test_a_name_that_cannot_be_confirmed_is_asked_for_once_a_session() -> None:
    policy = policy_of(NamesLater())
    policy.dns.answer(POINTER, "PTR", "mx.example.org")
    policy.dns.timeout("mx.example.org")
    client = await policy.connect("192.0.2.1")
    await client.ehlo()
    await client.mail()
    assert [((await client.rcpt()).code, client.waited) for _ in range(3)] == [(450, 5), (450, 0), (450, 0)]
    assert policy.dns.asked == [(POINTER, "PTR"), ("mx.example.org", "A")]


async def test_a_plugin_that_gives_up_leaves_the_look_up_to_the_next_one() -> None:
    policy = policy_of(instance(NamesLater(), time_limit=1, on_error="pass"), instance(NamesLater(), "patient"))
    policy.dns.name("192.0.2.1", "mx.example.org")
    policy.dns.delay(POINTER, 4)
    client = await policy.connect("192.0.2.1")
    await client.ehlo()
    await client.mail()
    assert "you are mx.example.org" in (await client.rcpt()).lines()[0]
    assert policy.dns.asked == [(POINTER, "PTR"), ("mx.example.org", "A")]


async def test_the_next_session_of_a_client_asks_again() -> None:
    policy = policy_of(NamesLater())
    policy.dns.servfail(POINTER)
    assert (await (await policy.connect("192.0.2.1")).transaction()).code == 450
    policy.dns.name("192.0.2.1", "mx.example.org")
    assert (await (await policy.connect("192.0.2.1")).transaction()).code == 550


async def test_a_name_that_dns_has_cached_is_not_looked_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(NamesEarly())
    policy.dns.name("192.0.2.1")
    monkeypatch.setattr(policy.dns, "known", lambda name, kind: () if (name, kind) == (POINTER, "PTR") else None)
    client = await policy.connect("192.0.2.1")
    await policy.clock.advance(1)
    assert policy.dns.asked == []
    await client.ehlo()
    await client.mail()
    assert "you are None" in (await client.rcpt()).lines()[0]


async def test_a_look_up_that_still_runs_at_disconnect_is_cancelled() -> None:
    policy = policy_of(NamesEarly())
    policy.dns.name("192.0.2.1", "mx.example.org")
    policy.dns.delay(POINTER, 2)
    client = await policy.connect("192.0.2.1")
    await policy.clock.advance(1)
    await client.close()
    await policy.clock.advance(2)
    assert policy.dns.asked == [(POINTER, "PTR")]


# Notes and trust.


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


async def test_trust_lapses_with_its_day() -> None:

    policy = policy_of()
    today = datetime.datetime.fromtimestamp(policy.clock.now(), datetime.UTC).date()
    session = Client(policy, "192.0.2.1").session
    session.trust("old", until=today - datetime.timedelta(days=1))
    assert not session.privileged
    session.trust("today", until=today)
    assert session.privileged


# Attributes are for reading.


class Assigns:
    """Sets an attribute of the session or the envelope at rcpt."""

    def __init__(self, holder: str, name: str, value: Any) -> None:
        self.holder, self.name, self.value = holder, name, value

    @hookimpl
    def rcpt(self, session: Session, envelope: Envelope) -> None:
        setattr(session if self.holder == "session" else envelope, self.name, self.value)


EVE = Address("eve", "elsewhere.example")
ASSIGNED: list[tuple[str, str, Any]] = [
    ("envelope", "recipients", (EVE,)),
    ("envelope", "sender", EVE),
    ("envelope", "trusted", "it looks nice"),
    ("envelope", "next_hop", "mail.elsewhere.example"),
    ("envelope", "message", None),
    ("envelope", "smtputf8", True),
    ("session", "may_relay", True),
    ("session", "trusted", "it looks nice"),
    ("session", "client", "127.0.0.1"),
    ("session", "helo", "mx.example.org"),
    ("session", "envelope", None),
    ("session", "early_talk", frozenset()),
]


@pytest.mark.parametrize(("holder", "name", "value"), ASSIGNED, ids=[f"{each[0]}-{each[1]}" for each in ASSIGNED])
@pytest.mark.parametrize("mode", ["enforce", "observe"])
async def test_a_plugin_that_assigns_to_an_attribute_fails_and_changes_nothing(
    holder: str, name: str, value: Any, mode: str
) -> None:
    policy = policy_of(instance(Assigns(holder, name, value), on_error="pass", mode=mode), vouching(), delivering())
    client = await policy.connect()
    await client.ehlo()
    await client.mail()
    before = getattr(client.session if holder == "session" else client.session.envelope, name)
    assert (await client.rcpt()).code == 250
    assert client.session.envelope is not None
    assert getattr(client.session if holder == "session" else client.session.envelope, name) == (
        (Address("b", "example.org"),) if name == "recipients" else before
    )
    (failed,) = policy.events.named("plugin_failed")
    assert str(failed["error"]).startswith("AttributeError: ") and f"'{name}' of '{holder.capitalize()}'" in str(failed)


async def test_what_an_observed_plugin_assigns_is_not_delivered() -> None:
    assigns = testing.instance(Assigns("envelope", "recipients", (EVE,)), mode="observe")
    policy = testing.Policy(assigns, failures="expected")
    assert (await (await policy.connect()).transaction()).code == 250
    assert [message.recipients for message in policy.next_hop.messages] == [("b@example.org",)]


# DNS lists


async def test_the_first_dns_list_that_names_a_client_is_kept_for_other_plugins() -> None:
    policy = policy_of(saying("connect", None))
    client = await policy.connect()
    assert client.session.listed == ""
    client.session.mark_listed("bl.example.net")
    client.session.mark_listed("other.example.net")
    assert client.session.listed == "bl.example.net"
