"""Time limits of plugin calls: numbers in a slot that are swept once a second, not a timer for each call.

A ``Watch`` guards one phase of one session. The sweep cancels the task that waits too long; the gate then turns that
cancellation into "no answer in time". It knows no plugins and no decisions.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from weakref import WeakSet

from gatepost.services.clock import Clock, Timer

SWEEP: Final = 1.0
"""Seconds between two looks at the deadlines."""

_abandoned: WeakSet[asyncio.Task[Any]] = WeakSet()


def abandon(task: asyncio.Task[Any]) -> None:
    """Cancel ``task``, in which a gate may be asking, because nobody waits for the outcome: the client has left.

    A plugin may swallow that, and asyncio's own count does not tell: a ``TaskGroup`` in a plugin, one of whose tasks
    fails, cancels the task that it stands in and before Python 3.13 does not take that back.
    """
    _abandoned.add(task)
    task.cancel()


class Watch:
    """The time limits of one phase of one session, in seconds of the monotonic clock.

    ``deadline`` is for the running call, ``budget`` for the phase as a whole. A cancellation by the sweep is told from
    one by somebody else by the task's own count, of which the sweep's share is taken back once it has had its effect.
    """

    __slots__ = ("_count", "_sweeps", "_task", "budget", "deadline")

    def __init__(self, task: asyncio.Task[Any], budget: float) -> None:
        self._task = task
        self._count = task.cancelling()
        self._sweeps = 0
        self.budget = self.deadline = budget

    def over(self, now: float) -> bool:
        """True when a limit has passed."""
        return now >= self.deadline or now >= self.budget

    def cancel(self) -> None:
        """The sweep's: end what the task waits for."""
        self._sweeps += 1
        self._task.cancel()

    def take_back(self, now: float) -> bool:
        """The wait has ended: undo what the sweep has done. True when the end came too late."""
        late = self._sweeps > 0 or self.over(now)
        for _ in range(self._sweeps):
            self._task.uncancel()
        self._sweeps = 0
        self.deadline = self.budget
        return late

    @property
    def abandoned(self) -> bool:
        """True when nobody waits for the outcome any more, whatever the plugin made of that."""
        return self._task in _abandoned

    @property
    def cancelled_by_others(self) -> bool:
        """True when somebody else has cancelled the task meanwhile: the client has left, or the plugin itself did."""
        return self._task.cancelling() > self._count + self._sweeps

    def forgive(self) -> None:
        """Take back the cancellations that a plugin has brought about itself and dealt with."""
        while self.cancelled_by_others:
            self._task.uncancel()


class Deadlines:
    """All watches of a gate. The sweep runs only while there are any."""

    __slots__ = ("_clock", "_timer", "_watches")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watches: dict[Watch, None] = {}  # a set would take three times as much for each client that waits
        self._timer: Timer | None = None

    def now(self) -> float:
        """Seconds of the clock that deadlines are on."""
        return self._clock.monotonic()

    def watch(self, seconds: float) -> Watch:
        """Guard the current task: the phase must be over in ``seconds``."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a gate is asked from a task")
        watch = Watch(task, self._clock.monotonic() + seconds)
        self._watches[watch] = None
        if self._timer is None:
            self._timer = self._clock.call_later(SWEEP, self._sweep)
        return watch

    def release(self, watch: Watch) -> None:
        """The phase is over."""
        self._watches.pop(watch, None)

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        for watch in [watch for watch in self._watches if now >= watch.deadline or now >= watch.budget]:
            watch.cancel()
        self._timer = self._clock.call_later(SWEEP, self._sweep) if self._watches else None
