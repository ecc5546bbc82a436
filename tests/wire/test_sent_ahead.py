"""What clients send ahead of their turn: it counts against the spool's budget, and hides no loss of the client."""

from __future__ import annotations

import asyncio

import pytest

from gatepost import Address, Decision, Envelope, hookimpl
from gatepost.doors.smtp import State
from tests.door import Keeping, live, until
from tests.policy import MESSAGE, Policy, vouching

FLOOD = b"NOOP\r\n" * 10_000  # 60,000 octets, less than one read
NO_ROOM = b"421 4.3.1 no room for what you send ahead, try again later\r\n"


class Slow:
    """Lets one phase wait until ``release`` is set, and notes if that was cancelled."""

    grants = "delivery"

    def __init__(self, phase: str = "rcpt") -> None:
        self.phase = phase
        self.asked, self.release = asyncio.Event(), asyncio.Event()
        self.cancelled = False

    async def wait(self, phase: str) -> None:
        if phase != self.phase:
            return
        self.asked.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    @hookimpl
    async def connect(self) -> None:
        await self.wait("connect")

    @hookimpl
    async def rcpt(self, recipient: Address) -> None:
        await self.wait("rcpt")

    @hookimpl
    async def headers(self) -> None:
        await self.wait("headers")

    @hookimpl
    async def queue(self, envelope: Envelope) -> Decision | None:
        await self.wait("queue")
        return None


def policy_of(slow: Slow, budget: int = 1 << 28) -> Policy:
    policy = Policy(slow, vouching(), Keeping(), limits={"noise_commands": 10**6})
    policy.runtime.spool.budget, policy.runtime.spool.memory = budget, 0
    return policy


async def test_octets_behind_a_slow_rcpt_count_against_the_budget_until_they_are_read() -> None:
    policy = policy_of(slow := Slow())
    async with live(policy) as door:
        wire = await door.hello()
        await wire.say(b"MAIL FROM:<a@example.com>")
        wire.send(b"RCPT TO:<b@example.org>\r\n")
        await slow.asked.wait()
        wire.send(FLOOD)
        await until(lambda: door.client._reading_paused)
        assert policy.runtime.spool.in_memory == len(door.client._input) > 4096
        slow.release.set()
        assert (await wire.reply()).startswith(b"250 2.1.5 ")
        assert set(await wire.replies(10_000)) == {b"250 2.0.0 OK\r\n"}
        assert policy.runtime.spool.in_memory == 0


async def test_a_client_that_pipelines_behind_a_slow_rcpt_when_the_budget_is_spent_is_let_go() -> None:
    policy = policy_of(slow := Slow(), budget=20_000)
    async with live(policy) as door:
        wire = await door.hello()
        await wire.say(b"MAIL FROM:<a@example.com>")
        wire.send(b"RCPT TO:<b@example.org>\r\n")
        await slow.asked.wait()
        client = door.client
        wire.send(FLOOD)
        assert await wire.rest() == NO_ROOM
        assert slow.cancelled
        assert len(client._input) == policy.runtime.spool.in_memory == 0


async def test_what_honest_clients_pipeline_costs_no_room() -> None:
    policy = policy_of(slow := Slow(), budget=0)
    async with live(policy) as door:
        wire = await door.hello()
        await wire.say(b"MAIL FROM:<a@example.com>")
        wire.send(b"".join(b"RCPT TO:<b%d@example.org>\r\n" % number for number in range(100)) + b"NOOP\r\n")
        await slow.asked.wait()
        slow.release.set()
        assert {reply[:9] for reply in await wire.replies(100)} == {b"250 2.1.5"}


async def test_many_clients_together_keep_no_more_than_the_budget_and_their_small_change() -> None:
    policy = policy_of(slow := Slow(), budget=150_000)
    async with live(policy) as door:
        wires = [await door.hello() for _ in range(20)]
        for wire in wires:
            await wire.say(b"MAIL FROM:<a@example.com>")
            wire.send(b"RCPT TO:<b@example.org>\r\n")
        await slow.asked.wait()
        for wire in wires:
            wire.send(FLOOD)
        await until(lambda: all(client._reading_paused or client._state is State.CLOSING for client in door.clients))
        assert sum(len(client._input) for client in door.clients) <= 150_000 + 20 * 4096
        slow.release.set()
        heard = [(await wire.reply())[:9] for wire in wires]
        assert heard.count(b"421 4.3.1") >= 17
        assert b"250 2.1.5" in heard
        for wire in wires:
            await wire.close()
        await door.left()
        assert policy.runtime.spool.in_memory == 0


