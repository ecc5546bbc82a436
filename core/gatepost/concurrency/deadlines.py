"""Time limits of plugin calls: numbers that are compared once a second, instead of a timer for each call.

A ``Watch`` guards one phase of one session. The sweep cancels the task that waits too long, and the gate turns that
cancellation into "no answer within 30 s". So a limit is up to a second late, and a waiting client costs one small
object. This module knows no plugins and no decisions; ``gate.slow_path`` says what a wait that is late, abandoned or
forgiven is.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Any, Final
from weakref import WeakSet

from gatepost.concurrency.commitment import Commitment
from gatepost.services.clock import Clock, Timer

SWEEP: Final = 1.0
"""Seconds between two looks at the deadlines."""

_INF: Final = inf

_abandoned: WeakSet[asyncio.Task[Any]] = WeakSet()


def abandon(task: asyncio.Task[Any]) -> None:
    """Cancel ``task``, in which a gate may be asking, because the client has left and nobody needs the outcome.

    The task is also noted here, because its cancellation alone does not tell: a plugin may swallow it, and a plugin's
    ``TaskGroup`` cancels the task too when one of its own tasks fails (before Python 3.13 it does not take that back).
    """
    _abandoned.add(task)
    task.cancel()


class Watch:
    """The time limits of one phase of one session, in seconds of the monotonic clock.

    ``deadline`` is that of the running call, ``budget`` that of the phase as a whole. The task's own count of
    cancellations tells those of the sweep from those of others; the sweep's share is taken back when a wait ends.

    In a handover its ``commitment`` has the deadline, which moves while the plugin is awaited.
    """

    __slots__ = ("_budget_left", "_commitment", "_count", "_set_aside", "_sweeps", "_task", "budget", "deadline")

    def __init__(self, task: asyncio.Task[Any], budget: float, commitment: Commitment | None = None) -> None:
        self._task = task
        self._commitment = commitment
        self._count = task.cancelling()  # those before this watch are of no concern to it
        self._sweeps = 0
        self._budget_left: float | None = None
        """Seconds left when the budget was suspended; None while it runs."""
        self._set_aside: Commitment | None = None
        """The commitment while the budget is suspended: an observed plugin does not use it up."""
        self.budget = self.deadline = budget

    def over(self, now: float) -> bool:
        """True when a limit has passed."""
        return now >= self.deadline or now >= self.budget

    def begin_wait(self, now: float, seconds: float, suspend_budget: bool = False) -> None:
        """Limit the wait that begins to ``seconds`` and to the budget, or suspend the budget until the wait ends."""
        if suspend_budget:
            self._budget_left = self.budget - now
            self.budget = _INF
            self._set_aside, self._commitment = self._commitment, None
        self.deadline = now + seconds

    def end_wait(self, now: float) -> bool:
        """Take back the sweep's cancellations and return True when the wait ended too late."""
        if self._commitment is not None:
            self.deadline = self._commitment.deadline
        # A wait may also end between its limit and the sweep, which looks only once a second: that is late too.
        late = self._sweeps > 0 or self.over(now)
        for _ in range(self._sweeps):
            self._task.uncancel()
        self._sweeps = 0
        if self._budget_left is not None:
            self.budget = now + self._budget_left
            self._budget_left = None
            self._commitment, self._set_aside = self._set_aside, None
        self.deadline = self.budget
        return late

    def cancel(self) -> None:
        """End what the task waits for. Called by the sweep, again and again while the task goes on waiting."""
        if self._commitment is not None and not self._commitment.expire():
            self.deadline = self._commitment.deadline  # it has passed its point of no return since
            return
        self._sweeps += 1
        self._task.cancel()

    @property
    def abandoned(self) -> bool:
        """True when ``abandon`` was called for the task, whatever the plugin made of the cancellation."""
        return self._task in _abandoned

    @property
    def cancelled_by_others(self) -> bool:
        """True when the task was cancelled by something other than the sweep: by the door, or by the plugin itself."""
        return self._task.cancelling() > self._count + self._sweeps

    def forgive(self) -> None:
        """Take back the cancellations that a plugin brought about itself, so that they do not hit the next plugin."""
        while self.cancelled_by_others:
            self._task.uncancel()


class Deadlines:
    """The watches of a gate. The sweep runs only while there are any."""

    __slots__ = ("_clock", "_timer", "_watches")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watches: dict[Watch, None] = {}  # a set would take three times the memory for each waiting client
        self._timer: Timer | None = None

    def now(self) -> float:
        """Return the seconds of the clock that the deadlines are on."""
        return self._clock.monotonic()

    def watch(self, seconds: float, commitment: Commitment | None = None) -> Watch:
        """Guard the current task: the phase must be over within ``seconds``. ``commitment`` is that of a handover."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a gate must be asked from a task")
        watch = Watch(task, self._clock.monotonic() + seconds, commitment)
        self._watches[watch] = None
        if self._timer is None:
            self._timer = self._clock.call_later(SWEEP, self._sweep)
        return watch

    def release(self, watch: Watch) -> None:
        """Stop guarding: the phase is over."""
        self._watches.pop(watch, None)

    def _sweep(self) -> None:
        now = self._clock.monotonic()
        # ``over`` written out, since tens of thousands may be waiting.
        for watch in [watch for watch in self._watches if now >= watch.deadline or now >= watch.budget]:
            watch.cancel()
        self._timer = self._clock.call_later(SWEEP, self._sweep) if self._watches else None
