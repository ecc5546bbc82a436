"""Count the instructions that a server's process executes, with callgrind (valgrind).

    with counted(default_chain()).running() as running:
        counter = Counter(running)
        counter.switch_on()
        print(counter.count(lambda: ...))  # connect to running.host, running.port

The server starts and warms up without being counted, which is five times faster; ``vgdb``, a part of valgrind, then
switches counting on. A count begins and ends when the server is idle. It includes neither the clients, which are other
processes, nor the kernel.

To make counts repeatable, hashes have a fixed seed, addresses are not random, and the store is in memory: SQLite's
writer is a thread that works by the clock, and the clock does not slow down with the server. Only timers still depend
on the clock, and they cost next to nothing. This module knows no SMTP.
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
"""Seconds without a tick of CPU after which the server counts as idle."""
PATIENCE = 60.0
"""Seconds in which valgrind must have done what it is told."""

_VALGRIND = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={OUT}")
_PIPES = "vgdb"
"""Prefix of the pipes to valgrind; they are in the server's folder, which is removed with them."""
_ENVIRON = {"PYTHONHASHSEED": "0", "GATEPOST__STORE__URL": "memory:"}


class CountingError(Exception):
    """An error of valgrind: it does not count, or its result cannot be read."""


def missing() -> str | None:
    """Return the reason why nothing can be counted here, or None if it can."""
    return not_installed("valgrind", "valgrind")


def counted(server: Server) -> Server:
    """Return the same server, a program in Python, under callgrind."""

    def lay_out(place: Place) -> Command:
        command = server.lay_out(place)
        pipes = f"--vgdb-prefix={place.folder / _PIPES}"
        arguments = [*_VALGRIND, pipes, sys.executable, *command.arguments]
        return Command(arguments, {**command.environ, **_ENVIRON})

    def why_not() -> str | None:
        return missing() or server.missing()

    return dataclasses.replace(server, lay_out=lay_out, missing=why_not)


class Counter:
    """Counts the instructions of a server made by ``counted``. Its methods raise CountingError if valgrind fails."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._written = 0

    def switch_on(self) -> None:
        """Begin to count, which slows the server down to a fiftieth of its speed."""
        self._settle()
        self._tell("instrumentation", "on")

    def count(self, work: Callable[[], object]) -> int:
        """Return the number of instructions that the server executes for ``work``, in all its threads."""
        self._settle()
        self._tell("zero")
        work()
        self._settle()
        self._tell("dump")
        self._written += 1
        total = re.search(r"^totals: (\d+)", self.profile.read_text(errors="replace"), re.MULTILINE)
        if total is None:
            raise CountingError(f"callgrind wrote no total into {self.profile}")
        return int(total[1])

    @property
    def profile(self) -> Path:
        """The profile of the last count, for ``callgrind_annotate``; it is removed when the server ends."""
        return self._running.folder / f"{OUT}.{self._written}"

    def _settle(self) -> None:
        """Wait until the server has completed its work after a reply: records, ``queued``, ``disconnect``."""
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
            raise CountingError(f"vgdb could not pass on the command {' '.join(words)!r}: {error}") from error
