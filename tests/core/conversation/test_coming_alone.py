"""One full mailbox does not have a message bounced for all: its recipient comes alone the next time."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost import Decision, accept, defer, deny
from tests.core.conversation.deliveries import LATER, NEVER, TAKEN, Scripted, policy_of, send
from tests.core.conversation.test_taken import watched
from tests.policy import MESSAGE, Policy

FULL = deny("mailbox full", 552, "5.2.2")
FULL_NOW = defer("mailbox full", 452, "4.2.2")
ALONE = "452 4.5.3 send to this recipient in a transaction of its own\r\n"


async def replies_to(
    policy: Policy, *recipients: str, sender: str = "a@example.com", content: bytes = MESSAGE
) -> list[str]:
    """Send to ``recipients`` from a session of its own: the replies to each RCPT and to the message."""
    client = await policy.connect()
    await client.ehlo()
    await client.mail(sender)
    replies = [await client.rcpt(f"{recipient}@example.org") for recipient in recipients]
    replies.append(await client.data(content))
    await client.close()
    return [reply.wire.decode() for reply in replies]


async def test_one_full_mailbox_makes_451_once_and_then_bounces_for_its_own_recipient_only() -> None:
    delivery = Scripted({"one": TAKEN, "two": FULL, "three": TAKEN}, {"two": FULL})
    policy = policy_of(delivery)
    assert (await send(policy, "one", "two", "three")).code == 451
    first, second, third, last = await replies_to(policy, "one", "two", "three")
    assert (first[:9], second, third[:9]) == ("250 2.1.5", ALONE, "250 2.1.5")
    assert last.startswith("250 2.0.0 ")  # from the marks: nobody was asked
    assert (await replies_to(policy, "two"))[-1].startswith("552 5.2.2 mailbox full [")
    assert delivery.asked == [["one", "two", "three"], ["two"]]


async def test_when_it_is_the_first_the_others_are_sent_away_instead() -> None:
    delivery = Scripted({"one": TAKEN, "two": FULL}, {"two": FULL})
    policy = policy_of(delivery)
    await send(policy, "two", "one")
    first, second, last = await replies_to(policy, "two", "one")
    assert (first[:9], second) == ("250 2.1.5", ALONE)
    assert last.startswith("552 5.2.2 mailbox full [")
    assert (await replies_to(policy, "one"))[-1].startswith("250 2.0.0 ")
    assert delivery.asked == [["two", "one"], ["two"]]


async def test_a_remembered_refusal_is_never_spoken_to_a_message_whose_content_was_not_seen() -> None:
    delivery = Scripted({"one": TAKEN, "two": FULL}, {"two": TAKEN}, {"one": TAKEN, "two": TAKEN})
    policy = policy_of(delivery)
    await send(policy, "one", "two")
    assert (await replies_to(policy, "two", content=b"small\r\n"))[-1].startswith("250 2.0.0 ")
    # It has its final answer, so it comes with the others again.
    replies = await replies_to(policy, "one", "two", content=b"other\r\n")
    assert [reply[:9] for reply in replies] == ["250 2.1.5", "250 2.1.5", "250 2.0.0"]


async def test_a_mailbox_that_is_full_for_the_time_being_comes_alone_until_it_has_its_final_answer() -> None:
    delivery = Scripted({"one": TAKEN, "two": FULL_NOW}, {"two": FULL_NOW}, {"two": TAKEN})
    policy = policy_of(delivery)
    assert (await send(policy, "one", "two")).code == 451
    _, second, last = await replies_to(policy, "one", "two")
    assert (second, last[:9]) == (ALONE, "250 2.0.0")
    assert (await replies_to(policy, "two"))[-1].startswith("452 4.2.2 mailbox full [")
    assert (await replies_to(policy, "three", "two"))[1] == ALONE
    assert (await replies_to(policy, "two"))[-1].startswith("250 2.0.0 ")
    assert delivery.taken == ["one", "two"]


@pytest.mark.parametrize(
    "later",
    [LATER, defer("the connection was lost", 451, "4.4.2"), defer("greylisted", 450, "4.7.1"), defer("busy", 451)],
)
async def test_a_temporary_refusal_that_is_not_about_the_mailbox_sets_nobody_apart(later: Decision) -> None:
    delivery = Scripted({"one": TAKEN, "two": later}, {"two": TAKEN})
    policy = policy_of(delivery)
    await send(policy, "one", "two")
    assert [reply[:3] for reply in await replies_to(policy, "one", "two")] == ["250", "250", "250"]


@pytest.mark.parametrize("about", [defer("no", 450), defer("no", 452, "4.0.0"), defer("no", 451, "4.1.1")])
async def test_one_that_is_about_the_mailbox_does(about: Decision) -> None:
    policy = policy_of(Scripted({"one": TAKEN, "two": about}))
    await send(policy, "one", "two")
    assert (await replies_to(policy, "one", "two"))[1] == ALONE


@pytest.mark.parametrize(
    "answers",
    [
        {"one": FULL, "two": NEVER},
        {"one": FULL_NOW, "two": FULL_NOW},
        {"one": FULL_NOW, "two": LATER},
        {"one": accept(), "two": accept()},
    ],
)
async def test_where_all_share_a_fate_nobody_comes_alone(answers: dict[str, Decision]) -> None:
    policy = policy_of(Scripted(answers))
    await send(policy, "one", "two")
    assert [reply[:3] for reply in (await replies_to(policy, "one", "two"))[:2]] == ["250", "250"]


async def test_where_nobody_was_taken_only_those_refused_for_good_come_alone() -> None:
    policy = policy_of(Scripted({"one": FULL_NOW, "two": NEVER, "three": LATER}))
    assert (await send(policy, "one", "two", "three")).code == 451
    first, second, third, _ = await replies_to(policy, "one", "two", "three")
    assert (first[:3], second, third[:3]) == ("250", ALONE, "250")


async def test_mail_of_another_sender_is_not_divided() -> None:
    policy = policy_of(Scripted({"one": TAKEN, "two": FULL}))
    await send(policy, "one", "two")
    replies = await replies_to(policy, "one", "two", sender="other@example.com")
    assert [reply[:3] for reply in replies[:2]] == ["250", "250"]


async def test_a_recipient_that_comes_alone_may_be_named_twice() -> None:
    policy = policy_of(Scripted({"one": TAKEN, "two": FULL}, {"two": FULL}))
    await send(policy, "one", "two")
    assert [reply[:3] for reply in await replies_to(policy, "two", "two")] == ["250", "250", "552"]


@pytest.mark.parametrize("fails", ["get", "put"])
async def test_without_the_store_the_refused_are_named_at_once_since_nobody_could_be_skipped_later(fails: str) -> None:
    delivery = Scripted({"one": TAKEN, "two": FULL})
    policy = policy_of(delivery)
    watched(policy).fails = "put"
    assert (await send(policy, "one", "two")).wire.startswith(
        b"554 5.2.2 refused for <two@example.org>: mailbox full ["
    )
    watched(policy).fails = fails
    assert [reply[:3] for reply in (await replies_to(policy, "one", "two"))[:2]] == ["250", "250"]


async def test_one_recipient_alone_costs_the_store_no_look_at_rcpt() -> None:
    policy: Any = policy_of(Scripted({"one": TAKEN}))
    store = watched(policy)
    client = await policy.connect()
    await client.ehlo()
    await client.mail()
    await client.rcpt("one@example.org")
    assert store.read == []
