"""Virtual time: a clock for tests, and ``wait_for``, which awaits work that may sleep, use a thread, or never end.

While all tasks wait, the clock jumps to the next timer, so that a wait of 30 s takes no time. While a thread works, the
clock stands still; otherwise the timeout of a call might expire before its thread has run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, TypeVar

from pydantic import TypeAdapter

from gatepost.concurrency import Threads
from gatepost.options import Duration
from gatepost.services.clock import Clock
from gatepost.services.virtual_clock import VirtualClock, settle

T = TypeVar("T")

LONGEST = 3600.0
"""Virtual seconds after which work counts as endless."""
PATIENCE = 10.0
"""Real seconds after which work counts as endless that waits for a thread, a socket or an event, not for the clock."""

_NAP = 0.001
_duration = TypeAdapter[float](Duration)


def seconds(duration: str | float) -> float:
    """Return the seconds of a duration as in a configuration ("6s", "500ms", "36d"), or of a number of seconds."""
    return _duration.validate_python(duration)


class TestClock(VirtualClock):
    """A clock that only moves when all tasks are idle, or when the test advances it."""

    __slots__ = ()
    __test__ = False

    async def advance(self, seconds_: str | float) -> None:
        """Move on by a duration, "6s" or 6.0, and fire the timers on the way."""
        await super().advance(seconds(seconds_))

    def set_back(self, duration: str | float) -> None:
        """Set the time of day back, as when the clock of the machine is set. Monotonic time does not change."""
        self._start -= seconds(duration)


async def wait_for(work: Coroutine[Any, Any, T], clock: Clock, *, pause: float = 0.0) -> T:
    """Await ``work`` while a virtual clock jumps to its next timer whenever all tasks are idle.

    ``pause`` is the time without activity before a jump, in real seconds. It must be more than 0 if octets travel
    through sockets. Any other clock moves by itself. Raises ``AssertionError`` when the work never ends.
    """
    if not isinstance(clock, VirtualClock):
        return await work
    threads = _threads_of_loop()
    latest, given_up = clock.monotonic() + LONGEST, monotonic() + PATIENCE
    task = asyncio.ensure_future(work)
    try:
        while True:
            ended = threads.ended
            await settle()
            if pause and not task.done():
                await asyncio.wait((task,), timeout=pause)
            if task.done():
                return await task
            # A thread that has ended since ``settle`` began may have made tasks ready, so the clock must not jump yet.
            if threads.number or threads.ended != ended or not await clock.jump():
                await asyncio.sleep(_NAP)
            else:
                given_up = monotonic() + PATIENCE
            assert clock.monotonic() < latest, f"no result within {LONGEST:g} virtual seconds"
            assert monotonic() < given_up, f"still waiting after {PATIENCE:g} s, but not for the clock"
    finally:
        task.cancel()


class PluginThreads(Threads):
    """The threads of a plugin, watched so that the clock stands still while they work."""

    __slots__ = ()

    def run(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Return a future for the result of ``work()``."""
        return _threads_of_loop().note(super().run(work))


class _WorkingThreads:
    """The number of threads that work for an event loop. A thread counts until the loop has heard of its end."""

    __slots__ = ("_run", "ended", "number")

    def __init__(self, run: Callable[..., asyncio.Future[Any]]) -> None:
        self._run = run
        self.number = 0
        self.ended = 0

    def run_in_executor(self, executor: Any, function: Any, *arguments: Any) -> asyncio.Future[Any]:
        """Replace the method of the loop."""
        return self.note(self._run(executor, function, *arguments))

    def note(self, future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        """Count a thread as working until ``future`` is done."""
        self.number += 1
        future.add_done_callback(self._note_end)
        return future

    def _note_end(self, future: asyncio.Future[Any]) -> None:
        self.number -= 1
        self.ended += 1


def _threads_of_loop() -> _WorkingThreads:
    """Return the count for the running loop. The first call replaces its ``run_in_executor``."""
    loop = asyncio.get_running_loop()
    run = loop.run_in_executor
    known = getattr(run, "__self__", None)
    if isinstance(known, _WorkingThreads):
        return known
    working = _WorkingThreads(run)
    loop.run_in_executor = working.run_in_executor  # type: ignore[method-assign,assignment]
    return working
