"""Time limits of plugin calls: numbers in a slot that are swept once a second, not a timer for each call.

A ``Watch`` guards one phase of one session. The sweep cancels the task that waits too long; the gate then turns that
cancellation into "no answer in time". It knows no plugins and no decisions.
"""

from __future__ import annotations

import asyncio
from typing import Any

from gatepost.services.clock import Clock, Timer

SWEEP = 1.0
"""Seconds between two looks at the deadlines."""


class Watch:
    """The time limits of one phase of one session, in seconds of the monotonic clock.

    ``deadline`` is for the running call, ``budget`` for the phase as a whole. ``expired`` is True from the moment that
    the sweep has cancelled the task until the gate has taken note.
    """

    __slots__ = ("budget", "deadline", "expired", "task")

    def __init__(self, task: asyncio.Task[Any], budget: float) -> None:
        self.task = task
        self.budget = self.deadline = budget
        self.expired = False


class Deadlines:
    """All watches of a gate. The sweep runs only while there are any."""

    __slots__ = ("_clock", "_timer", "_watches")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watches: set[Watch] = set()
        self._timer: Timer | None = None

    def watch(self, seconds: float) -> Watch:
        """Guard the current task: the phase must be over in ``seconds``."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a gate is asked from a task")
        watch = Watch(task, self._clock.monotonic() + seconds)
        self._watches.add(watch)
        if self._timer is None:
            self._timer = self._clock.call_later(SWEEP, self._sweep)
        return watch

    def release(self, watch: Watch) -> None:
        """The phase is over."""
        self._watches.discard(watch)

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        for watch in tuple(self._watches):
            if now >= watch.deadline or now >= watch.budget:
                watch.expired = True
                watch.task.cancel()
        self._timer = self._clock.call_later(SWEEP, self._sweep) if self._watches else None
