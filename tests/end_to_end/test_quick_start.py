"""What the quick start of README and manual promises: the embedded default, tried with swaks and nc."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.gate import Gate

DELAY = 3.0
AT_ONCE = 1.0


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """``gatepost serve`` where there is no configuration, by somebody who never had any state."""
    environ = {
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "GATEPOST__LISTEN__SMTP__BIND": '["127.0.0.1:0"]',
    }
    with Gate(tmp_path, None, environ) as running:
        yield running


def talk_early(program: str, gate: Gate) -> tuple[str, float]:
    """``printf 'EHLO x\\r\\n' | nc``: the first line that it prints, and after how many seconds."""
    start = time.monotonic()
    with subprocess.Popen(
        [program, "127.0.0.1", str(gate.port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as netcat:
        assert netcat.stdin is not None and netcat.stdout is not None
        netcat.stdin.write(b"EHLO x\r\n")
        netcat.stdin.close()
        line = netcat.stdout.readline().decode()
        seconds = time.monotonic() - start
        assert netcat.stdout.read() == b""
    return line, seconds


def swaks(program: str, gate: Gate, recipient: str) -> subprocess.CompletedProcess[str]:
    command = [program, "--server", f"127.0.0.1:{gate.port}", "--from", "a@example.com", "--to", recipient]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_quick_start_does_what_it_says(
    gate: Gate, tmp_path: Path, require_program: Callable[[str, str], str]
) -> None:
    nc, sender = require_program("nc", "netcat-openbsd"), require_program("swaks", "swaks")
    line, seconds = talk_early(nc, gate)
    assert line.startswith("554 5.5.1 ") and seconds < AT_ONCE

    start = time.monotonic()
    sent = swaks(sender, gate, "postmaster@localhost")
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert time.monotonic() - start >= DELAY
    (mail,) = (tmp_path / "state" / "gatepost" / "maildir" / "postmaster" / "new").iterdir()
    assert "\nTo: postmaster@localhost\n" in mail.read_text()

    line, seconds = talk_early(nc, gate)
    assert line.startswith("554 5.5.1 ") and seconds < AT_ONCE


def test_mail_for_somebody_else_is_refused(gate: Gate, require_program: Callable[[str, str], str]) -> None:
    sent = swaks(require_program("swaks", "swaks"), gate, "someone@example.net")
    assert sent.returncode != 0
    assert "<** 550 5.7.1 " in sent.stdout
