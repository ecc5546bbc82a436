"""The list files of a running server: a change comes into use, a list that has lost most of its entries does not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.end_to_end.client import message, send, send_until_not
from tests.end_to_end.conftest import StartGate
from tests.end_to_end.gate import Gate, run

POLICY = """
[plugins]
order = ["recipients", "discard"]
[plugins.recipients]
files = ["{folder}/people"]
"""
MAIL = message("<x@example.org>")
ALL = [f"b{number}@example.test" for number in range(30)]
UNKNOWN = b"550 5.1.1 no such mailbox here"


def write(folder: Path, people: list[str]) -> None:
    """Write the list beside its place, and move it there."""
    (folder / "people.new").write_text("".join(f"{one}\n" for one in people))
    (folder / "people.new").rename(folder / "people")


@pytest.fixture
def gate(start_gate: StartGate, tmp_path: Path) -> Gate:
    write(tmp_path, ALL)
    return start_gate(POLICY.format(folder=tmp_path))


def reload(gate: Gate, *options: str) -> None:
    """Run ``gatepost reload``, and wait for its end in the server."""
    before = len(gate.lines("reloaded"))
    done = run("reload", "--config", str(gate.config), *options)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert f"gatepost (process {gate.pid})" in done.stdout
    gate._wait(lambda: len(gate.lines("reloaded")) > before, "reload")


async def test_a_new_mailbox_comes_into_use_though_nobody_asks_for_it_meanwhile(gate: Gate, tmp_path: Path) -> None:
    assert (await send(gate.port, "new@example.test", MAIL)).startswith(UNKNOWN)
    write(tmp_path, [*ALL, "new@example.test"])
    assert (await send_until_not(UNKNOWN, gate.port, "new@example.test", MAIL)).startswith(b"250 ")


async def test_a_shrunk_list_serves_again_only_after_reload_accept_shrunk(gate: Gate, tmp_path: Path) -> None:
    write(tmp_path, ALL[:3])
    shrunk = gate.wait_for("list_shrunk", level="error")
    assert (shrunk["path"], shrunk["entries"], shrunk["found"]) == (f"{tmp_path}/people", 30, 3)
    assert (await send(gate.port, ALL[20], MAIL)).startswith(b"250 ")
    reload(gate)
    assert (await send(gate.port, ALL[20], MAIL)).startswith(b"250 ")
    reload(gate, "--accept-shrunk")
    assert (await send(gate.port, ALL[20], MAIL)).startswith(UNKNOWN)
    assert (await send(gate.port, ALL[2], MAIL)).startswith(b"250 ")


async def test_a_reload_takes_up_a_changed_list_at_once(gate: Gate, tmp_path: Path) -> None:
    write(tmp_path, [*ALL, "new@example.test"])
    os.kill(gate.pid, signal.SIGHUP)
    gate.wait_for("reloaded")
    assert (await send(gate.port, "new@example.test", MAIL)).startswith(b"250 ")
