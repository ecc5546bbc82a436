"""The clients of one server, run after run, and the CPU time that the server spends on them.

CPU time is that of the server's whole process tree until it is idle again, because its work after a reply or after the
end of a connection counts too. Times are in seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.bench import loads
from tests.bench.servers.running import Running
from tests.bench.tree import TICKS, Tree
from tests.bench.works import Effort

TAIL = 0.2
"""A server that has used no more than one tick of CPU time in so many seconds is idle."""
TAILS = 50

SESSIONS = 20
"""Sessions at once, unless the options of a load have another number."""
NEW_SESSIONS = 500
"""Sessions at once of new clients. Each is held for a moment, which costs the server nothing, so more fit."""
SPINNING = "--spinning"
"""The option of a load in a run that measures CPU time (``loads/session.py`` gives the reason)."""
FIRST_TRIAL = 400
"""Messages or connections of the first trial."""
WARM_UP = 4.0
"""The longest warm-up, as a multiple of the time of a run."""

REMEMBERING = frozenset({"gatepost", "gatepost-dns-0", "gatepost-logging", "gatepost-interpreted", "gatepost-as-run"})
"""Servers that remember clients. All clients must have connected before a run, as in the steady state."""


@dataclass(frozen=True, slots=True)
class Trip:
    """The result of some traffic: the server's CPU seconds, the elapsed seconds, and the output of the load."""

    cpu: float
    seconds: float
    printed: Mapping[str, Any]


class Traffic:
    """Sends clients to a server. They take turns: those of a run follow those of the run before."""

    def __init__(self, running: Running, effort: Effort) -> None:
        self._port = running.port
        self._tree = Tree(running.pid)
        self._effort = effort
        self._first = 0

    def introduce(self) -> None:
        """Let every client send its first message, while the server does not know it yet."""
        self.send("messages", self._effort.triples, "--sessions", NEW_SESSIONS, "--introducing")

    def bring(self, load: str, count: int, *options: object) -> Trip:
        """Send ``count`` messages or connections, and measure the server. Raises LoadError if one of them fails."""
        before = self._tree.cpu()
        printed = self.send(load, count, *options)
        return Trip(self._idle() - before, printed["seconds"], printed)

    def send(self, load: str, count: int, *options: object) -> dict[str, Any]:
        """Send without measuring CPU time, so without waiting until the server is idle. Return the load's output."""
        place = ("--port", self._port, "--clients", self._effort.triples, "--first", self._first)
        sessions = () if "--sessions" in options else ("--sessions", SESSIONS)
        self._first += count
        return loads.run(load, *place, "--count", count, *sessions, *options)

    def enough(self, load: str, *options: object, each: int = 1) -> int:
        """Warm up the server, and return the count for a run of the intended length.

        It is a multiple of ``each`` for all sessions, so that no session ends up alone. A server is warm when every
        client has connected once; Node.js halves its time until then.
        """
        step = SESSIONS * each
        rounds, seconds = max(1, FIRST_TRIAL // step), 0.0
        trial = self._effort.seconds / 3
        cold, end = self._effort.triples, time.monotonic() + WARM_UP * self._effort.seconds
        while seconds < trial or (cold > 0 and time.monotonic() < end):
            seconds = self.send(load, rounds * step, *options)["seconds"]
            cold -= rounds * step
            wanted = self._effort.seconds if seconds >= trial else trial * 1.3
            rounds = math.ceil(rounds * min(wanted / seconds, 20))
        return rounds * step

    def _idle(self) -> float:
        """Wait until the server is idle, and return its CPU seconds."""
        now = self._tree.cpu()
        for _ in range(TAILS):
            time.sleep(TAIL)
            before, now = now, self._tree.cpu()
            if now - before < 1.5 / TICKS:
                break
        return now
