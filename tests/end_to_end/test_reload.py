"""After SIGHUP a changed configuration applies to new sessions; a wrong one changes nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.end_to_end.client import connected, message, send
from tests.end_to_end.conftest import StartGate
from tests.end_to_end.gate import Gate, configuration

POLICY = """
[plugins]
order = ["access", "recipients", "discard"]
[plugins.access]
deny = {deny}
[plugins.recipients]
domains = ["example.test"]
"""
NOBODY, EVERYBODY = "[]", '[{ recipient = "example.test", reason = "closed" }]'
MAIL = message("<x@example.org>")


def change(gate: Gate, folder: Path, policy: str) -> None:
    """Write another policy for the same listener and tell the server to reload."""
    configuration(folder, policy)
    os.kill(gate.pid, signal.SIGHUP)


async def test_a_session_keeps_its_policy_and_the_next_one_has_the_new(start_gate: StartGate, tmp_path: Path) -> None:
    gate = start_gate(POLICY.format(deny=NOBODY))
    async with connected(gate.port) as client:
        await client.greet()
        change(gate, tmp_path, POLICY.format(deny=EVERYBODY))
        gate.wait_for("reloaded")
        assert (await client.transaction("b@example.test", MAIL)).startswith(b"250 2.0.0")
    assert (await send(gate.port, "b@example.test", MAIL)).startswith(b"550 5.7.1 closed")


async def test_a_wrong_configuration_changes_nothing(start_gate: StartGate, tmp_path: Path) -> None:
    gate = start_gate(POLICY.format(deny=EVERYBODY))
    change(gate, tmp_path, POLICY.format(deny=NOBODY).replace("domains", "domians"))
    failed = gate.wait_for("reload_failed", level="error")
    assert "domians" in failed["error"] and str(gate.config) in failed["error"]
    assert (await send(gate.port, "b@example.test", MAIL)).startswith(b"550 5.7.1 closed")
