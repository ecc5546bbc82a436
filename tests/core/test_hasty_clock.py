"""On the hasty clock nobody waits on purpose, and time limits are what they are."""

from __future__ import annotations

import asyncio
import time

from gatepost.services.virtual_clock import HastyClock


async def test_who_sleeps_is_at_once_that_much_later() -> None:
    clock = HastyClock()
    began, now, monotonic = time.monotonic(), clock.now(), clock.monotonic()
    await clock.sleep(3600)
    assert 3600 <= clock.now() - now < 3660 and 3600 <= clock.monotonic() - monotonic < 3660
    assert clock.skipped == 3600
    assert time.monotonic() - began < 60


async def test_a_timer_takes_its_time() -> None:
    clock, fired = HastyClock(), asyncio.Event()
    began = time.monotonic()
    clock.call_later(0.05, fired.set)
    await clock.sleep(3600)
    assert not fired.is_set()
    await fired.wait()
    assert time.monotonic() - began >= 0.05
