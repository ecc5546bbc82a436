"""The system clock: its timing wheel on a loop whose time is ours, then on a real loop."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.services import clock as clock_module
from gatepost.services.clock import TICK, Clock, SystemClock, Timer
from gatepost.services.virtual_clock import VirtualClock


class Handle:
    """A stand-in for the handle that ``loop.call_later`` returns."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """As much of an event loop as the wheel needs. Its time is the wheel's too, and it wakes early when asked to.

    A turn takes a microsecond, as time goes on in a real one too.
    """

    def __init__(self, start: float, early: float = 0.0) -> None:
        self.present = start
        self.early = early
        self.wakes = 0
        self._due: list[tuple[float, int, Handle, Callable[[], object]]] = []
        self._number = count()

    def monotonic(self) -> float:
        return self.present

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Handle:
        handle = Handle()
        heapq.heappush(self._due, (self.present + seconds, next(self._number), handle, callback))
        return handle

    def call_soon(self, callback: Callable[[], object]) -> None:
        callback()

    def run_until(self, end: float) -> None:
        while self._due and self._due[0][0] <= end:
            due, _, handle, callback = heapq.heappop(self._due)
            if not handle.cancelled:
                self.wakes += 1
                early = self.early if due - self.early > self.present else 0.0
                self.present = max(self.present, due - early) + 1e-6
                callback()
        self.present = max(self.present, end)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop(start=1000.0)
    steer(monkeypatch, loop)
    return loop


def steer(monkeypatch: pytest.MonkeyPatch, loop: Loop) -> None:
    """Let the clock's module see the time and the loop of ``loop``."""
    monkeypatch.setattr(clock_module, "time", SimpleNamespace(monotonic=loop.monotonic))
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)


@pytest.mark.patches
class TestWheel:
    """Never early, at most a tick late."""

    @given(
        start=st.floats(0, 1e7),
        early=st.sampled_from([0.0, 0.0005]),
        timers=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 600)), max_size=20),
    )
    def test_a_timer_never_fires_early_and_at_most_a_tick_late(
        self, start: float, early: float, timers: list[tuple[float, float]]
    ) -> None:
        loop, clock = Loop(start, early), SystemClock()
        late: list[float] = []

        def note(due: float) -> None:
            late.append(loop.present - due)

        with pytest.MonkeyPatch.context() as monkeypatch:
            steer(monkeypatch, loop)
            for wait, seconds in timers:
                loop.run_until(loop.present + wait)
                due = loop.present + seconds
                clock.call_later(seconds, partial(note, due))
            loop.run_until(loop.present + 601)
        assert len(late) == len(timers)
        assert all(0 <= seconds <= TICK + 1e-4 for seconds in late)

    def test_timers_of_one_tick_share_one_wake(self, loop: Loop) -> None:
        clock, fired = SystemClock(), list[int]()
        for number in range(1000):
            clock.call_later(30.01, partial(fired.append, number))
        loop.run_until(1031)
        assert sorted(fired) == list(range(1000))
        assert loop.wakes == 1

    def test_an_earlier_timer_set_later_fires_first(self, loop: Loop) -> None:
        clock, fired = SystemClock(), []
        clock.call_later(30, lambda: fired.append("late"))
        clock.call_later(1, lambda: fired.append("early"))
        loop.run_until(1002)
        assert fired == ["early"]
        loop.run_until(1031)
        assert fired == ["early", "late"]

    def test_a_cancelled_timer_does_not_fire(self, loop: Loop) -> None:
        clock, fired = SystemClock(), []
        timer = clock.call_later(1, lambda: fired.append("cancelled"))
        clock.call_later(1, lambda: fired.append("other"))
        timer.cancel()
        timer.cancel()
        loop.run_until(1002)
        assert fired == ["other"]

    def test_a_timer_may_cancel_another_of_its_tick(self, loop: Loop) -> None:
        clock, fired = SystemClock(), list[int]()
        timers: list[Timer] = []

        def first() -> None:
            fired.append(1)
            for timer in timers:
                timer.cancel()

        timers.extend(clock.call_later(1, first) for _ in range(5))
        loop.run_until(1002)
        assert fired == [1]

    def test_a_timer_may_set_another(self, loop: Loop) -> None:
        clock, fired = SystemClock(), []

        def again() -> None:
            fired.append(loop.present)
            if len(fired) < 3:
                clock.call_later(0, again)

        clock.call_later(0, again)
        loop.run_until(1001)
        assert len(fired) == 3

    def test_a_timer_fires_once(self, loop: Loop) -> None:
        clock, fired = SystemClock(), []
        timer = clock.call_later(1, lambda: fired.append(1))
        loop.run_until(1002)
        timer.cancel()
        timer.fire()
        loop.run_until(1010)
        assert fired == [1]

    def test_a_wheel_that_was_empty_turns_again(self, loop: Loop) -> None:
        clock, fired = SystemClock(), []
        for _ in range(2):
            clock.call_later(1, lambda: fired.append(1))
            loop.run_until(loop.present + 10)
        assert fired == [1, 1]

    def test_a_loop_that_stalled_catches_up(self, loop: Loop) -> None:
        clock, fired = SystemClock(), list[int]()
        for seconds in (1, 2, 3):
            clock.call_later(seconds, partial(fired.append, seconds))
        loop.present += 60
        loop.run_until(loop.present)
        assert fired == [1, 2, 3]


class TestSystemClock:
    """On a real loop, for as short as a tick allows."""

    async def test_sleep_is_never_short(self) -> None:
        clock = SystemClock()
        began = time.monotonic()
        await asyncio.gather(*(clock.sleep(seconds) for seconds in (0.0, 0.02, 0.05)))
        assert time.monotonic() - began >= 0.05

    async def test_a_sleep_that_is_cancelled_leaves_no_timer(self) -> None:
        clock = SystemClock()
        sleeper = asyncio.ensure_future(clock.sleep(600))
        await asyncio.sleep(0)
        sleeper.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeper
        assert not any(clock._buckets.values())

    async def test_a_timer_that_raises_does_not_stop_the_others(self) -> None:
        clock, reported = SystemClock(), []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        clock.call_later(0.01, lambda: 1 / 0)
        await clock.sleep(0.01)
        await clock.sleep(0.01)
        assert [type(error) for error in reported] == [ZeroDivisionError]

    def test_it_tells_the_time_of_the_machine(self) -> None:
        clock = SystemClock()
        assert time.time() <= clock.now() <= time.time()
        assert time.monotonic() <= clock.monotonic() <= time.monotonic()


@pytest.mark.parametrize("clock", [SystemClock(), VirtualClock()])
def test_both_are_clocks(clock: Clock) -> None:
    assert all(callable(getattr(clock, name)) for name in ("now", "monotonic", "call_later", "sleep"))
