"""The clients of one server, run after run, and what the server spends on them.

The CPU time is that of the server's whole process tree, until it is idle again: what it does behind a reply, or after
a connection, belongs to the work. Times are seconds.
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
"""A server that has worked no more than a tick in so many seconds is idle."""
TAILS = 50

SESSIONS = 20
"""At once, unless it is said otherwise."""
NEW_SESSIONS = 500
"""At once of clients that are new: each is held for a moment, which costs the server nothing."""
SPINNING = "--spinning"
"""The option of a load in a run whose figure is CPU time (``loads/session.py`` says why)."""
FIRST_TRIAL = 400
"""How many messages or connections a server is tried with first."""
WARM_UP = 4.0
"""No warm-up is longer than so many runs."""

REMEMBERING = frozenset({"gatepost", "gatepost-dns-0", "gatepost-logging", "gatepost-interpreted"})
"""Servers that know their clients: all of them must have been there before, as in the steady state."""


@dataclass(frozen=True, slots=True)
class Trip:
    """What came of some traffic: the server's CPU seconds, those on the clock, and all that the load printed."""

    cpu: float
    seconds: float
    printed: Mapping[str, Any]


class Traffic:
    """Brings clients to a server. They take turns: those of a run follow those of the run before."""

    def __init__(self, running: Running, effort: Effort) -> None:
        self._port = running.port
        self._tree = Tree(running.pid)
        self._effort = effort
        self._first = 0

    def introduce(self) -> None:
        """Let every client send its first message, as one that the server does not know."""
        self.send("messages", self._effort.triples, "--sessions", NEW_SESSIONS, "--introducing")

    def bring(self, load: str, count: int, *options: object) -> Trip:
        """Let the load do ``count`` of what it does. Raises LoadError if the server did not do its part."""
        before = self._tree.cpu()
        printed = self.send(load, count, *options)
        return Trip(self._idle() - before, printed["seconds"], printed)

    def send(self, load: str, count: int, *options: object) -> dict[str, Any]:
        """The same where CPU does not count: it does not wait until the server is idle. Gives what the load printed."""
        place = ("--port", self._port, "--clients", self._effort.triples, "--first", self._first)
        sessions = () if "--sessions" in options else ("--sessions", SESSIONS)
        self._first += count
        return loads.run(load, *place, "--count", count, *sessions, *options)

    def enough(self, load: str, *options: object, each: int = 1) -> int:
        """Find the count that lasts as long as a run shall; the server has been warmed up by it.

        It is a multiple of what all sessions do at once if one of them does ``each``, so that none is left alone. A
        server is warm when every client has been there once: Node.js halves its time on the way there.
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
        """The server's CPU seconds, when it has come to rest."""
        now = self._tree.cpu()
        for _ in range(TAILS):
            time.sleep(TAIL)
            before, now = now, self._tree.cpu()
            if now - before < 1.5 / TICKS:
                break
        return now
