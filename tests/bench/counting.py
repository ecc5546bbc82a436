"""gatepost under callgrind (valgrind): how many instructions its process executes between two moments.

    with counted(default_chain()).running() as running:
        counter = Counter(running)
        counter.switch_on()
        print(counter.count(lambda: ...))  # connect to running.host, running.port

The server starts and is warmed up without being counted, which is five times faster; ``vgdb``, which comes with
valgrind, then switches counting on. Both ends of a count are quiet moments, when the server has done all it had to do.
Clients are another process and the kernel is nobody's: neither is counted.

So that two runs give the same number, hashes have one seed, addresses are not random, and the store is in memory:
SQLite's writer is a thread that works by the clock, and time does not slow down with the server. What is left of the
clock are timers, which cost next to nothing. It knows no SMTP.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.servers.running import Command, Place, Running, Server, not_installed
from tests.bench.tree import Tree

OUT = "callgrind.out"
QUIET = 0.1
"""Seconds without a tick of CPU after which the server has nothing left to do."""
PATIENCE = 60.0
"""Seconds that valgrind has to do what it is told."""

_VALGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={OUT}")
_PIPES = "vgdb"
"""How the names of the pipes begin over which valgrind is told: in the server's folder, so that none is left behind."""
_ENVIRON = {"PYTHONHASHSEED": "0", "GATEPOST__STORE__URL": "memory:"}


class CountingError(Exception):
    """valgrind does not count, or does not say how much."""


def missing() -> str | None:
    """Say why nothing can be counted here, or None if it can."""
    return not_installed("valgrind", "valgrind")


def counted(server: Server) -> Server:
    """The server, a program in Python, under callgrind."""

    def lay_out(place: Place) -> Command:
        command = server.lay_out(place)
        pipes = f"--vgdb-prefix={place.folder / _PIPES}"
        arguments = [*_VALGRIND, pipes, sys.executable, *command.arguments]
        return Command(arguments, {**command.environ, **_ENVIRON})

    def why_not() -> str | None:
        return missing() or server.missing()

    return dataclasses.replace(server, lay_out=lay_out, missing=why_not)


class Counter:
    """Counts the instructions of a server that ``counted`` has made. Raises CountingError when valgrind does not."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._written = 0

    def switch_on(self) -> None:
        """Count from now on, at a fiftieth of the server's speed."""
        self._settle()
        self._tell("instrumentation", "on")

    def count(self, work: Callable[[], object]) -> int:
        """How many instructions ``work`` has made the server execute, all its threads together."""
        self._settle()
        self._tell("zero")
        work()
        self._settle()
        self._tell("dump")
        self._written += 1
        total = re.search(r"^totals: (\d+)", self.profile.read_text(errors="replace"), re.MULTILINE)
        if total is None:
            raise CountingError(f"there is no total in what callgrind wrote, {self.profile}")
        return int(total[1])

    @property
    def profile(self) -> Path:
        """What callgrind wrote of the last count, for ``callgrind_annotate``; gone when the server ends."""
        return self._running.folder / f"{OUT}.{self._written}"

    def _settle(self) -> None:
        """Wait until the server has done what it does after a reply: records, ``queued``, ``disconnect``."""
        tree, before = Tree(self._running.pid), -1.0
        while (now := tree.cpu()) != before:
            before = now
            time.sleep(QUIET)

    def _tell(self, *words: str) -> None:
        pipes = f"--vgdb-prefix={self._running.folder / _PIPES}"
        try:
            subprocess.run(
                ["vgdb", pipes, f"--pid={self._running.pid}", *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=True,
                timeout=PATIENCE,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise CountingError(f"vgdb cannot tell the server's valgrind to {' '.join(words)}: {error}") from error
