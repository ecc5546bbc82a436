"""The record says who was asked, what each said and did; an accept needs a grant where it would do harm."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost import Address, Decision, accept, deny, hookimpl, points
from tests.core.gate.asking import Plain, at_data, policy_of
from tests.policy import Policy, delivering, instance, saying, vouching


@pytest.mark.parametrize("phase", ["rcpt", "queue"])
@pytest.mark.parametrize("on_error", ["defer", "pass"])
async def test_an_accept_without_the_grant_is_an_error_of_that_plugin(phase: str, on_error: str) -> None:
    others = {"rcpt": delivering(), "queue": vouching()}[phase]
    policy = Policy(instance(saying(phase, accept(), grants="logins"), on_error=on_error), others)
    client = await policy.connect()
    reply = await client.transaction()
    assert 400 <= reply.code < 500
    assert policy.events.named("plugin_failed")[0]["error"] == f"accepted at {phase} without the grant"


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
    answers = [(said["plugin"], said["answer"].partition(" (")[0], said["observed"]) for said in ruling["said"]]
    assert answers == [
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
