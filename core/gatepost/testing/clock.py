"""Virtual time: a clock for tests, and ``wait_for``, which awaits work that may sleep, use threads, or never end.

While all tasks wait, the clock jumps to the next timer, so that a wait of 30 s takes no time. It stands still while a
thread works, and for some real seconds while the loop waits for a socket or for a timer of asyncio (``outside``):
otherwise the time limit of a call would expire before its thread has run or its server has answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, TypeVar

from pydantic import TypeAdapter

from gatepost.concurrency import Threads
from gatepost.options import Duration
from gatepost.plugins import JOB
from gatepost.services.clock import Clock
from gatepost.services.virtual_clock import VirtualClock, settle
from gatepost.testing.outside import Outside, outside

T = TypeVar("T")

LONGEST = 3600.0
"""Virtual seconds after which work counts as endless."""
PATIENCE = 10.0
"""Real seconds after which work counts as endless that waits for a thread, a socket or an event, not for the clock."""

OUTSIDE_PATIENCE = 3.0
"""Real seconds without activity for which the clock stands still while the loop waits for sockets or timers of asyncio.

A peer in a test that needs longer looks like one that never answers; with ``clock="real"`` it may take its time."""
THREAD_PAUSE = 0.05
"""Real seconds after which a thread that works counts as waiting for a task that sleeps on the clock: a blocking hook
may ask DNS through the loop, and the answer takes virtual time."""

QUIET = 0.02
"""The same while a task sleeps on the clock as well."""

_NAP = 0.001
_duration = TypeAdapter[float](Duration)


def seconds(duration: str | float) -> float:
    """Return the seconds of a duration as in a configuration ("6s", "500ms", "36d"), or of a number of seconds."""
    return _duration.validate_python(duration)


class TestClock(VirtualClock):
    """A clock that only moves when all tasks are idle, or when the test advances it."""

    __slots__ = ("sleeping",)
    __test__ = False

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        super().__init__(start)
        self.sleeping = 0
        """Tasks that sleep on this clock, other than repeated jobs."""

    async def sleep(self, seconds: float) -> None:
        """Wait for virtual ``seconds``."""
        task = asyncio.current_task()
        counts = int(task is None or task.get_name() != JOB)
        self.sleeping += counts
        try:
            await super().sleep(seconds)
        finally:
            self.sleeping -= counts

    async def advance(self, seconds_: str | float) -> None:
        """Move on by a duration, "6s" or 6.0, and fire the timers on the way."""
        await super().advance(seconds(seconds_))

    def set_back(self, duration: str | float) -> None:
        """Set the time of day back, as when the clock of the machine is set. Monotonic time does not change."""
        self._start -= seconds(duration)


async def wait_for(work: Coroutine[Any, Any, T], clock: Clock, *, pause: float = 0.0) -> T:
    """Await ``work`` while a virtual clock jumps to its next timer whenever all tasks are idle.

    ``pause`` is the time without activity before a jump, in real seconds. It must be more than 0 if octets travel
    through sockets of the kit. Any other clock moves by itself. Raises ``AssertionError`` when the work never ends.
    """
    if not isinstance(clock, VirtualClock):
        return await work
    around = outside()
    latest, given_up = clock.monotonic() + LONGEST, monotonic() + PATIENCE
    quiet = _Quiet(around, clock)
    task = asyncio.ensure_future(work)
    try:
        while True:
            ended = around.ended
            await settle()
            if pause and not task.done():
                await asyncio.wait((task,), timeout=pause)
            if task.done():
                return await task
            # A thread that has ended since ``settle`` began may have made tasks ready, so the clock must not jump yet.
            if around.ended != ended or quiet.is_awaited() or not await clock.jump():
                await asyncio.sleep(_NAP)
            else:
                given_up = monotonic() + PATIENCE
            assert clock.monotonic() < latest, f"no result within {LONGEST:g} virtual seconds"
            assert monotonic() < given_up, f"still waiting after {PATIENCE:g} s, but not for the clock"
    finally:
        task.cancel()


class _Quiet:
    """Says whether the clock must stand still because of what goes on outside it."""

    __slots__ = ("_around", "_clock", "_seen", "_since")

    def __init__(self, around: Outside, clock: VirtualClock) -> None:
        self._around = around
        self._clock = clock
        self._seen: object = None
        self._since = 0.0

    def is_awaited(self) -> bool:
        """Return True while something outside may still make a task ready."""
        around = self._around
        is_sleeping = isinstance(self._clock, TestClock) and self._clock.sleeping > 0
        state = (around.activity, around.threads, around.ended, is_sleeping)
        if state != self._seen:
            self._seen, self._since = state, monotonic()
        if around.threads:
            # A thread that works for long is still working; but if a task sleeps, the thread may be waiting for it.
            return not is_sleeping or monotonic() - self._since < THREAD_PAUSE
        # A task that sleeps waits for the clock: a connection that is open meanwhile is most likely idle.
        patience = QUIET if is_sleeping else OUTSIDE_PATIENCE
        return monotonic() - self._since < patience and around.waits


class PluginThreads(Threads):
    """The threads of a plugin, watched so that the clock stands still while they work."""

    __slots__ = ()

    def run(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Return a future for the result of ``work()``."""
        return outside().note_thread(super().run(work))
