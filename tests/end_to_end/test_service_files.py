"""The unit for systemd and the file for logrotate in the manual are accepted by these programs, and do their work."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.end_to_end.client import send
from tests.end_to_end.gate import SCRIPT, configuration
from tests.patience import PATIENCE

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
POLICY = """
[plugins]
order = ["access", "recipients", "discard"]
[plugins.access]
deny = [{ sender = "a@example.org", reason = "for the log" }]
[plugins.recipients]
domains = ["example.test"]
"""


def test_systemd_accepts_the_unit(require_program: Callable[[str, str], str], tmp_path: Path) -> None:
    verify = require_program("systemd-analyze", "systemd")
    text = (EXAMPLES / "gatepost.service").read_text()
    assert "/opt/gatepost/bin/gatepost" in text
    unit = tmp_path / "gatepost.service"
    unit.write_text(text.replace("/opt/gatepost/bin/gatepost", str(SCRIPT)))
    done = subprocess.run([verify, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    about_ours = [line for line in done.stderr.splitlines() if "gatepost" in line]
    assert (done.returncode, about_ours) == (0, [])
    unit.write_text(unit.read_text().replace("Restart=on-failure", "Restart=sometimes"))
    done = subprocess.run([verify, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert "restart specifier" in done.stderr  # it does look at what stands there


def test_the_log_goes_on_in_the_file_that_logrotate_has_emptied(
    require_program: Callable[[str, str], str], tmp_path: Path
) -> None:
    logrotate = require_program("logrotate", "logrotate")
    log, rules = tmp_path / "gatepost.log", tmp_path / "rules"
    rules.write_text((EXAMPLES / "gatepost.logrotate").read_text().replace("/var/log/gatepost.log", str(log)))
    rules.chmod(0o644)
    tmp_path.chmod(0o755)
    with log.open("ab") as opened:  # as StandardError=append: does
        process = subprocess.Popen(
            [str(SCRIPT), "serve", "--config", str(configuration(tmp_path, POLICY))], stderr=opened, cwd=tmp_path
        )
    try:
        started = line_of(log, "started")
        port = int(started["listen"][0].rpartition(":")[2])
        asyncio.run(send(port, "b@example.test", b""))
        line_of(log, "refused")
        command = [logrotate, "--force", "--state", str(tmp_path / "status"), str(rules)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "started" in (tmp_path / "gatepost.log.1").read_text()
        asyncio.run(send(port, "b@example.test", b""))
        line_of(log, "refused")
        events = [json.loads(line)["event"] for line in log.read_text().splitlines()]
        assert "started" not in events and "\0" not in log.read_text()
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0


def line_of(log: Path, event: str) -> dict[str, list[str]]:
    """Wait until there is a line of ``event``, and return it."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for line in log.read_text().splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n") and json.loads(line)["event"] == event:
                found: dict[str, list[str]] = json.loads(line)
                return found
        time.sleep(0.01)
    raise AssertionError(f"no line of {event}: {log.read_text()}")
