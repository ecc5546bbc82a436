"""The clock that moves when it is told to, and the one on which nobody waits on purpose."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.services.clock import Timer
from gatepost.services.virtual_clock import HastyClock, VirtualClock

NEVER = 10**9


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


async def test_who_sleeps_is_at_once_that_much_later() -> None:
    clock = HastyClock()
    now, monotonic = time.time(), time.monotonic()
    await clock.sleep(3600)
    assert clock.skipped == 3600
    assert now <= clock.now() - 3600 <= time.time()
    assert monotonic <= clock.monotonic() - 3600 <= time.monotonic() < monotonic + 3600


async def test_a_timer_takes_its_time() -> None:
    clock, fired = HastyClock(), asyncio.Event()
    began = time.monotonic()
    clock.call_later(0.05, fired.set)
    await clock.sleep(3600)
    assert not fired.is_set()
    await fired.wait()
    assert time.monotonic() - began >= 0.05
