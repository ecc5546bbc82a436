"""The states of a connection (the table in the docstring of ``SMTP``), and how short the way through the door is."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path

import pytest

from gatepost import Decision, accept, hookimpl
from gatepost.doors import smtp
from gatepost.doors.closing import DRAIN
from gatepost.doors.smtp import State
from tests.door import Keeping, live, until
from tests.policy import MESSAGE, Policy, vouching


async def test_a_connection_is_in_data_from_354_to_the_final_dot_and_then_takes_commands_again() -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    class Slow:
        grants = "delivery"

        @hookimpl
        async def queue(self) -> Decision:
            asked.set()
            await release.wait()
            return accept()

    async with live(Policy(vouching(), Slow())) as door:
        wire = await door.connect()
        await wire.reply()
        client = door.client
        states = [client._state]
        await wire.say(b"EHLO client.example.com")
        await wire.envelope()
        states.append(client._state)
        assert (await wire.say(b"DATA")).startswith(b"354 ")
        states.append(client._state)
        wire.send(MESSAGE + b".\r\n")
        await asked.wait()
        states.append(client._state)
        release.set()
        await wire.reply()
        assert states == [State.COMMAND, State.COMMAND, State.DATA, State.COMMAND]


async def test_a_refused_client_is_closing_until_it_is_gone_and_the_end_of_the_server_changes_nothing() -> None:
    policy = Policy()
    async with live(policy) as door:
        wire = await door.hello()
        client = door.client
        assert (await wire.say(b"GET / HTTP/1.1")).startswith(b"421 ")
        assert client._state is State.CLOSING
        door.listener.stop(now=True)
        assert client._state is State.CLOSING and client._ending is None
        await policy.clock.advance(DRAIN)
        await until(lambda: client._state is State.GONE)
        assert await wire.rest() == b""


async def test_a_client_that_resets_in_data_is_gone() -> None:
    async with live(Policy(vouching(), keeping := Keeping())) as door:
        wire = await door.connect()
        await wire.to_data()
        client = door.client
        wire.reset()
        await until(lambda: client._state is State.GONE)
        await door.left()
        assert not keeping.contents


async def test_an_end_that_is_due_now_does_not_wait_for_a_later_one() -> None:
    """The client was told to leave at once, and nothing that may wait for the next transaction takes that back."""
    async with live(Policy(vouching())) as door:
        wire = await door.hello()
        await wire.envelope()
        door.listener.stop()
        assert not door.client._ending.now
        door.listener.stop(now=True)
        assert await wire.rest() == b"421 4.3.2 service stopping, try again later\r\n"


@pytest.mark.patches  # the frames of a compiled core are not to be seen
async def test_between_the_transport_and_the_conversation_stands_one_coroutine() -> None:
    passed: list[str] = []

    class Looking:
        @hookimpl
        def rcpt(self) -> None:
            stack = traceback.extract_stack()
            passed.extend(frame.name for frame in stack if Path(frame.filename) == Path(smtp.__file__))

    async with live(Policy(vouching(), Looking())) as door:
        wire = await door.hello()
        await wire.envelope()
    assert passed == ["data_received", "converse"]
