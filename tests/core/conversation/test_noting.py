"""Recipients that a plugin notes as taken, one after the other, get the message once though the handover breaks off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatepost import Address, Decision, accept, hookimpl
from tests.core.conversation.deliveries import TAKEN, Scripted, policy_of, send
from tests.core.conversation.test_taken import watched
from tests.policy import Policy


class Noting:
    """Notes the first recipients as taken, then waits until it is told to go on, and fails or takes them all."""

    grants = "delivery"

    def __init__(self, *taken: str, fails: bool = False) -> None:
        self.taken = taken
        self.fails = fails
        self.noted = asyncio.Event()
        self.go_on = asyncio.Event()

    @hookimpl
    async def queue(self, envelope: Any) -> Decision:
        for recipient in envelope.pending:
            if recipient.local in self.taken:
                envelope.note_taken(recipient)
        self.noted.set()
        await self.go_on.wait()
        if self.fails:
            raise ConnectionResetError("the next hop is gone")
        return accept("taken")


async def under_way(policy: Policy, noting: Noting) -> asyncio.Task[Any]:
    sending = asyncio.ensure_future(send(policy, "one", "two", "three"))
    await noting.noted.wait()
    return sending


async def test_who_was_noted_is_written_down_while_answers_for_others_are_missing() -> None:
    """The process is killed then; another one has the store."""
    policy, after = policy_of(noting := Noting("one", "two")), policy_of(delivery := Scripted({"three": TAKEN}))
    after.runtime.store = policy.runtime.store
    sending = await under_way(policy, noting)
    await policy.clock.advance(0.1)
    assert (await send(after, "one", "two", "three")).code == 250
    assert delivery.asked == [["three"]]
    noting.go_on.set()
    await sending


async def test_when_all_have_their_answer_after_all_the_entries_are_deleted() -> None:
    policy = policy_of(noting := Noting("one", "two"))
    sending = await under_way(policy, noting)
    await policy.clock.advance(0.1)
    noting.go_on.set()
    assert (await sending).code == 250
    after = policy_of(delivery := Scripted({"one": TAKEN, "two": TAKEN, "three": TAKEN}))
    after.runtime.store = policy.runtime.store
    assert (await send(after, "one", "two", "three")).code == 250
    assert delivery.asked == [["one", "two", "three"]]


async def test_answers_that_are_all_there_within_100_milliseconds_cost_the_store_no_write() -> None:
    policy = policy_of(noting := Noting("one", "two"))
    store = watched(policy)
    sending = await under_way(policy, noting)
    await policy.clock.advance(0.09)
    noting.go_on.set()
    assert (await sending).code == 250
    await policy.clock.advance(1)
    assert store.durable == []


@pytest.mark.parametrize("seconds", [0.0, 0.1])
async def test_a_plugin_that_fails_in_their_midst_undoes_nothing(seconds: float) -> None:
    policy = policy_of(noting := Noting("one", "two", fails=True))
    sending = await under_way(policy, noting)
    await policy.clock.advance(seconds)
    noting.go_on.set()
    assert (await sending).code == 451
    after = policy_of(delivery := Scripted({"three": TAKEN}))
    after.runtime.store = policy.runtime.store
    assert (await send(after, "one", "two", "three")).code == 250
    assert delivery.asked == [["three"]]


async def test_recipients_that_are_noted_one_after_the_other_are_each_written_once() -> None:
    class Slowly:
        grants = "delivery"

        @hookimpl
        async def queue(self, envelope: Any) -> dict[Address, Decision]:
            for recipient in envelope.pending:
                envelope.note_taken(recipient)
                await policy.clock.advance(0.01)
            return {}

    policy = policy_of(Slowly())
    store = watched(policy)
    names = [f"r{number}" for number in range(100)]
    assert (await send(policy, *names)).code == 451
    marks = [key for key in store.put_keys if key.count("\n") == 2]
    assert len(marks) == len(set(marks)) == 100


async def test_without_the_grant_nobody_is_noted() -> None:
    noting = Noting("one")
    noting.grants = ()  # type: ignore[assignment]
    policy = policy_of(noting, delivery := Scripted({"one": TAKEN, "two": TAKEN}))
    assert (await send(policy, "one", "two")).code == 451
    (failed,) = policy.events.named("plugin_failed")
    assert "noted a recipient as taken without the grant (test_noting.py:" in failed["error"]
    assert delivery.asked == []


async def test_noting_the_only_recipient_means_nothing() -> None:
    policy = policy_of(noting := Noting("one"))
    store = watched(policy)
    noting.go_on.set()
    assert (await send(policy, "one")).code == 250
    assert store.durable == []
