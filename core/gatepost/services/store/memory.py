"""The store in this process's memory: for trials and tests."""

from __future__ import annotations

import heapq

from mypy_extensions import mypyc_attr

from gatepost.services.clock import Clock
from gatepost.services.store.store import MAX_ENTRIES, Change, Entry, Key, NamespacedStore, Store


@mypyc_attr(allow_interpreted_subclasses=True)
class MemoryBackend:
    """The store in this process's memory, for trials and tests: what it knows ends with the process.

    Entries are sorted into slots by when they expire, so each write can sweep two dead ones or make room in constant
    time, and no timer is needed. Memory that ends with the process can expire by the clock that never jumps.
    """

    __slots__ = ("_entries", "_expiring", "_max_entries", "_slots", "moment")

    SLOT = 600.0
    SWEEP = 2

    def __init__(self, clock: Clock, max_entries: int = MAX_ENTRIES) -> None:
        self.moment = clock.monotonic
        self._max_entries = max_entries
        self._entries: dict[Key, Entry] = {}
        self._expiring: dict[int, set[Key]] = {}
        self._slots: list[int] = []

    async def open(self) -> None:
        """Nothing to make ready."""

    async def close(self) -> None:
        """Nothing to let go."""

    def namespace(self, name: str) -> Store:
        """The store of the plugin instance ``name``."""
        return NamespacedStore(self, name)

    def find(self, key: Key) -> bytes | None:
        """The value of ``key``, as JSON, if its entry lives."""
        entry = self._living(key)
        return None if entry is None else entry.value

    def keep(self, key: Key, entry: Entry) -> None:
        """Put ``entry`` under ``key``, then sweep a little."""
        self.drop(key)
        slot = int(entry.expires / self.SLOT)
        if slot not in self._expiring:
            self._expiring[slot] = set()
            heapq.heappush(self._slots, slot)
        self._expiring[slot].add(key)
        self._entries[key] = entry
        self._sweep()

    def drop(self, key: Key) -> None:
        """Forget ``key``."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._expiring[int(entry.expires / self.SLOT)].discard(key)

    async def change(self, key: Key, change: Change, *, durable: bool = False) -> Entry | None:
        """Keep what ``change`` makes of the living entry. Nothing here outlives the process, durable or not."""
        entry = change(self._living(key))
        if entry is not None:
            self.keep(key, entry)
        return entry

    def _living(self, key: Key) -> Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and self.moment() < entry.expires else None

    def _sweep(self) -> None:
        for _ in range(self.SWEEP):
            slot = self._first_slot()
            dead = (slot + 1) * self.SLOT <= self.moment()
            if not dead and len(self._entries) <= self._max_entries:
                return
            del self._entries[self._expiring[slot].pop()]

    def _first_slot(self) -> int:
        """The slot that expires first of those that hold something; only called when one does."""
        while not self._expiring[self._slots[0]]:
            del self._expiring[heapq.heappop(self._slots)]
        return self._slots[0]
