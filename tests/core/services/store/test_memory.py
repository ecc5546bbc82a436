"""The behaviour that only the store in memory has."""

from __future__ import annotations

from gatepost.services.store.memory import MemoryBackend
from gatepost.services.virtual_clock import VirtualClock
from tests.core.services.store.stores import HOUR


async def test_dead_entries_leave_the_memory_as_others_come(clock: VirtualClock) -> None:
    backend = MemoryBackend(clock)
    store = backend.namespace("p")
    for number in range(1000):
        await store.put(f"old {number}", number, ttl=60)
    await clock.advance(HOUR)
    for number in range(600):
        await store.put(f"new {number}", number, ttl=60)
    assert len(backend._entries) == 600
