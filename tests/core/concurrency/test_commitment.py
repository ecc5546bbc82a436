"""The point of no return of a handover, on a clock that a test moves."""

from __future__ import annotations

import asyncio

import pytest

from gatepost.concurrency.commitment import Commitment
from gatepost.concurrency.deadlines import Deadlines
from gatepost.errors import HandoverEndedError
from gatepost.services.virtual_clock import VirtualClock


async def test_the_point_of_no_return_can_be_passed_until_300_seconds_after_the_dot_and_then_not() -> None:
    clock = VirtualClock()
    in_time, late = Commitment(clock), Commitment(clock)
    await clock.advance(299.9)
    in_time.commit()
    await clock.advance(0.1)
    with pytest.raises(HandoverEndedError, match="300 s have passed since its final dot"):
        late.commit()
    assert (in_time.passed, late.passed) == (True, False)


async def test_behind_it_a_plugin_has_900_seconds() -> None:
    clock = VirtualClock()
    commitment = Commitment(clock)
    await clock.advance(100)
    commitment.commit()
    commitment.commit()
    await clock.advance(899.9)
    assert not commitment.expire()
    await clock.advance(0.1)
    assert commitment.expire()
    assert str(commitment.late()) == "no end within 900 s"


async def test_behind_it_each_plugin_has_its_own_900_seconds() -> None:
    clock = VirtualClock()
    commitment = Commitment(clock)
    commitment.enter("first", may_take=True, commits_itself=False)
    await clock.advance(800)
    commitment.enter("second", may_take=True, commits_itself=True)
    assert (commitment.holder, commitment.deadline) == ("second", clock.monotonic() + 900)


@pytest.mark.parametrize("commits_itself", [False, True])
async def test_the_call_of_a_plugin_is_the_point_unless_it_says_itself_when_it_comes(commits_itself: bool) -> None:
    commitment = Commitment(VirtualClock())
    commitment.enter("plugin", may_take=True, commits_itself=commits_itself)
    assert commitment.passed is not commits_itself


async def test_the_call_of_a_plugin_that_may_take_nothing_is_no_such_point() -> None:
    commitment = Commitment(VirtualClock())
    commitment.enter("plugin", may_take=False, commits_itself=False)
    assert not commitment.passed


async def test_losing_the_client_ends_the_handover_before_the_point_and_not_behind_it() -> None:
    before, behind = Commitment(VirtualClock()), Commitment(VirtualClock())
    behind.commit()
    assert (before.lose_client(), behind.lose_client()) == (True, False)
    behind.commit()
    for act in (before.commit, lambda: before.enter("next", may_take=True, commits_itself=True)):
        with pytest.raises(HandoverEndedError):
            act()


@pytest.mark.parametrize("passed", [False, True])
async def test_when_the_reply_is_found_nothing_more_is_taken_and_no_loss_ends_anything(passed: bool) -> None:
    commitment = Commitment(VirtualClock())
    if passed:
        commitment.commit()
    commitment.settle()
    assert not commitment.lose_client()
    with pytest.raises(HandoverEndedError):  # a thread of a plugin that was given up
        commitment.commit()


async def test_the_sweep_leaves_a_wait_alone_whose_handover_has_just_passed_the_point() -> None:
    clock = VirtualClock()
    deadlines, commitment = Deadlines(clock), Commitment(clock)
    watch = deadlines.watch(float("inf"), commitment)
    watch.begin_wait(clock.monotonic(), 300.0)
    commitment.commit()
    await clock.advance(301)
    task = asyncio.current_task()
    assert task is not None and not task.cancelling()
    assert watch.deadline == 900.0
    assert not watch.end_wait(clock.monotonic())
    deadlines.release(watch)
