"""Time: clients that are idle, that trickle, that stay too long."""

from __future__ import annotations

import asyncio

from gatepost import Decision, accept, hookimpl
from tests.door import Keeping, live, until
from tests.policy import MESSAGE, Policy, vouching

HEAD = b"From: a@example.com\r\nSubject: hello\r\n"


async def test_client_idle_5_min() -> None:
    policy = Policy()
    async with live(policy) as door:
        wire = await door.hello()
        for _ in range(3):
            await policy.clock.advance(299)
            assert (await wire.say(b"NOOP")).startswith(b"250 ")
        await policy.clock.advance(300)
        assert await wire.rest() == b"421 4.4.2 idle too long\r\n"


async def test_client_idle_5_min_within_a_line() -> None:
    """An octet now and then keeps nobody: what counts is the time until the command is whole."""
    policy = Policy()
    async with live(policy) as door:
        wire = await door.hello()
        wire.send(b"NO")
        for octets in range(2, 5):
            await door.buffered(octets)
            await policy.clock.advance(100)
            wire.send(b"x")
        assert await wire.rest() == b"421 4.4.2 idle too long\r\n"


async def test_data_below_100_octets_a_second_over_a_minute() -> None:
    policy = Policy(vouching(), keeping := Keeping())
    async with live(policy) as door:
        wire = await door.connect()
        await wire.to_data()
        for minute in range(3):
            wire.send(HEAD + b"x" * (5998 - len(HEAD)) + b"\r\n")
            await door.received(6000 * (minute + 1))
            await policy.clock.advance(60)
        wire.send(b"x" * 5999)
        await door.received(6000 * 3 + 5999)
        await policy.clock.advance(60)
        assert await wire.rest() == b"421 4.4.2 data too slow\r\n"
        assert not keeping.contents


async def test_session_over_1_h_ends_between_transactions_only() -> None:
    release = asyncio.Event()

    class Slow:
        grants = "delivery"

        @hookimpl
        async def queue(self) -> Decision:
            await release.wait()
            return accept()

    policy = Policy(vouching(), Slow())
    async with live(policy) as door:
        wire = await door.hello()
        for _ in range(11):
            await policy.clock.advance(299)
            assert (await wire.say(b"NOOP")).startswith(b"250 ")
        await wire.envelope()
        await policy.clock.advance(299)
        assert (await wire.say(b"DATA")).startswith(b"354 ")
        for minute in range(4):
            wire.send(b"X-Line: " + b"x" * 9990 + b"\r\n")
            await door.received(10_000 * (minute + 1))
            await policy.clock.advance(60)
        wire.send(b".\r\n")
        await until(lambda: door.client.conversation.transaction.reader is None)
        await policy.clock.advance(600)
        release.set()
        assert (await wire.reply()).startswith(b"250 ")
        assert await wire.rest() == b"421 4.4.2 session too long\r\n"


async def test_session_over_1_h_ends_also_for_a_client_that_never_pauses() -> None:
    policy = Policy(vouching(), Keeping())
    async with live(policy) as door:
        wire = await door.hello()
        await wire.envelope()
        next_one = MESSAGE + b".\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"
        for _ in range(12):
            await policy.clock.advance(299)
            assert (await wire.say(b"DATA")).startswith(b"354 ")
            wire.send(next_one)
            assert {reply[:4] for reply in await wire.replies(3)} == {b"250 "}
        await policy.clock.advance(299)
        assert (await wire.say(b"DATA")).startswith(b"354 ")
        wire.send(next_one)
        assert (await wire.reply()).startswith(b"250 ")
        assert await wire.rest() == b"421 4.4.2 session too long\r\n"


async def test_without_a_data_rate_a_client_is_still_not_idle_for_5_min_in_data() -> None:
    policy = Policy(vouching(), Keeping(), limits={"data_rate": 0})
    async with live(policy) as door:
        wire = await door.connect()
        await wire.to_data()
        for octets in range(1, 4):
            wire.send(b"x")
            await door.received(octets)
            await policy.clock.advance(240)
        await policy.clock.advance(60)
        assert await wire.rest() == b"421 4.4.2 idle too long\r\n"


async def test_time_that_a_plugin_takes_is_not_the_clients() -> None:
    release = asyncio.Event()

    class Slow:
        @hookimpl
        async def helo(self) -> None:
            await release.wait()

    policy = Policy(Slow(), limits={"idle": 10.0})
    async with live(policy) as door:
        wire = await door.connect()
        await wire.reply()
        wire.send(b"EHLO x\r\n")
        await until(lambda: door.client.conversation.session.helo)
        await policy.clock.advance(25)
        release.set()
        assert (await wire.reply()).startswith(b"250-")
        await policy.clock.advance(9)
        assert (await wire.say(b"NOOP")).startswith(b"250 ")
