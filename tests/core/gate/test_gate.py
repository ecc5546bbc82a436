"""The gate asks in the configured order, and nobody after the one who decides."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest

from gatepost import Address, Decision, Session, accept, defer, deny, hookimpl, points
from gatepost.rulings import Ruling
from tests.core.gate.asking import ASKED, KINDS, Ahead, Asked, Async, Plain, ask, at_data, names, policy_of, really_ask
from tests.policy import MESSAGE, Client, Policy, instance, saying, vouching


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


async def test_a_message_is_taken_when_nobody_says_anything() -> None:
    client = await policy_of().connect()
    assert (await client.transaction(content=MESSAGE)).code == 250


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
    conversation.after_reply()
    assert told == [("helo", "observed"), ("data", "deny no")]


# The fast path.


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
    assert [said.error.partition(" (")[0] for said in ruling.said] == ["ValueError: x", "", ""]
    assert (ruling.decision, ruling.unasked) == (deny("no"), ("p3",))


async def test_what_an_observed_plugin_answers_or_withholds_stands_in_the_log_and_its_silence_does_not() -> None:
    class Trusts:
        @hookimpl
        async def helo(self, session: Session) -> None:
            session.trust("known")

    policy = Policy(
        instance(saying("helo", None), "silent", mode="observe"),
        instance(Trusts(), "trusts", mode="observe"),
        instance(saying("helo", deny("forged")), "spf", mode="observe"),
        vouching(),
    )
    client = await policy.connect("192.0.2.7")
    await client.ehlo()
    told = policy.events.named("observed")
    assert [(facts["plugin"], facts["phase"], facts["client"]) for facts in told] == [
        ("trusts", "helo", "192.0.2.7"),
        ("spf", "helo", "192.0.2.7"),
    ]
    assert "trust" in told[0]["answer"]
    assert told[1]["answer"] == "deny forged"
