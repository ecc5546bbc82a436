"""The clock: the only source of time, sleep and timers in gatepost.

``SystemClock`` keeps all timers of the process in one timing wheel: a bucket for each tenth of a second, and one
``loop.call_later`` for the next bucket that is not empty. So a waiting client costs an entry in a dict, not a timer in
the event loop's heap. The wheel rounds up: a timer never fires early, and at most one tick late.

``virtual_clock`` has a clock that only moves when told to, so that a test of a 30 s delay takes no time.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

TICK: Final = 0.1
"""Seconds of a bucket of the timing wheel."""


class Timer:
    """A callback that is due at some time. ``cancel()`` may be called at any time, even twice."""

    __slots__ = ("_bucket", "_callback")

    def __init__(self, callback: Callable[[], object], bucket: dict[Timer, None]) -> None:
        self._callback: Callable[[], object] | None = callback
        self._bucket = bucket
        bucket[self] = None

    def cancel(self) -> None:
        """Drop the callback. Does nothing if it has run."""
        self._bucket.pop(self, None)
        self._callback = None

    def fire(self) -> None:
        """Run the callback, unless it has run or was cancelled."""
        callback = self._callback
        self.cancel()
        if callback is not None:
            callback()


class Clock(Protocol):
    """The service that a plugin gets as ``clock``."""

    def now(self) -> float:
        """Return the seconds since the epoch, for timestamps that outlive the process."""

    def monotonic(self) -> float:
        """Return the seconds on a clock that never jumps, for measurements and deadlines."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback()`` on the event loop in ``seconds``."""

    async def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Sleeping:
    """``sleep`` by means of ``call_later``, the same for both clocks."""

    __slots__ = ()

    async def sleep(self: Clock, seconds: float) -> None:
        """Wait for ``seconds``."""
        woken = asyncio.Event()
        timer = self.call_later(seconds, woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()


@mypyc_attr(allow_interpreted_subclasses=True)
class SystemClock(Sleeping):
    """The clock of the machine, with a timing wheel on the event loop that runs when the first timer is set."""

    __slots__ = ("_buckets", "_handle", "_loop", "_next_tick", "_ticks")

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._buckets: dict[int, dict[Timer, None]] = {}  # a set takes twice the memory per timer
        self._ticks: list[int] = []  # a heap of the keys of _buckets, to find the next one
        self._handle: asyncio.TimerHandle | None = None
        self._next_tick = 0

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback()`` on the event loop in ``seconds``, at most one tick late."""
        tick = int((time.monotonic() + seconds) / TICK) + 1  # rounded up, so that no timer fires early
        bucket = self._buckets.get(tick)
        if bucket is None:
            bucket = self._buckets[tick] = {}
            heapq.heappush(self._ticks, tick)
            if self._handle is None or tick < self._next_tick:
                self._wake_at(tick)
        return Timer(callback, bucket)

    def _wake_at(self, tick: int) -> None:
        """Make the loop turn the wheel at ``tick``, instead of at a later one."""
        if self._handle is not None:
            self._handle.cancel()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._next_tick = tick
        self._handle = self._loop.call_later(max(0.0, tick * TICK - time.monotonic()), self._turn)

    def _turn(self) -> None:
        """Fire all timers that are due, then wait for the next bucket."""
        assert self._loop is not None
        self._handle = None
        present = int(time.monotonic() / TICK)
        while self._ticks and self._ticks[0] <= present:
            bucket = self._buckets.pop(heapq.heappop(self._ticks))
            # Not called from here: a callback that raises would keep the others from being called. A timer that is
            # cancelled by one before it has no callback any more.
            while bucket:
                self._loop.call_soon(bucket.popitem()[0].fire)
        if self._ticks and self._handle is None:
            self._wake_at(self._ticks[0])
