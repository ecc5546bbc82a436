"""A recipient that was taken when others were not is remembered, and gets the message once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost import Address, Decision, StoreError, accept, hookimpl
from gatepost.conversation.taken import ANY, LOOK_EVERY
from tests.core.conversation.deliveries import LATER, NEVER, TAKEN, Scripted, policy_of, send
from tests.policy import MESSAGE, Policy


async def test_who_was_taken_is_skipped_when_the_client_comes_back_and_forgotten_when_all_are_taken() -> None:
    delivery = Scripted({"one": TAKEN, "two": LATER}, {"two": TAKEN}, {"one": TAKEN, "two": TAKEN})
    policy = policy_of(delivery)
    assert [(await send(policy, "one", "two")).code for _ in range(3)] == [451, 250, 250]
    assert delivery.asked == [["one", "two"], ["two"], ["one", "two"]]


async def test_a_plugin_that_fails_half_way_does_not_undo_what_another_has_taken() -> None:
    class Breaks:
        grants = "delivery"
        broken = True

        @hookimpl
        def queue(self, envelope: Any) -> Decision:
            if self.broken:
                raise ConnectionResetError
            return accept()

    first, second = Scripted({"one": TAKEN}), Breaks()
    policy = policy_of(first, second)
    assert (await send(policy, "one", "two")).wire.startswith(b"451 4.3.0 local error")
    second.broken = False
    assert (await send(policy, "one", "two")).code == 250
    assert first.taken == ["one"]


NAMED = (
    b"Received: from one\r\nDKIM-Signature: b=first\r\nMessage-ID: <x@example.com>\r\nDate: now\r\n"
    b"From: a@example.com\r\nSubject: x\r\n\r\nbody\r\n"
)
"""A message with a Message-ID; ``MESSAGE`` has none."""


@pytest.mark.parametrize(
    ("content", "how"),
    [
        (MESSAGE, {"sender": "other@example.com"}),
        (MESSAGE, {"sender": ""}),
        (MESSAGE, {"content": MESSAGE + b"more\r\n"}),
        (MESSAGE, {"content": b"X-Tried: again\r\n" + MESSAGE}),
        (NAMED, {"content": NAMED.replace(b"<x@", b"<y@")}),
        (NAMED, {"content": NAMED.replace(b"Date: now", b"Date: then")}),
        (NAMED, {"content": NAMED.replace(b"From: a@", b"From: b@")}),
        (NAMED, {"content": NAMED.replace(b"body", b"other")}),
        (NAMED, {"content": NAMED.replace(b"Message-ID: <x@example.com>", b"Message-ID:")}),
    ],
)
async def test_another_message_is_another_message(content: bytes, how: dict[str, Any]) -> None:
    delivery = Scripted({"one": TAKEN, "two": LATER}, {"one": TAKEN, "two": TAKEN})
    policy = policy_of(delivery)
    await send(policy, "one", "two", content=content)
    assert (await send(policy, "one", "two", **{"content": content, **how})).code == 250
    assert delivery.asked[1] == ["one", "two"]


@pytest.mark.parametrize(
    "again",
    [
        NAMED.replace(b"b=first", b"b=second"),
        NAMED.replace(b"from one", b"from two"),
        NAMED.replace(b"Message-ID: <x", b"message-id:\r\n\t<x"),
    ],
)
async def test_a_message_with_a_message_id_is_recognized_though_its_sender_signs_each_attempt_anew(
    again: bytes,
) -> None:
    delivery = Scripted({"one": TAKEN, "two": LATER}, {"two": TAKEN})
    policy = policy_of(delivery)
    assert (await send(policy, "one", "two", content=NAMED)).code == 451
    assert (await send(policy, "one", "two", content=again)).code == 250
    assert delivery.asked[1] == ["two"]


async def test_marks_know_nothing_of_our_fields_and_edits() -> None:
    class Edits:
        number = 0

        @hookimpl
        def message(self, message: Any) -> None:
            self.number += 1
            message.remove("Message-ID")
            message.prepend("Message-ID", f"<{self.number}@ours.example>")

    for content in (NAMED, MESSAGE):
        delivery = Scripted({"one": TAKEN, "two": LATER}, {"two": TAKEN})
        policy = policy_of(delivery, Edits())
        assert [(await send(policy, "one", "two", content=content)).code for _ in range(2)] == [451, 250]
        assert delivery.asked == [["one", "two"], ["two"]]


async def test_another_recipient_with_the_same_message_is_asked_for() -> None:
    delivery = Scripted({"one": TAKEN, "two": LATER}, {"two": TAKEN, "three": TAKEN})
    policy = policy_of(delivery)
    await send(policy, "one", "two")
    assert (await send(policy, "three", "one", "two")).code == 250
    assert delivery.asked[1] == ["three", "two"]


@pytest.mark.parametrize(("content", "days"), [(NAMED, 7), (MESSAGE, 1)])
async def test_a_mark_is_kept_for_7_days_and_for_one_without_a_message_id(content: bytes, days: int) -> None:
    for seconds, asked in [(days * 86_400 - 60, ["two"]), (days * 86_400 + 60, ["one", "two"])]:
        delivery = Scripted({"one": TAKEN, "two": LATER}, {"one": TAKEN, "two": TAKEN})
        policy = policy_of(delivery)
        await send(policy, "one", "two", content=content)
        await policy.clock.advance(seconds)
        await send(policy, "one", "two", content=content)
        assert delivery.asked[1] == asked


async def test_a_mark_ends_when_its_transaction_is_wholly_answered() -> None:
    delivery = Scripted({"one": TAKEN, "two": LATER}, {"two": TAKEN}, {"one": TAKEN, "two": TAKEN})
    policy = policy_of(delivery)
    assert [(await send(policy, "one", "two")).code for _ in range(3)] == [451, 250, 250]
    assert delivery.asked == [["one", "two"], ["two"], ["one", "two"]]


class Watched:
    """A store that yields before each call, writes down what is read and put, and fails where it is told to."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.durable: list[bool] = []
        self.put_keys: list[str] = []
        self.read: list[str] = []
        self.fails = ""

    async def before(self, call: str) -> None:
        await asyncio.sleep(0)
        if self.fails == call:
            raise StoreError("disk full")

    async def get(self, key: str) -> Any:
        await self.before("get")
        self.read.append(key)
        return await self.store.get(key)

    async def put(self, key: str, value: Any, ttl: float, *, durable: bool = False) -> None:
        await self.before("put")
        self.durable.append(durable)
        self.put_keys.append(key)
        await self.store.put(key, value, ttl, durable=durable)

    async def delete(self, key: str) -> None:
        await self.before("delete")
        await self.store.delete(key)


