"""Virtual time: a clock for tests, and waiting on it for work that may sleep, ask a thread, or never end.

When everybody only waits, the clock jumps to the next timer, so that 30 s take no time. While a thread is at work it
stands still, or the time limit of a call would have passed before the thread got its turn.
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
"""Virtual seconds after which whoever still waits would wait for ever."""
PATIENCE = 10.0
"""Real seconds of the same, for what is not waited for on the clock: a thread, a socket, an event of the test's own."""

_NAP = 0.001
_duration = TypeAdapter[float](Duration)


def seconds(duration: str | float) -> float:
    """Seconds of a duration as it stands in a configuration ("6s", "500ms", "36d"), or of a number of them."""
    return _duration.validate_python(duration)


class TestClock(VirtualClock):
    """The machine's clock does not move it: it jumps when all is idle, or is advanced by hand."""

    __slots__ = ()
    __test__ = False

    async def advance(self, seconds_: str | float) -> None:
        """Move on by a duration, "6s" or 6.0, running what falls due on the way."""
        await super().advance(seconds(seconds_))

    def set_back(self, duration: str | float) -> None:
        """Let the time of day be earlier, as when somebody sets the machine's clock; monotonic time goes on."""
        self._start -= seconds(duration)


async def wait_for(work: Coroutine[Any, Any, T], clock: Clock, *, pause: float = 0.0) -> T:
    """Do ``work``, letting a virtual clock jump to its next timer whenever nothing else happens.

    ``pause`` is how long nothing must happen before a jump, in real seconds: more than nothing where octets travel
    through sockets. On any other clock time passes by itself. Raises ``AssertionError`` when the work never ends.
    """
    if not isinstance(clock, VirtualClock):
        return await work
    threads = _threads_of_loop()
    latest, given_up = clock.monotonic() + LONGEST, monotonic() + PATIENCE
    task = asyncio.ensure_future(work)
    try:
        while True:
            ended = threads.ended
            if await _done(task, pause):
                return await task
            if threads.number or threads.ended != ended or not await clock.jump():
                await asyncio.sleep(_NAP)
            else:
                given_up = monotonic() + PATIENCE
            assert clock.monotonic() < latest, f"nothing came of it in {LONGEST:g} virtual seconds"
            assert monotonic() < given_up, f"it waits for what is not on the clock, for {PATIENCE:g} s already"
    finally:
        task.cancel()


async def _done(task: asyncio.Future[Any], pause: float) -> bool:
    """Whether it is done once everybody who is ready has had a turn."""
    await settle()
    if pause and not task.done():
        await asyncio.wait((task,), timeout=pause)
    return task.done()


class PluginThreads(Threads):
    """The threads of a plugin whose blocking calls the clock must not outrun."""

    __slots__ = ()

    def run(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """A future of what ``work()`` returns or raises."""
        return _threads_of_loop().note(super().run(work))


class _AtWork:
    """What threads do for a loop. Counted where the loop hears of it, so that nobody is missed in between."""

    __slots__ = ("_run", "ended", "number")

    def __init__(self, run: Callable[..., asyncio.Future[Any]]) -> None:
        self._run = run
        self.number = 0
        self.ended = 0

    def run_in_executor(self, executor: Any, function: Any, *arguments: Any) -> asyncio.Future[Any]:
        """In place of the loop's own."""
        return self.note(self._run(executor, function, *arguments))

    def note(self, future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        """Count a thread as at work until ``future`` is done."""
        self.number += 1
        future.add_done_callback(self._note_end)
        return future

    def _note_end(self, future: asyncio.Future[Any]) -> None:
        self.number -= 1
        self.ended += 1


def _threads_of_loop() -> _AtWork:
    """The threads of the running loop, from the first call on."""
    loop = asyncio.get_running_loop()
    run = loop.run_in_executor
    known = getattr(run, "__self__", None)
    if isinstance(known, _AtWork):
        return known
    at_work = _AtWork(run)
    loop.run_in_executor = at_work.run_in_executor  # type: ignore[method-assign,assignment]
    return at_work
