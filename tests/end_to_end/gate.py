"""The whole server as an administrator runs it: the installed ``gatepost`` script in a process of its own.

    with Gate(folder, policy) as gate:
        ...  # connect to gate.port

It listens on free ports of loopback and is stopped with SIGTERM. ``log`` has what it has logged, one JSON object for
each line. Stopping it fails if there is a traceback on its standard error or an "internal_error" in its log.
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

from tests.patience import PATIENCE

SCRIPT = Path(sys.executable).with_name("gatepost")
HOSTNAME = "gate.example.test"
LOOPBACK = ("127.0.0.1:0",)


def run(
    *arguments: str, environ: Mapping[str, str] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``gatepost`` with these arguments until it ends."""
    return subprocess.run(
        [str(SCRIPT), *arguments],
        env=_environ(environ),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )


def configuration(folder: Path, policy: str, listen: Sequence[str] = LOOPBACK) -> Path:
    """Write a configuration into ``folder``: host name, state, the TOML of ``policy``, and one listener."""
    head = f'hostname = "{HOSTNAME}"\nstate_dir = "{folder / "state"}"\n'
    path = folder / "gatepost.toml"
    path.write_text(f"{head}{policy}\n[listen.smtp]\nbind = {json.dumps(listen)}\n")
    return path


class Gate:
    """One server, as a context manager.

    Without ``config`` it uses its embedded default; ``environ`` must set the port then. ``groups`` are the
    supplementary groups of its process, which only root can set.
    """

    _process: subprocess.Popen[bytes]

    def __init__(
        self,
        folder: Path,
        config: Path | None,
        environ: Mapping[str, str] | None = None,
        groups: Sequence[int] | None = None,
    ) -> None:
        self.folder = folder
        self.config = config
        self.listening: list[tuple[str, int]] = []
        self._environ = dict(environ or {})
        self._groups = groups
        self._log = folder / "log"

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
        """The port of its first listener."""
        return self.listening[0][1]

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def log(self) -> list[dict[str, Any]]:
        """The JSON lines that it has logged since its start, without the lines in plain words for people."""
        lines = self._log.read_bytes().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"\n")]

    def lines(self, event: str, **facts: object) -> list[dict[str, Any]]:
        """Return the log lines of ``event`` that have these facts."""
        return [line for line in self.log if line["event"] == event and facts.items() <= line.items()]

    def wait_for(self, event: str, **facts: object) -> dict[str, Any]:
        """Wait until there is such a log line, and return the first one."""
        self._wait(lambda: self.lines(event, **facts), f"log {event!r} with {facts}")
        return self.lines(event, **facts)[0]

    def start(self) -> None:
        """Start it and wait until it accepts clients. Raises RuntimeError with its log if it does not."""
        command = [str(SCRIPT), "serve", *(["--config", str(self.config)] if self.config else [])]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=_environ(self._environ),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                extra_groups=self._groups,
            )
        self._wait(lambda: self.lines("started"), "start")
        self.listening = [_host_and_port(text) for text in self.lines("started")[0]["listen"]]

    def stop(self) -> None:
        """Stop it as a supervisor would, and check that it ended cleanly."""
        self.terminate()
        self.wait()

    def terminate(self) -> None:
        """Tell it to stop, without waiting until it has."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until it has ended, and check that it ended cleanly."""
        try:
            status = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        text = self._log.read_text()
        assert "Traceback" not in text, text
        assert "internal_error" not in text, text
        assert status == 0, text

    def kill(self) -> None:
        """Kill it, as a power cut would. Does nothing if it has ended."""
        self._process.kill()
        self._process.wait()

    def explain(self, identifier: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run ``gatepost explain`` for a record, as an administrator does."""
        return run("explain", identifier, *options, "--config", str(self.config), folder=self.folder)

    def _wait(self, condition: Callable[[], object], what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            if self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"gatepost did not {what}; its log:\n{self._log.read_text()}")
            time.sleep(0.01)


def _host_and_port(text: str) -> tuple[str, int]:
    """Split an address of the form that a configuration has, with an IPv6 address in brackets."""
    found = re.fullmatch(r"(?:\[([0-9a-f:]+)\]|([0-9.]+)):(\d+)", text)
    assert found is not None, text
    return found[1] or found[2], int(found[3])


def _environ(given: Mapping[str, str] | None) -> dict[str, str]:
    """Return our environment, without variables that would change a configuration, and what is given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GATEPOST")}
    return inherited | dict(given or {})
