"""The store in the memory of this process, for trials and tests."""

from __future__ import annotations

import heapq
from typing import Final

from mypy_extensions import mypyc_attr

from gatepost.services.clock import Clock
from gatepost.services.store.store import MAX_ENTRIES, Change, Entry, Key, NamespacedStore, Store

BUCKET: Final = 600.0
"""Seconds of a bucket: all its entries expire within this time, so they can be removed in any order."""

SWEEP: Final = 2
"""How many entries a write removes at most. With more than one, the store shrinks faster than it grows."""


@mypyc_attr(allow_interpreted_subclasses=True)
class MemoryBackend:
    """The store in the memory of this process; its entries are lost when the process ends.

    Entries are grouped into buckets by the time at which they expire. So each write can remove two expired entries, or
    make room, in constant time, and no timer is needed. As entries do not outlive the process, they expire by the
    monotonic clock, which never jumps.
    """

    __slots__ = ("_buckets", "_entries", "_expiring", "_max_entries", "moment")

    def __init__(self, clock: Clock, max_entries: int = MAX_ENTRIES) -> None:
        self.moment = clock.monotonic
        self._max_entries = max_entries
        self._entries: dict[Key, Entry] = {}
        self._expiring: dict[int, set[Key]] = {}
        self._buckets: list[int] = []

    async def open(self) -> None:
        """Do nothing: memory needs no preparation."""

    async def close(self) -> None:
        """Do nothing: there is nothing to write."""

    def namespace(self, name: str) -> Store:
        """Return the store of the plugin instance ``name``."""
        return NamespacedStore(self, name)

    def find(self, key: Key) -> bytes | None:
        """Return the value of ``key`` as JSON, or None when it has none or it has expired."""
        entry = self._living(key)
        return None if entry is None else entry.value

    def keep(self, key: Key, entry: Entry) -> None:
        """Set the entry of ``key``, then remove up to ``SWEEP`` entries that have expired or are too many."""
        self.drop(key)  # its bucket is that of the old expiry
        bucket = int(entry.expires / BUCKET)
        if bucket not in self._expiring:
            self._expiring[bucket] = set()
            heapq.heappush(self._buckets, bucket)
        self._expiring[bucket].add(key)
        self._entries[key] = entry
        for _ in range(SWEEP):
            # The entry just added makes sure that there is a bucket that is not empty.
            while not self._expiring[self._buckets[0]]:
                del self._expiring[heapq.heappop(self._buckets)]
            # A full store loses the entries that expire first, as ``Store`` promises; within a bucket, any of them.
            first = self._buckets[0]
            expired = (first + 1) * BUCKET <= self.moment()
            if not expired and len(self._entries) <= self._max_entries:
                return
            del self._entries[self._expiring[first].pop()]

    def drop(self, key: Key) -> None:
        """Remove the entry of ``key``."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._expiring[int(entry.expires / BUCKET)].discard(key)

    async def change(self, key: Key, change: Change, *, durable: bool = False) -> Entry | None:
        """Set the entry of ``key`` to what ``change`` returns. Nothing outlives the process, whether durable or not."""
        entry = change(self._living(key))
        if entry is not None:
            self.keep(key, entry)
        return entry

    def _living(self, key: Key) -> Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and self.moment() < entry.expires else None