def watched(policy: Policy) -> Watched:
    store = Watched(policy.runtime.store)
    policy.runtime.store = store  # type: ignore[assignment]
    return store


async def test_marks_are_durable_before_the_reply() -> None:
    policy = policy_of(Scripted({"one": TAKEN, "two": LATER}))
    store = watched(policy)
    await send(policy, "one", "two")
    assert store.durable == [True, True, True]


async def test_a_message_that_all_take_costs_the_store_no_write() -> None:
    policy = policy_of(Scripted({"one": TAKEN}))
    store = watched(policy)
    await send(policy, "one")
    assert store.durable == []


async def test_while_there_are_no_marks_the_store_is_read_once_in_a_while_and_not_for_each_recipient() -> None:
    policy = policy_of(Scripted({"one": TAKEN, "two": TAKEN}))
    store = watched(policy)
    for _ in range(3):
        await send(policy, "one", "two")
    assert store.read == [ANY]
    await policy.clock.advance(LOOK_EVERY)
    await send(policy, "one", "two")
    assert store.read == [ANY, ANY]


async def test_a_mark_that_another_process_writes_is_soon_seen() -> None:
    here, there = Scripted({"one": TAKEN, "two": LATER}), Scripted({"one": TAKEN, "two": TAKEN})
    policy, other = policy_of(here), policy_of(there)
    other.runtime.store = policy.runtime.store
    assert (await send(other, "one", "two", content=b"another\r\n")).code == 250
    assert (await send(policy, "one", "two")).code == 451
    await other.clock.advance(LOOK_EVERY)
    assert (await send(other, "one", "two")).code == 250
    assert there.asked[-1] == ["two"]


