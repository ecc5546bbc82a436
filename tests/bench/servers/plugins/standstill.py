"""How long the loop stood still: between two ticks of a timer of 1 ms, the longest time, that millisecond included.

``VRFY standstill`` is answered with the longest since it was last asked, in ms. A loop that is not busy says 1 or 2.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

from gatepost import Decision, accept, hookimpl

TICK = 0.001


class Standstill:
    """Asks the loop to be called each millisecond, and sees when it was."""

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