async def test_a_message_that_is_being_handed_over_gets_its_reply_first() -> None:
    policy = policy_of(slow := Slow("queue"), budget=20_000)
    async with live(policy) as door:
        wire = await door.hello()
        await wire.envelope()
        await wire.say(b"DATA")
        wire.send(MESSAGE + b".\r\n")
        await slow.asked.wait()
        client = door.client
        wire.send(FLOOD)
        await until(lambda: client._reading_paused)
        assert client._input == b""
        slow.release.set()
        assert (await wire.reply()).startswith(b"250 2.0.0 queued as ")
        assert await wire.rest() == NO_ROOM
        assert not slow.cancelled


async def test_a_message_whose_headers_are_judged_counts_too() -> None:
    policy = policy_of(slow := Slow("headers"), budget=20_000)
    async with live(policy) as door:
        wire = await door.hello()
        await wire.envelope()
        await wire.say(b"DATA")
        wire.send(MESSAGE)
        await slow.asked.wait()
        wire.send(b"x\r\n" * 10_000)
        assert await wire.rest() == NO_ROOM
        await wire.close()
        await door.left()
        assert policy.runtime.spool.in_memory == 0


async def test_a_line_without_end_counts_too() -> None:
    policy = policy_of(Slow(), budget=20_000)
    async with live(policy) as door:
        wire = await door.hello()
        wire.send(b"x" * 10_000)
        await until(lambda: policy.runtime.spool.in_memory == 10_000)
        wire.send(b"x" * 20_000)
        assert await wire.rest() == NO_ROOM
        await wire.close()
        await door.left()
        assert policy.runtime.spool.in_memory == 0


@pytest.mark.parametrize("budget", [1 << 28, 20_000])
async def test_early_talk_before_the_greeting_counts_too(budget: int) -> None:
    policy = policy_of(slow := Slow("connect"), budget=budget)
    async with live(policy) as door:
        wire = await door.connect()
        await slow.asked.wait()
        wire.send(FLOOD + b"QUIT\r\n")
        if budget == 20_000:
            assert await wire.rest() == NO_ROOM
            assert slow.cancelled
        else:
            await until(lambda: policy.runtime.spool.in_memory > 4096)
            assert policy.runtime.spool.in_memory == len(door.client._heard)
            slow.release.set()
            assert (await wire.rest()).endswith(b"221 2.0.0 bye\r\n")
        await wire.close()
        await door.left()
        assert policy.runtime.spool.in_memory == 0


async def test_early_talk_of_a_client_that_leaves_is_given_back() -> None:
    policy = policy_of(slow := Slow("connect"))
    async with live(policy) as door:
        wire = await door.connect()
        await slow.asked.wait()
        wire.send(FLOOD)
        await until(lambda: policy.runtime.spool.in_memory > 4096)
        wire.reset()
        await policy.clock.advance(5)
        await door.left()
        assert slow.cancelled
        assert policy.runtime.spool.in_memory == 0


@pytest.mark.parametrize("phase", ["rcpt", "headers"])
async def test_a_lost_connection_is_noticed_while_reading_is_paused(phase: str) -> None:
    policy = policy_of(slow := Slow(phase))
    async with live(policy) as door:
        wire = await door.hello()
        await wire.say(b"MAIL FROM:<a@example.com>")
        wire.send(b"RCPT TO:<b@example.org>\r\n")
        if phase != "rcpt":
            await wire.reply()
            await wire.say(b"DATA")
            wire.send(MESSAGE)
        await slow.asked.wait()
        wire.send(FLOOD)
        await until(lambda: door.client._reading_paused)
        await policy.clock.advance(5)
        assert door.listener.connected and not slow.cancelled
        wire.reset()
        await policy.clock.advance(5)
        await door.left()
        assert slow.cancelled
        assert policy.runtime.spool.in_memory == 0


async def test_a_client_that_has_only_closed_its_side_is_not_lost() -> None:
    policy = policy_of(slow := Slow())
    async with live(policy) as door:
        wire = await door.hello()
        await wire.say(b"MAIL FROM:<a@example.com>")
        wire.send(b"RCPT TO:<b@example.org>\r\n")
        await slow.asked.wait()
        wire.send(FLOOD)
        await until(lambda: door.client._reading_paused)
        wire.half_close()
        for _ in range(3):
            await policy.clock.advance(5)
        slow.release.set()
        replies = await wire.rest()
        assert replies.startswith(b"250 2.1.5 ") and replies.count(b"250 2.0.0 OK") == 10_000


async def test_little_is_copied_when_octets_come_one_by_one_behind_a_slow_rcpt() -> None:
    """Each read copies what waits already: with 64 KiB of it, one octet at a time, that took seconds."""
    policy = policy_of(slow := Slow())
    async with live(policy) as door:
        wire = await door.hello()
        await wire.say(b"MAIL FROM:<a@example.com>")
        wire.send(b"RCPT TO:<b@example.org>\r\n")
        await slow.asked.wait()
        client = door.client
        for _ in range(4096):
            client.data_received(b"x")
        assert not client._reading_paused
        client.data_received(b"x")
        assert client._reading_paused
        slow.release.set()
