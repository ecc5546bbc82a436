"""SIGTERM, as each kind of client sees it. What becomes of messages in general is shown with Postfix."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.end_to_end.client import Client, connected, message
from tests.end_to_end.conftest import StartGate
from tests.end_to_end.gate import Gate
from tests.peers.mail_server import MailServer

POLICY = """
grace = "{grace}"
[plugins]
order = ["access", "earlytalker", "recipients", "forward"]
[plugins.access]
allow = [{{ network = "127.0.0.7" }}]
[plugins.earlytalker]
delay = "60s"
[plugins.recipients]
domains = ["example.test"]
[plugins.forward]
to = "{url}"
verify = false
"""
MAIL = message("<x@example.org>")
OURS = "b@example.test"
STOPPING = b"421 4.3.2"


async def greeted(gate: Gate, clients: AsyncExitStack) -> Client:
    """A client that need not wait for its greeting, after EHLO."""
    client = await clients.enter_async_context(connected(gate.port, source="127.0.0.7"))
    assert (await client.greet()).startswith(b"250")
    return client


async def test_who_waits_or_is_idle_is_told_to_come_back(start_gate: StartGate) -> None:
    async with MailServer() as server, AsyncExitStack() as clients:
        gate = start_gate(POLICY.format(grace="30s", url=server.url))
        waiting = await clients.enter_async_context(connected(gate.port))
        idle = await greeted(gate, clients)
        gate.terminate()
        for client in (waiting, idle):
            assert (await client.reply()).startswith(STOPPING)
            assert await client.wire.rest() == b""
            await client.wire.close()
        await asyncio.to_thread(gate.wait)


async def test_a_dialogue_under_way_may_finish(start_gate: StartGate) -> None:
    async with MailServer() as server, AsyncExitStack() as clients:
        gate = start_gate(POLICY.format(grace="30s", url=server.url))
        busy, idle = await greeted(gate, clients), await greeted(gate, clients)
        await busy.envelope([OURS])
        gate.terminate()
        assert (await idle.reply()).startswith(STOPPING)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", gate.port)

        assert (await busy.content(MAIL)).startswith(b"250 2.0.0")
        assert (await busy.reply()).startswith(STOPPING)
        assert [delivered.content.endswith(MAIL) for delivered in server.messages] == [True]
        await asyncio.to_thread(gate.wait)


async def test_a_dialogue_that_does_not_finish_is_ended_after_the_grace(start_gate: StartGate) -> None:
    async with MailServer() as server, AsyncExitStack() as clients:
        gate = start_gate(POLICY.format(grace="500ms", url=server.url))
        busy, receiving = await greeted(gate, clients), await greeted(gate, clients)
        await busy.envelope([OURS])
        await receiving.envelope([OURS])
        assert (await receiving.say("DATA")).startswith(b"354")
        gate.terminate()
        for client in (busy, receiving):
            assert (await client.reply()).startswith(STOPPING)
        assert not server.messages
        await asyncio.to_thread(gate.wait)


async def test_a_hand_over_ends_in_its_own_time_and_its_client_is_told(start_gate: StartGate) -> None:
    async with MailServer(pause_after=10) as server, AsyncExitStack() as clients:
        gate = start_gate(POLICY.format(grace="0s", url=server.url))
        client = await greeted(gate, clients)
        await client.envelope([OURS])
        answer = asyncio.create_task(client.content(MAIL))
        await server.is_paused.wait()
        gate.terminate()
        await asyncio.sleep(4)
        server.resume.set()
        assert (await answer).startswith(b"250 2.0.0")
        assert (await client.reply()).startswith(STOPPING)
        await asyncio.to_thread(gate.wait)
