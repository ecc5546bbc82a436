"""The store of a test: in memory, open to a look inside, and broken when a test says so."""

from __future__ import annotations

from gatepost.errors import StoreError
from gatepost.services.clock import Clock
from gatepost.services.store import Change, Entry, Key, MemoryBackend, Store, decode


class MemoryStore(MemoryBackend):
    """What the plugins of a test's policy remember.

    ``broken`` holds the names of plugins whose every read and write raises ``StoreError``, as with a disk that fails;
    the core's own name is "gatepost".
    """

    __slots__ = ("broken",)

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.broken: set[str] = set()

    def of(self, plugin: str) -> Store:
        """The store as the plugin instance of this name has it, to read from and to put something into."""
        return self.namespace(plugin)

    def contents(self, plugin: str) -> dict[str, object]:
        """The living entries of the plugin instance of this name, by key. A key over 256 octets is a hash of it."""
        return {
            key.decode("utf-8", "backslashreplace"): decode(entry.value)
            for (name, key), entry in self._entries.items()
            if name == plugin and self.moment() < entry.expires
        }

    def find(self, key: Key) -> bytes | None:
        """The value of ``key``, as JSON, if its entry lives."""
        self._check(key)
        return super().find(key)

    def keep(self, key: Key, entry: Entry) -> None:
        """Put ``entry`` under ``key``."""
        self._check(key)
        super().keep(key, entry)

    def drop(self, key: Key) -> None:
        """Forget ``key``."""
        self._check(key)
        super().drop(key)

    async def change(self, key: Key, change: Change, *, durable: bool = False) -> Entry | None:
        """Keep what ``change`` makes of the living entry."""
        self._check(key)
        return await super().change(key, change, durable=durable)

    def _check(self, key: Key) -> None:
        if key[0] in self.broken:
            raise StoreError("the store is broken, as the test says")
