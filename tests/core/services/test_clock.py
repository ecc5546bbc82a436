"""The clock: the wheel on a loop whose time is ours, then on a real loop, and the clock that moves when told to."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.services import clock as clock_module
from gatepost.services.clock import TICK, Clock, SystemClock, Timer
from gatepost.services.virtual_clock import VirtualClock

NEVER = 10**9


class Handle:
    """What ``loop.call_later`` returns."""

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


class TestWheel:
    """Never early, at most a tick late."""

    @settings(deadline=None)
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
        assert time.time() - 5 < clock.now() < time.time() + 5
        assert time.monotonic() - 5 < clock.monotonic() < time.monotonic() + 5


@pytest.fixture
def virtual() -> VirtualClock:
    return VirtualClock(start=5000.0)


class TestVirtualClock:
    async def test_it_stands_still(self, virtual: VirtualClock) -> None:
        fired: list[Any] = []
        virtual.call_later(0, lambda: fired.append(1))
        await asyncio.sleep(0)
        assert [virtual.now(), virtual.monotonic(), fired] == [5000, 0, []]

    async def test_advance_moves_both_times(self, virtual: VirtualClock) -> None:
        await virtual.advance(30)
        await virtual.advance(0.5)
        assert [virtual.now(), virtual.monotonic()] == [5030.5, 30.5]

    @given(st.lists(st.integers(0, 50), max_size=20), st.integers(0, 60))
    @settings(deadline=None)
    def test_timers_fire_at_their_time_in_their_order(self, delays: list[int], end: int) -> None:
        async def fired() -> list[tuple[float, int]]:
            clock = VirtualClock()
            said: list[tuple[float, int]] = []

            def note(number: int) -> None:
                said.append((clock.monotonic(), number))

            for number, delay in enumerate(delays):
                clock.call_later(delay, partial(note, number))
            await clock.advance(end)
            assert clock.monotonic() == end
            return said

        expected = sorted((delay, number) for number, delay in enumerate(delays) if delay <= end)
        assert asyncio.run(fired()) == expected

    async def test_advance_stops_short_of_what_is_not_due(self, virtual: VirtualClock) -> None:
        sleeper = asyncio.ensure_future(virtual.sleep(30))
        await virtual.advance(29.9)
        assert not sleeper.done()
        await virtual.advance(0.1)
        assert sleeper.done()

    async def test_what_a_timer_sets_falls_due_in_the_same_advance(self, virtual: VirtualClock) -> None:
        woken: list[float] = []

        async def sleep_often() -> None:
            for _ in range(4):
                await virtual.sleep(10)
                woken.append(virtual.monotonic())

        sleeper = asyncio.ensure_future(sleep_often())
        await virtual.advance(35)
        assert woken == [10, 20, 30]
        await virtual.advance(5)
        await sleeper

    async def test_a_cancelled_timer_does_not_fire(self, virtual: VirtualClock) -> None:
        fired: list[str] = []
        timers: list[Timer] = [
            virtual.call_later(1, lambda: timers[1].cancel()),
            virtual.call_later(2, lambda: fired.append("cancelled")),
            virtual.call_later(3, lambda: fired.append("other")),
        ]
        await virtual.advance(10)
        assert fired == ["other"]

    async def test_jump_goes_to_the_next_timer_and_no_further(self, virtual: VirtualClock) -> None:
        fired: list[int] = []
        for seconds in (30, 10):
            virtual.call_later(seconds, partial(fired.append, seconds))
        assert await virtual.jump()
        assert [fired, virtual.monotonic()] == [[10], 10]
        assert await virtual.jump()
        assert [fired, virtual.monotonic()] == [[10, 30], 30]

    async def test_jump_says_when_nothing_waits(self, virtual: VirtualClock) -> None:
        assert not await virtual.jump()
        assert virtual.monotonic() == 0

    async def test_jump_passes_over_what_was_cancelled(self, virtual: VirtualClock) -> None:
        virtual.call_later(10, lambda: None).cancel()
        assert not await virtual.jump()
        virtual.call_later(20, lambda: None)
        assert await virtual.jump()
        assert virtual.monotonic() == 20

    async def test_jump_sees_the_sleep_of_a_task_that_has_not_begun(self, virtual: VirtualClock) -> None:
        sleeper = asyncio.ensure_future(virtual.sleep(10))
        assert await virtual.jump()
        assert sleeper.done()

    async def test_the_far_future_costs_nothing(self, virtual: VirtualClock) -> None:
        await virtual.advance(NEVER)
        assert virtual.now() == 5000 + NEVER


@pytest.mark.parametrize("clock", [SystemClock(), VirtualClock()])
def test_both_are_clocks(clock: Clock) -> None:
    assert all(callable(getattr(clock, name)) for name in ("now", "monotonic", "call_later", "sleep"))
