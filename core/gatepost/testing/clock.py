"""Virtual time: a clock for tests, and waiting on it for work that may sleep, ask a thread, or never end.

When everybody only waits, the clock jumps to the next timer, so that 30 s take no time. While a thread is at work it
stands still, or the time limit of a call would have passed before the thread got its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pydantic import TypeAdapter

from gatepost.options import Duration
from gatepost.services.clock import Clock, VirtualClock, settle

T = TypeVar("T")

LONGEST = 3600.0
"""Virtual seconds after which whoever still waits would wait for ever."""
PATIENCE = 10.0
"""Real seconds of the same, for what is not waited for on the clock: a thread, a socket, an event of the test's own."""

_NAP = 0.001
_duration = TypeAdapter[float](Duration)
_threads: WeakKeyDictionary[asyncio.AbstractEventLoop, set[Any]] = WeakKeyDictionary()


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


async def wait_for(work: Coroutine[Any, Any, T], clock: Clock, *, pause: float = 0.0) -> T:
    """Do ``work``, letting a virtual clock jump to its next timer whenever nothing else happens.

    ``pause`` is how long nothing must happen before a jump, in real seconds: more than nothing where octets travel
    through sockets. On any other clock time passes by itself. Raises ``AssertionError`` when the work never ends.
    """
    if not isinstance(clock, VirtualClock):
        return await work
    busy = _threads_at_work()
    latest, given_up = clock.monotonic() + LONGEST, monotonic() + PATIENCE
    task = asyncio.ensure_future(work)
    try:
        while not await _done(task, pause):
            if busy or not await clock.jump():
                await asyncio.sleep(_NAP)
            else:
                given_up = monotonic() + PATIENCE
            assert clock.monotonic() < latest, f"nothing came of it in {LONGEST:g} virtual seconds"
            assert monotonic() < given_up, f"it waits for what is not on the clock, for {PATIENCE:g} s already"
        return await task
    finally:
        task.cancel()


async def _done(task: asyncio.Future[Any], pause: float) -> bool:
    """Whether it is done once everybody who is ready has had a turn."""
    await settle()
    if pause and not task.done():
        await asyncio.wait((task,), timeout=pause)
    return task.done()


def _threads_at_work() -> set[Any]:
    """What threads do for the running loop, kept up to date from the first call on."""
    loop = asyncio.get_running_loop()
    busy = _threads.get(loop)
    if busy is None:
        busy = _threads[loop] = set()
        loop.run_in_executor = _counting(loop.run_in_executor, busy)  # type: ignore[method-assign,assignment]
    return busy


def _counting(run: Callable[..., asyncio.Future[Any]], busy: set[Any]) -> Callable[..., asyncio.Future[Any]]:
    """``run``, with its futures in ``busy`` until the loop has heard of their end."""

    def run_in_executor(executor: Any, function: Any, *arguments: Any) -> asyncio.Future[Any]:
        future = run(executor, function, *arguments)
        busy.add(future)
        future.add_done_callback(busy.discard)
        return future

    return run_in_executor
