"""The embedded default does what the quick start in README and manual promises, tried with swaks and nc."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.gate import Gate
from tests.patience import PATIENCE

DELAY = 3.0
LONG_DELAY = 240.0
"""Seconds; far more than a refusal at once takes on the busiest machine."""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a user without a configuration and without any state."""
    return {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "GATEPOST__LISTEN__SMTP__BIND": '["127.0.0.1:0"]',
    }


@pytest.fixture
def gate(tmp_path: Path, environ: dict[str, str]) -> Iterator[Gate]:
    """Yield a running server with the embedded default."""
    with Gate(tmp_path, None, environ) as running:
        yield running


def talk_early(program: str, gate: Gate) -> str:
    """Return the output of ``printf 'EHLO x\\r\\n' | nc``."""
    command = [program, "127.0.0.1", str(gate.port)]
    return subprocess.run(
        command, input=b"EHLO x\r\n", capture_output=True, check=True, timeout=PATIENCE
    ).stdout.decode()


def swaks(program: str, gate: Gate, recipient: str) -> subprocess.CompletedProcess[str]:
    command = [program, "--server", f"127.0.0.1:{gate.port}", "--from", "a@example.com", "--to", recipient]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)


def test_the_quick_start_does_what_it_says(
    gate: Gate, tmp_path: Path, require_program: Callable[[str, str], str]
) -> None:
    nc, sender = require_program("nc", "netcat-openbsd"), require_program("swaks", "swaks")
    assert talk_early(nc, gate).startswith("554 5.5.1 ")

    start = time.monotonic()
    sent = swaks(sender, gate, "postmaster@localhost")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert time.monotonic() - start >= DELAY
    (mail,) = (tmp_path / "state" / "gatepost" / "maildir" / "postmaster" / "new").iterdir()
    assert "\nTo: postmaster@localhost\n" in mail.read_text()

    assert talk_early(nc, gate).startswith("554 5.5.1 ")


def test_a_client_that_talks_early_is_refused_before_the_delay_is_over(
    tmp_path: Path, environ: dict[str, str], require_program: Callable[[str, str], str]
) -> None:
    nc = require_program("nc", "netcat-openbsd")
    with Gate(tmp_path, None, environ | {"GATEPOST__PLUGINS__EARLYTALKER__DELAY": f"{LONG_DELAY:.0f}s"}) as gate:
        assert talk_early(nc, gate).startswith("554 5.5.1 ")


def test_mail_for_another_domain_is_refused(gate: Gate, require_program: Callable[[str, str], str]) -> None:
    sent = swaks(require_program("swaks", "swaks"), gate, "someone@example.net")
    assert sent.returncode != 0
    assert "<** 550 5.7.1 " in sent.stdout
