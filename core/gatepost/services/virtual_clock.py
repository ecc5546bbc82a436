"""Clocks for tests, ``gatepost try`` and replay: one moves only when told to, and one skips the time of sleeps.

See ``clock`` for the clock of a running server.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from itertools import count

from mypy_extensions import mypyc_attr

from gatepost.services.clock import Sleeping, SystemClock, Timer


@mypyc_attr(allow_interpreted_subclasses=True)
class VirtualClock(Sleeping):
    """A clock that stands still until ``advance`` or ``jump``.

    ``start`` is the first value of ``now()``, in seconds since the epoch.
    """

    __slots__ = ("_due", "_elapsed", "_number", "_pending", "_start")

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._start = start
        self._elapsed = 0.0
        self._due: list[tuple[float, int, Timer]] = []
        self._pending: dict[Timer, None] = {}
        self._number = count()

    def now(self) -> float:
        """Return the virtual seconds since the epoch."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Return the virtual seconds since this clock was created."""
        return self._elapsed

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback()`` when the clock has moved on by ``seconds``."""
        timer = Timer(callback, self._pending)
        heapq.heappush(self._due, (self._elapsed + seconds, next(self._number), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """Move on by ``seconds``; fire the timers on the way and let tasks settle after each."""
        end = self._elapsed + seconds
        await settle()
        while self._due and self._due[0][0] <= end:
            self._run_next()
            await settle()
        self._elapsed = end

    async def jump(self) -> bool:
        """Move on to the next timer and fire it; return False when there is no timer."""
        await settle()
        while self._due and self._due[0][2] not in self._pending:
            heapq.heappop(self._due)
        if not self._due:
            return False
        self._run_next()
        await settle()
        return True

    def _run_next(self) -> None:
        due, _, timer = heapq.heappop(self._due)
        self._elapsed = max(self._elapsed, due)  # a timer set with negative seconds must not turn time back
        timer.fire()


async def settle(rounds: int = 20) -> None:
    """Let the tasks that are ready run until they wait."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class HastyClock(SystemClock):
    """The clock of the machine, which ``sleep`` moves on instead of waiting. Timers take their usual time."""

    __slots__ = ("skipped",)

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0
        """Seconds of sleep that were skipped."""

    def now(self) -> float:
        """Return the seconds since the epoch, including skipped ones."""
        return time.time() + self.skipped

    def monotonic(self) -> float:
        """Return the seconds on a clock that never jumps back, including skipped ones."""
        return time.monotonic() + self.skipped

    async def sleep(self, seconds: float) -> None:
        """Let other tasks run, then move the clock on by ``seconds``."""
        await asyncio.sleep(0)
        self.skipped += seconds
