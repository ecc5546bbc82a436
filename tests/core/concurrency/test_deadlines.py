"""A watch tells a wait that is late from one that was cancelled by somebody else, and leaves no cancellation behind."""

from __future__ import annotations

import asyncio

import pytest

from gatepost.concurrency.deadlines import SWEEP, Deadlines, Watch, abandon
from gatepost.services.virtual_clock import VirtualClock


def current() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def test_a_wait_is_late_from_its_limit_on_even_if_no_sweep_has_come() -> None:
    watch = Watch(current(), 60.0)
    watch.begin_wait(10.0, 5.0)
    assert not watch.end_wait(14.9)
    watch.begin_wait(20.0, 5.0)
    assert watch.end_wait(25.0)


async def test_the_budget_limits_a_wait_that_has_no_limit_of_its_own() -> None:
    watch = Watch(current(), 60.0)
    watch.begin_wait(10.0, float("inf"))
    assert watch.end_wait(60.0)


async def test_a_suspended_budget_goes_on_where_it_stood() -> None:
    watch = Watch(current(), 60.0)
    watch.begin_wait(50.0, 30.0, suspend_budget=True)
    assert not watch.over(79.0)
    assert not watch.end_wait(79.0)
    assert watch.budget == 89.0


async def test_the_cancellations_of_the_sweep_are_taken_back() -> None:
    watch = Watch(current(), 60.0)
    for _ in range(2):
        watch.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
    assert not watch.cancelled_by_others
    assert watch.end_wait(1.0)
    assert current().cancelling() == 0


async def test_a_cancellation_by_others_is_told_from_the_sweep_and_can_be_forgiven() -> None:
    watch = Watch(current(), 60.0)
    current().cancel()
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    assert watch.end_wait(1.0)
    assert watch.cancelled_by_others
    assert not watch.abandoned
    watch.forgive()
    assert current().cancelling() == 0


async def test_an_abandoned_task_is_known_though_its_cancellation_was_taken_back() -> None:
    async def stubborn() -> bool:
        watch = Watch(current(), 60.0)
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            watch.forgive()
        return watch.abandoned

    task = asyncio.ensure_future(stubborn())
    await asyncio.sleep(0)
    abandon(task)
    assert await task


async def test_the_sweep_cancels_what_waits_too_long_and_rests_when_nothing_is_watched() -> None:
    clock = VirtualClock()
    deadlines = Deadlines(clock)

    async def waiting(seconds: float) -> bool:
        watch = deadlines.watch(60.0)
        watch.begin_wait(deadlines.now(), seconds)
        try:
            await clock.sleep(10.0)
        except asyncio.CancelledError:
            return watch.end_wait(deadlines.now())
        finally:
            deadlines.release(watch)
        return watch.end_wait(deadlines.now())

    late, in_time = asyncio.ensure_future(waiting(5.0)), asyncio.ensure_future(waiting(20.0))
    await clock.advance(5.0 + SWEEP)
    assert late.done() and await late
    await clock.advance(10.0)
    assert not await in_time
    await clock.advance(2 * SWEEP)
    assert deadlines._timer is None


async def test_a_gate_must_be_asked_from_a_task() -> None:
    caught: list[str] = []

    def outside() -> None:
        try:
            Deadlines(VirtualClock()).watch(1.0)
        except RuntimeError as error:
            caught.append(str(error))

    asyncio.get_running_loop().call_soon(outside)
    await asyncio.sleep(0)
    assert caught == ["a gate must be asked from a task"]
