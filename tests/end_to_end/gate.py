"""The whole server as an administrator runs it: the installed ``gatepost`` script in a process of its own.

    with Gate(folder, policy) as gate:
        ...  # connect to gate.port

It is started on free ports of loopback and stopped with SIGTERM. What it logs is in ``log``, one JSON object a line. A
traceback on its standard error, or a line that says "internal_error", fails whoever stops it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

SCRIPT = Path(sys.executable).with_name("gatepost")
HOSTNAME = "gate.example.test"
LOOPBACK = ("127.0.0.1:0",)
START_LIMIT = 20.0
STOP_LIMIT = 30.0


def run(
    *arguments: str, environ: Mapping[str, str] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``gatepost`` with these arguments to its end."""
    return subprocess.run(
        [str(SCRIPT), *arguments],
        env=_environ(environ),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def configuration(folder: Path, policy: str, listen: Sequence[str] = LOOPBACK) -> Path:
    """Write a configuration into ``folder``: host name and state, the TOML of ``policy``, and one listener."""
    head = f'hostname = "{HOSTNAME}"\nstate_dir = "{folder / "state"}"\n'
    path = folder / "gatepost.toml"
    path.write_text(f"{head}{policy}\n[listen.smtp]\nbind = {json.dumps(listen)}\n")
    return path


class Gate:
    """One server, as a context manager. ``config`` None is the embedded default; then ``environ`` says the port."""

    def __init__(self, folder: Path, config: Path | None, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.config = config
        self.listening: list[tuple[str, int]] = []
        self._environ = dict(environ or {})
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.stop()
        else:
            self.kill()

    @property
    def port(self) -> int:
        """Where its first listener listens."""
        return self.listening[0][1]

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it has logged since it was started: whole lines, without what it tells people in plain words."""
        lines = self._log.read_bytes().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"\n")]

    def lines(self, event: str, **facts: object) -> list[dict[str, Any]]:
        """The log lines of ``event`` that have these facts."""
        return [line for line in self.log if line["event"] == event and facts.items() <= line.items()]

    def wait_for(self, event: str, **facts: object) -> dict[str, Any]:
        """Wait until there is such a log line, and return the first."""
        self._wait(lambda: self.lines(event, **facts), f"log {event!r} with {facts}", 10)
        return self.lines(event, **facts)[0]

    def start(self) -> None:
        """Start, and wait until it accepts clients. Raises RuntimeError with its log if it does not."""
        command = [str(SCRIPT), "serve", *(["--config", str(self.config)] if self.config else [])]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, env=_environ(self._environ), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._wait(lambda: self.lines("started"), "start", START_LIMIT)
        self.listening = [_place(text) for text in self.lines("started")[0]["listen"]]

    def stop(self) -> None:
        """Stop it as a supervisor would, and see that it ended in good order."""
        self.terminate()
        self.wait()

    def terminate(self) -> None:
        """Tell it to stop."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has ended, and see that it ended in good order."""
        assert self._process is not None
        try:
            status = self._process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        text = self._log.read_text()
        assert "Traceback" not in text, text
        assert "internal_error" not in text, text
        assert status == 0, text

    def kill(self) -> None:
        """End it as a power cut would. Does nothing when it has ended."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def explain(self, identifier: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Ask for a record as an administrator does."""
        return run("explain", identifier, *options, "--config", str(self.config), folder=self.folder)

    def _wait(self, condition: Callable[[], object], what: str, limit: float) -> None:
        assert self._process is not None
        end = time.monotonic() + limit
        while not condition():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"gatepost did not {what}; its log:\n{self._log.read_text()}")
            time.sleep(0.01)


def _place(text: str) -> tuple[str, int]:
    """A place as the configuration would have it: an IPv6 address stands in brackets."""
    found = re.fullmatch(r"(?:\[([0-9a-f:]+)\]|([0-9.]+)):(\d+)", text)
    assert found is not None, text
    return found[1] or found[2], int(found[3])


def _environ(given: Mapping[str, str] | None) -> dict[str, str]:
    """Our environment without what would change a configuration, and what is given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEPOST")}
    return inherited | dict(given or {})
