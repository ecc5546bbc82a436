"""Stopping waits for a handover, says for which plugin, and does not wait for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gatepost import Decision, accept, hookimpl
from tests.core.server.test_server import server
from tests.door import live
from tests.policy import MESSAGE, Policy, instance, vouching


class Stuck:
    """Takes messages, and does not return from its ``queue`` until it is released, whatever the gate does."""

    grants = "delivery"

    def __init__(self, *, ignores_cancellation: bool) -> None:
        self.ignores_cancellation = ignores_cancellation
        self.asked, self.release = asyncio.Event(), asyncio.Event()

    @hookimpl
    async def queue(self) -> Decision:
        self.asked.set()
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                if not self.ignores_cancellation:
                    raise
        return accept()


@pytest.mark.parametrize(("ignores_cancellation", "most"), [(False, 902), (True, 907)])
async def test_a_queue_hook_that_never_returns_is_named_and_does_not_outlive_sigterm_by_more_than_15_minutes(
    ignores_cancellation: bool, most: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    policy = Policy(vouching(), instance(stuck := Stuck(ignores_cancellation=ignores_cancellation), "archive"))
    stopping = server(tmp_path, "127.0.0.1:0")
    stopping.runtime, stopping.clock = policy.runtime, policy.clock  # type: ignore[assignment]
    async with live(policy) as door:
        wire = await door.connect()
        await wire.to_data()
        wire.send(MESSAGE + b".\r\n")
        await stuck.asked.wait()
        session = door.client.conversation.session
        closing = asyncio.create_task(stopping.close())
        await policy.clock.advance(899)
        is_waiting = not closing.done()
        await policy.clock.advance(most - 899)
        await closing
        if not ignores_cancellation:
            assert (await wire.reply()).startswith(b"451 4.3.0 ")
            assert policy.events.named("plugin_failed")[0]["error"] == "no end within 900 s"
        stuck.release.set()
    assert is_waiting
    named = f'"event":"handover_running","plugin":"archive","session":"{session.id}","client":"127.0.0.1"'
    assert named in capfd.readouterr().err