@pytest.mark.parametrize(
    ("fails", "taken"),
    [("get", ["one", "one", "two"]), ("put", ["one", "one", "two"]), ("delete", ["one", "two"])],
)
async def test_a_store_that_fails_stops_no_mail_and_the_worst_is_that_somebody_gets_it_twice(
    fails: str, taken: list[str]
) -> None:
    delivery = Scripted({"one": TAKEN, "two": LATER}, {"one": TAKEN, "two": TAKEN})
    policy = policy_of(delivery)
    watched(policy).fails = fails
    replies = [await send(policy, "one", "two") for _ in range(2)]
    assert [reply.code for reply in replies] == [451, 250]
    assert "mailbox busy" in replies[0].lines()[0]
    assert delivery.taken == taken
    assert policy.events.named("store_failed" if fails == "delete" else "marks_failed")


async def test_messages_of_one_sender_that_are_handed_over_at_the_same_time_keep_their_own_marks() -> None:
    delivery = Scripted(*[{"one": TAKEN, "two": LATER}] * 5, {"one": TAKEN, "two": TAKEN})
    policy = policy_of(delivery)
    watched(policy)
    contents = [MESSAGE + f"{number}\r\n".encode() for number in range(5)]
    replies = await asyncio.gather(*(send(policy, "one", "two", content=content) for content in contents))
    assert {reply.code for reply in replies} == {451}
    replies = [await send(policy, "one", "two", content=content) for content in contents]
    assert {reply.code for reply in replies} == {250}
    assert delivery.taken.count("one") == delivery.taken.count("two") == 5


async def test_a_retry_while_the_first_hand_over_is_under_way_is_a_new_message() -> None:
    class Slow(Scripted):
        begun, go_on = asyncio.Event(), asyncio.Event()

        @hookimpl
        async def queue(self, envelope: Any) -> dict[Address, Decision]:
            if not self.begun.is_set():
                self.begun.set()
                await self.go_on.wait()
            return await super().queue(envelope)

    delivery = Slow({"one": TAKEN, "two": LATER}, {"one": TAKEN, "two": LATER}, {"two": TAKEN})
    policy = policy_of(delivery)
    first = asyncio.ensure_future(send(policy, "one", "two"))
    await delivery.begun.wait()
    second = await send(policy, "one", "two")
    delivery.go_on.set()
    assert (second.code, (await first).code) == (451, 451)
    assert (await send(policy, "one", "two")).code == 250
    assert delivery.asked[-1] == ["two"]


ANSWERS = st.sampled_from([TAKEN, LATER, NEVER, None])


@given(st.lists(st.tuples(ANSWERS, ANSWERS, ANSWERS), min_size=1, max_size=6))
async def test_until_a_message_is_wholly_answered_nobody_takes_it_twice_nor_bounces_it_once_taken(
    attempts: list[tuple[Decision | None, ...]],
) -> None:
    """The client is a real one: it sends to all that have no final answer, later to those with 452 at RCPT."""
    names = ("one", "two", "three")
    scripts = [
        {name: answer for name, answer in zip(names, answers, strict=True) if answer is not None}
        for answers in attempts
    ]
    delivery = Scripted(*scripts)
    policy = policy_of(delivery)
    waiting = list(names)
    for _ in range(2 * len(scripts)):
        client = await policy.connect()
        await client.ehlo()
        await client.mail()
        joined = [name for name in waiting if (await client.rcpt(f"{name}@example.org")).code == 250]
        reply = await client.data(MESSAGE)
        await client.close()
        assert joined
        assert len(delivery.taken) == len(set(delivery.taken))
        if reply.code == 250:
            assert set(joined) <= set(delivery.taken)
        elif reply.code >= 500:
            assert not set(joined) & set(delivery.taken)
        if reply.code not in range(400, 500):
            waiting = [name for name in waiting if name not in joined]
        if not waiting:
            break


async def test_a_message_in_a_file_is_handed_over_and_recognized_too(tmp_path: Any) -> None:
    delivery = Scripted({"one": TAKEN, "two": LATER}, {"two": TAKEN})
    policy = policy_of(delivery, folder=tmp_path)
    policy.runtime.spool.memory = 100
    content = MESSAGE + b"0123456789\r\n" * 50_000
    assert [(await send(policy, "one", "two", content=content)).code for _ in range(2)] == [451, 250]
    assert list(tmp_path.iterdir()) == []
