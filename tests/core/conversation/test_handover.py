"""One answer for all recipients: 250 only when responsibility was taken for every one of them."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from gatepost import Address, Decision, Receipt, accept, defer, deny, hookimpl, points
from tests.core.conversation.deliveries import LATER, NEVER, TAKEN, Scripted, policy_of, send
from tests.policy import Client, Policy, delivering, instance, saying, vouching

# One answer for all.


@pytest.mark.parametrize(
    ("one", "two", "start"),
    [
        (TAKEN, TAKEN, "250 2.0.0 queued as "),
        (TAKEN, LATER, "451 4.3.0 some recipients are to be tried again: mailbox busy ["),
        (TAKEN, NEVER, "451 4.3.0 some recipients are to be tried again: no such mailbox ["),
        (NEVER, TAKEN, "451 4.3.0 some recipients are to be tried again: no such mailbox ["),
        (TAKEN, None, "451 4.3.0 nobody took the message"),
        (LATER, LATER, "451 4.3.0 mailbox busy ["),
        (LATER, NEVER, "451 4.3.0 some recipients are to be tried again: mailbox busy ["),
        (NEVER, LATER, "451 4.3.0 some recipients are to be tried again: mailbox busy ["),
        (LATER, None, "451 4.3.0 some recipients"),
        (NEVER, NEVER, "550 5.1.1 no such mailbox ["),
        (NEVER, deny("full"), "554 5.1.1 refused for <one@example.org>: no such mailbox; <two@example.org>: full ["),
        (NEVER, None, "451 4.3.0 nobody took the message"),
        (None, None, "451 4.3.0 nobody took the message"),
        (defer("busy", disconnect=True), TAKEN, "421 4.7.0 some recipients"),
    ],
)
async def test_mixed_answers_become_one(one: Decision | None, two: Decision | None, start: str) -> None:
    script = {name: answer for name, answer in (("one", one), ("two", two)) if answer is not None}
    policy = policy_of(Scripted(script))
    reply = await send(policy, "one", "two")
    assert reply.wire.decode().startswith(start)
    if reply.code != 250:
        assert reply.lines()[-1].endswith(f"[{policy.events.records[0].id}]")


async def test_one_answer_stands_for_all_who_are_pending() -> None:
    assert (await send(policy_of(saying("queue", TAKEN, grants="delivery")), "one", "two")).code == 250
    assert (await send(policy_of(saying("queue", NEVER)), "one", "two")).wire.startswith(b"550 5.1.1 no such mailbox")
    assert (await send(policy_of(), "one")).wire.startswith(b"451 4.3.0 nobody took")


async def test_each_delivery_is_given_what_nobody_has_answered_for() -> None:
    first, second = Scripted({"one": TAKEN}), Scripted({"two": accept("also taken"), "one": NEVER})
    policy = policy_of(first, second, saying("queue", deny("not asked")))
    reply = await send(policy, "one", "two")
    assert (first.asked, second.asked) == ([["one", "two"]], [["two"]])
    assert "taken; also taken" in reply.lines()[0]
    assert policy.events.records[0].plugin == "d0"


@pytest.mark.parametrize("earlier", [TAKEN, LATER, NEVER])
@pytest.mark.parametrize("later", [TAKEN, NEVER, {"one": TAKEN, "two": TAKEN}, {"one": NEVER, "two": TAKEN}])
async def test_a_later_delivery_plugin_does_not_overwrite_an_earlier_ones_answers(
    earlier: Decision, later: Decision | dict[str, Decision]
) -> None:
    class Later:
        grants = "delivery"

        @hookimpl
        def queue(self, envelope: Any) -> Any:
            if isinstance(later, Decision):
                return later
            return {each: later[each.local] for each in envelope.recipients}

    answers: dict[str, tuple[str, Decision]] = {}

    class Notes:
        @hookimpl
        def reset(self, envelope: Any) -> None:
            answers.update({each.local: said for each, said in envelope._answers.items()})

    await send(policy_of(Scripted({"one": earlier}), Later(), Notes()), "one", "two")
    assert answers["one"] == ("d0", earlier)
    assert answers["two"] == ("d1", later if isinstance(later, Decision) else TAKEN)


ONE, TWO = Address("one", "example.org"), Address("two", "example.org")


@pytest.mark.parametrize(
    "answers",
    [{ONE: TAKEN, TWO: TAKEN}, {TWO: TAKEN}, {ONE: NEVER, TWO: TAKEN}, {ONE: LATER, TWO: TAKEN}],
)
async def test_a_delivery_plugin_without_the_grant_that_returns_a_mapping_with_accept_takes_nothing(
    answers: dict[Address, Decision],
) -> None:
    policy = policy_of(saying("queue", answers))
    assert (await send(policy, "one", "two")).wire.startswith(b"451 4.3.0 local error")
    assert policy.events.named("plugin_failed")[0]["error"] == "accepted at queue without the grant"
    # Its error passed over, the next one is asked about all: none of the answers counted.
    failing = instance(saying("queue", answers), "failing", on_error="pass")
    after = Policy(vouching(), failing, instance(delivery := Scripted({"one": TAKEN, "two": TAKEN}), "after"))
    assert (await send(after, "one", "two")).code == 250
    assert delivery.asked == [["one", "two"]]


async def test_one_without_the_grant_may_refuse_some_of_the_recipients() -> None:
    policy = policy_of(saying("queue", {TWO: NEVER}), delivery := Scripted({"one": LATER}))
    assert (await send(policy, "one", "two")).code == 451
    assert delivery.asked == [["one"]]
    assert not policy.events.named("plugin_failed")


@pytest.mark.parametrize("answers", [{ONE: points(1, "odd")}, {ONE: TAKEN, TWO: points(-1, "known")}])
async def test_points_for_a_recipient_are_an_error_of_the_plugin(answers: dict[Address, Decision]) -> None:
    policy = policy_of(saying("queue", answers, grants="delivery"))
    assert (await send(policy, "one", "two")).wire.startswith(b"451 4.3.0 local error")
    assert policy.events.named("plugin_failed")[0]["error"] == "answered for a recipient with points"


async def test_points_for_all_take_nothing() -> None:
    policy = policy_of(saying("queue", points(1, "odd"), grants="delivery"), delivery := Scripted({"one": TAKEN}))
    assert (await send(policy, "one")).code == 250
    assert delivery.asked == [["one"]]


async def test_an_answer_for_somebody_who_is_not_pending_means_nothing() -> None:
    class Confused:
        grants = "delivery"

        @hookimpl
        def queue(self) -> dict[Address, Decision]:
            return {Address("stranger", "example.net"): accept()}

    assert (await send(policy_of(Confused(), saying("queue", LATER)), "one")).wire.startswith(b"451 4.3.0 mailbox busy")


@pytest.mark.parametrize(
    "answer",
    [
        {"one@example.org": TAKEN},
        {Address("one", "example.org"): None},
        {Address("one", "example.org"): {Address("one", "example.org"): TAKEN}},
        {Address("one", "example.org"): True},
    ],
)
async def test_an_answer_of_queue_that_is_not_a_mapping_is_an_error_of_the_plugin(answer: Any) -> None:
    policy = policy_of(saying("queue", answer, grants="delivery"))
    assert (await send(policy, "one")).wire.startswith(b"451 4.3.0 local error")
    assert len(policy.events.named("plugin_failed")) == 1


async def test_the_receipt_names_who_took_it_and_what_the_client_was_told() -> None:
    receipts: list[Receipt] = []

    class Notes:
        @hookimpl
        def queued(self, receipt: Receipt) -> None:
            receipts.append(receipt)

    policy = policy_of(Scripted({"one": accept("queued as 4ABC")}), Scripted({"two": accept("stored")}), Notes())
    reply = await send(policy, "one", "two")
    (receipt,) = receipts
    assert receipt.plugins == ("d0", "d1")
    assert receipt.text == reply.lines()[0] == f"queued as {receipt.id}: queued as 4ABC; stored"
    assert policy.events.records[0].id == receipt.id
    assert copy.copy(receipt) == pickle.loads(pickle.dumps(receipt)) == receipt


async def test_without_recipients_that_are_taken_nothing_is_left_behind() -> None:
    policy = Policy(vouching(), delivering())
    client: Client = await policy.connect()
    assert (await client.transaction()).code == 250
    assert client.session.envelope is None
    assert not policy.runtime.is_busy


async def test_the_record_says_how_long_the_hand_over_took_and_not_the_session() -> None:
    policy = policy_of(delivering())
    client = await policy.connect()
    await policy.clock.advance(60)
    await client.transaction()
    (accepted,) = [record for record in policy.events.records if record.event == "accepted"]
    assert accepted.seconds == accepted.rulings[-1].seconds < 60
    await client.close()
    assert policy.events.records[-1].seconds >= 60


class Forgets:
    """Loses the recipients, as no plugin should."""

    @hookimpl
    def message(self, envelope: Any) -> None:
        envelope._recipients = ()


async def test_a_message_for_nobody_is_never_said_to_be_queued() -> None:
    assert (await send(policy_of(Forgets(), delivering()), "b")).code == 451
