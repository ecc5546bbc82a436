"""SIGTERM as each kind of client sees it. ``test_postfix`` shows that no accepted mail is lost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gatepost.server.server import LAST_REPLIES
from tests.door import until
from tests.end_to_end.client import Client, connected, message
from tests.end_to_end.conftest import StartGate
from tests.end_to_end.gate import Gate, configuration
from tests.peers.mail_server import MailServer

POLICY = """
grace = "{grace}"
[plugins]
order = ["access", "earlytalker", "recipients", "forward"]
[plugins.access]
allow = [{{ network = "127.0.0.7" }}]
[plugins.earlytalker]
delay = "240s"
[plugins.recipients]
domains = ["example.test"]
[plugins.forward]
to = "{url}"
verify = false
"""
REMEMBERING = """
[plugins]
order = ["earlytalker", "recipients", "discard"]
[plugins.earlytalker]
delay = "1ms"
[plugins.recipients]
domains = ["example.test"]
"""
SLOW_START = '''
"""Wait at the start until a file appears."""

import asyncio
from pathlib import Path

from gatepost import Log, hookimpl


class Slow:
    def __init__(self, log: Log) -> None:
        self.log = log

    @hookimpl
    async def startup(self) -> None:
        self.log.info("waiting")
        while not Path("go").exists():
            await asyncio.sleep(0.01)
'''
MAIL = message("<x@example.org>")
OURS = "b@example.test"
STOPPING = b"421 4.3.2"


async def greeted(gate: Gate, clients: AsyncExitStack) -> Client:
    """Return a client that has said EHLO; it comes from a trusted address, so it is greeted at once."""
    client = await clients.enter_async_context(connected(gate.port, source="127.0.0.7"))
    assert (await client.greet()).startswith(b"250")
    return client


async def test_waiting_and_idle_clients_are_told_to_come_back(start_gate: StartGate) -> None:
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


async def test_with_a_locked_store_it_ends_cleanly_and_logs_the_loss(
    start_gate: StartGate,
) -> None:
    gate = start_gate(REMEMBERING)
    async with connected(gate.port) as client:
        assert (await client.reply()).startswith(b"220")
        with contextlib.closing(sqlite3.connect(gate.folder / "state/state.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await asyncio.to_thread(gate.stop)
    assert "database is locked" in gate.lines("memory_lost")[0]["error"]
    assert gate.lines("stopped")


async def test_a_dialogue_under_way_may_finish(start_gate: StartGate) -> None:
    async with MailServer() as server, AsyncExitStack() as clients:
        gate = start_gate(POLICY.format(grace="30s", url=server.url))
        busy, idle = await greeted(gate, clients), await greeted(gate, clients)
        await busy.envelope([OURS])
        gate.terminate()
        assert (await idle.reply()).startswith(STOPPING)
        await idle.wire.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", gate.port)

        assert (await busy.content(MAIL)).startswith(b"250 2.0.0")
        assert (await busy.reply()).startswith(STOPPING)
        await busy.wire.close()
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
            await client.wire.close()
        assert not server.messages
        await asyncio.to_thread(gate.wait)


TAKES_MAIL = """
[plugins]
order = ["{first}", "recipients", "discard"]
[plugins.recipients]
domains = ["example.org"]
"""


async def test_signals_during_the_start_are_obeyed(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW_START)
    policy = TAKES_MAIL.format(first="slow") + '[plugins.slow]\nuse = "slow.py"\n'
    gate = Gate(tmp_path, configuration(tmp_path, policy))
    starting = asyncio.create_task(asyncio.to_thread(gate.start))
    await until(lambda: (tmp_path / "log").exists() and gate.lines("waiting"))
    os.kill(gate.pid, signal.SIGHUP)
    gate.wait_for("reload_failed", level="error")
    gate.terminate()
    (tmp_path / "go").touch()
    await starting
    gate.wait()


async def test_a_handover_is_completed_after_the_grace_and_its_client_gets_the_reply(start_gate: StartGate) -> None:
    async with MailServer(pause_after=10) as server, AsyncExitStack() as clients:
        gate = start_gate(POLICY.format(grace="0s", url=server.url))
        client = await greeted(gate, clients)
        await client.envelope([OURS])
        answer = asyncio.create_task(client.content(MAIL))
        await server.is_paused.wait()
        gate.terminate()
        await asyncio.sleep(LAST_REPLIES + 0.5)  # nothing shows from outside that this time is over
        server.resume.set()
        assert (await answer).startswith(b"250 2.0.0")
        assert (await client.reply()).startswith(STOPPING)
        await asyncio.to_thread(gate.wait)


IGNORES = '''
"""Ignore every cancellation."""

import asyncio
from pathlib import Path

from gatepost import hookimpl


class Ignores:
    @hookimpl
    async def mail(self) -> None:
        Path("asked").touch()
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass
'''


async def test_a_plugin_that_ignores_cancellation_does_not_keep_the_process_alive(
    start_gate: StartGate, tmp_path: Path
) -> None:
    (tmp_path / "ignores.py").write_text(IGNORES)
    policy = 'grace = "0s"\n' + TAKES_MAIL.format(first="ignores") + '[plugins.ignores]\nuse = "ignores.py"\n'
    gate = start_gate(policy)
    async with connected(gate.port) as client:
        await client.greet()
        client.wire.send(b"MAIL FROM:<a@example.com>\r\n")
        await until((tmp_path / "asked").exists)
        await asyncio.to_thread(gate.stop)
    assert gate.lines("ignores_cancellation")
