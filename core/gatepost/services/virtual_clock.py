"""Clocks that spare a wait: one that stands still until it is moved on, and one that skips what is slept.

For tests, ``gatepost try`` and replay. See ``clock`` for the one that a server uses.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from itertools import count

from mypy_extensions import mypyc_attr

from gatepost.services.clock import SystemClock, Timer, _Sleeping


@mypyc_attr(allow_interpreted_subclasses=True)
class VirtualClock(_Sleeping):
    """A clock that stands still until ``advance``: for tests, ``gatepost try`` and replay.

    ``start`` is what ``now()`` says first, in seconds since the epoch.
    """

    __slots__ = ("_due", "_elapsed", "_number", "_pending", "_start")

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self._start = start
        self._elapsed = 0.0
        self._due: list[tuple[float, int, Timer]] = []
        self._pending: dict[Timer, None] = {}
        self._number = count()

    def now(self) -> float:
        """Virtual seconds since the epoch."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Virtual seconds since this clock was made."""
        return self._elapsed

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback()`` once the clock has been advanced by ``seconds``."""
        timer = Timer(callback, self._pending)
        heapq.heappush(self._due, (self._elapsed + seconds, next(self._number), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        """Move on by ``seconds``, running what falls due on the way and letting tasks settle after each."""
        end = self._elapsed + seconds
        await settle()
        while self._due and self._due[0][0] <= end:
            self._run_next()
            await settle()
        self._elapsed = end

    async def jump(self) -> bool:
        """Move to the next timer and run it; False when there is none to wait for."""
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
        self._elapsed = max(self._elapsed, due)
        timer.fire()


async def settle(rounds: int = 20) -> None:
    """Let tasks that are ready run until they wait for something else."""
    for _ in range(rounds):
        await asyncio.sleep(0)


class HastyClock(SystemClock):
    """The machine's clock, except that who sleeps is at once that much later. Time limits run as usual."""

    __slots__ = ("skipped",)

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0
        """Seconds that nobody had to wait."""

    def now(self) -> float:
        """Seconds since the epoch, with those that were skipped."""
        return time.time() + self.skipped

    def monotonic(self) -> float:
        """Seconds on a clock that never jumps back, with those that were skipped."""
        return time.monotonic() + self.skipped

    async def sleep(self, seconds: float) -> None:
        """Be ``seconds`` later, after the others have had a turn."""
        await asyncio.sleep(0)
        self.skipped += seconds
