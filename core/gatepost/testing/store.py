"""The store of a policy under test: in memory, open to inspection, and broken if the test says so."""

from __future__ import annotations

from gatepost.errors import StoreError
from gatepost.services.clock import Clock
from gatepost.services.store import Change, Entry, Key, MemoryBackend, Store, decode


class MemoryStore(MemoryBackend):
    """The store of all plugins of a policy under test.

    ``broken`` has the names of plugins whose reads and writes raise ``StoreError``, as with a failed disk. The name of
    the core is "gatepost".
    """

    __slots__ = ("broken",)

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.broken: set[str] = set()

    def of(self, plugin: str) -> Store:
        """Return the store of the plugin instance with this name, for reading and writing."""
        return self.namespace(plugin)

    def contents(self, plugin: str) -> dict[str, object]:
        """Return the values of a plugin instance by key. A key of more than 256 octets is a hash of it."""
        return {
            key.decode("utf-8", "backslashreplace"): decode(entry.value)
            for (name, key), entry in self._entries.items()
            if name == plugin and self.moment() < entry.expires
        }

    def find(self, key: Key) -> bytes | None:
        """Return the value of ``key`` as JSON, or None when it has none or it has expired."""
        self._check(key)
        return super().find(key)

    def keep(self, key: Key, entry: Entry) -> None:
        """Set the entry of ``key``."""
        self._check(key)
        super().keep(key, entry)

    def drop(self, key: Key) -> None:
        """Remove the entry of ``key``."""
        self._check(key)
        super().drop(key)

    async def change(self, key: Key, change: Change, *, durable: bool = False) -> Entry | None:
        """Set the entry of ``key`` to the result of ``change``."""
        self._check(key)
        return await super().change(key, change, durable=durable)

    def _check(self, key: Key) -> None:
        if key[0] in self.broken:
            raise StoreError("the store is broken, as the test says")
