"""A plugin that measures standstills of the loop: the longest time between two ticks of a timer of 1 ms.

The answer to ``VRFY standstill`` is the longest time since the last such command, in ms. An idle loop answers 1 or 2.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from gatepost import Decision, accept, hookimpl

TICK = 0.001


class Standstill:
    """Asks the loop for a call after each millisecond, and measures when it comes."""

    def __init__(self) -> None:
        self._last = perf_counter()
        self._longest = 0.0

    @hookimpl
    def startup(self) -> None:
        self._tick()

    def _tick(self) -> None:
        now = perf_counter()
        self._longest = max(self._longest, now - self._last)
        self._last = now
        asyncio.get_running_loop().call_later(TICK, self._tick)

    @hookimpl
    def vrfy(self) -> Decision:
        longest, self._longest = self._longest, 0.0
        return accept(f"{longest * 1000:.2f}")
