"""The store: small values with a time to live, in a namespace for each plugin.

``Store`` is the interface for plugins. ``Backend`` is the interface for the server, which opens it, divides it into
namespaces and closes it. ``open_store`` makes a back end from a URL; ``memory`` and ``sqlite`` are the two that exist.

All methods of ``Store`` are coroutines, so that plugins need no change when the store is a server on the network. With
the two back ends ``get``, ``put`` and ``delete`` never suspend.

This module does not know SMTP or the meaning of the values.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import orjson

from gatepost.errors import StoreError

Value: TypeAlias = str | int | float | bool | list[Any] | tuple[Any, ...] | dict[str, Any]

DAY: Final = 86_400.0
MAX_TTL: Final = 366 * DAY
MAX_ENTRIES: Final = 1_000_000
MAX_VALUE: Final = 65_536
MAX_KEY: Final = 256


class Store(Protocol):
    """The service that a plugin gets as ``store``, shared with no other plugin.

    A key is any text. A value is anything that JSON can represent: a string, a number, a bool, a list or a dict with
    string keys, at most 64 KiB as JSON. A tuple comes back as a list. ``None`` may occur inside a value, but is not a
    value itself, because ``get`` returns it when there is none.

    ``ttl`` is the time to live in seconds, at most 366 days; longer times are shortened to that, and with 0 the entry
    expires at once. The store has a limited size: when it is full, the entries that expire first are removed.

    ``put`` and ``delete`` take effect at once in this process. A store in a file is written within 100 ms, so a crash
    may lose the last 100 ms, and other processes see changes that much later. ``add``, ``incr`` and a durable ``put``
    are written before they return, and are atomic among all processes that share the store.

    Every method raises ``StoreError`` when the store cannot be read or written, or cannot hold this value.
    """

    async def get(self, key: str) -> Any:
        """Return the value of ``key``, or None when there is none or it has expired."""

    async def put(self, key: str, value: Value, ttl: float, *, durable: bool = False) -> None:
        """Set the value of ``key`` for ``ttl`` seconds.

        With ``durable`` it returns when the value is safe on disk, so that even a power failure cannot lose it.
        """

    async def add(self, key: str, value: Value, ttl: float) -> bool:
        """Set the value of ``key`` if it has none, and return whether it did. Of concurrent calls, one succeeds."""

    async def incr(self, key: str, by: int = 1, *, ttl: float) -> int:
        """Add ``by`` to the integer value of ``key`` (0 when it has none) and return the sum.

        ``ttl`` starts with the first call, and later calls do not renew it, so this counts events in a period of time.
        Raises ``StoreError`` when the value is not an integer.
        """

    async def delete(self, key: str) -> None:
        """Remove the value of ``key``, if any."""


class Backend(Protocol):
    """The store as the server sees it. Open it before use; closing it writes everything that is not written yet."""

    async def open(self) -> None:
        """Open it. Raises ``StoreError`` with a sentence for the administrator."""

    async def close(self) -> None:
        """Write and close it. May be called twice. Raises ``StoreError`` when something could not be written."""

    def namespace(self, name: str) -> Store:
        """Return the store of the plugin instance ``name``."""


# Common to the back ends in memory and in a file. Redis has an atomic command for each method of ``Store``.

Key: TypeAlias = tuple[str, bytes]


class Entry(NamedTuple):
    """A stored value as JSON, and the time at which it expires, on the back end's clock."""

    value: bytes
    expires: float


Change: TypeAlias = Callable[[Entry | None], Entry | None]


class Entries(Protocol):
    """The operations of a back end that ``NamespacedStore`` builds on."""

    def moment(self) -> float:
        """Return the time on the clock by which entries expire."""

    def find(self, key: Key) -> bytes | None:
        """Return the value of ``key`` as JSON, or None when it has none or it has expired."""

    def keep(self, key: Key, entry: Entry) -> None:
        """Set the entry of ``key``."""

    def drop(self, key: Key) -> None:
        """Remove the entry of ``key``."""

    async def change(self, key: Key, change: Change, *, durable: bool = False) -> Entry | None:
        """Call ``change`` with the entry of ``key`` or None, and set the entry to its result, unless that is None.

        Returns the result of ``change``. The operation is atomic, and written when this returns. ``change`` may run in
        another thread.
        """


class NamespacedStore:
    """A ``Store`` in the entries of a back end."""

    __slots__ = ("_entries", "_find", "_name")

    def __init__(self, entries: Entries, name: str) -> None:
        if not name or not name.isprintable():
            raise StoreError(f"{name!r} cannot be the name of a namespace")
        self._entries = entries
        self._find = entries.find
        self._name = name

    async def get(self, key: str) -> Any:
        value = self._find(self._key(key))
        return None if value is None else decode(value)

    async def put(self, key: str, value: Any, ttl: float, *, durable: bool = False) -> None:
        entry = self._entry(value, ttl)
        if durable:
            await self._entries.change(self._key(key), lambda found: entry, durable=True)
        else:
            self._entries.keep(self._key(key), entry)

    async def add(self, key: str, value: Any, ttl: float) -> bool:
        entry = self._entry(value, ttl)
        if self._entries.find(self._key(key)) is not None:
            return False  # the common case, without a transaction
        added = await self._entries.change(self._key(key), lambda found: entry if found is None else None)
        return added is not None

    async def incr(self, key: str, by: int = 1, *, ttl: float) -> int:
        first = self._entry(by, ttl)
        kept = await self._entries.change(self._key(key), lambda found: _increased(found, by) if found else first)
        assert kept is not None  # the change never returns None
        return int(kept.value)

    async def delete(self, key: str) -> None:
        self._entries.drop(self._key(key))

    def _key(self, key: str) -> Key:
        octets = key.encode("utf-8", "surrogatepass")
        if len(octets) > MAX_KEY:  # clients may choose keys; no UTF-8 text begins with 0xff
            octets = b"\xff" + blake2b(octets, digest_size=32).digest()
        return self._name, octets

    def _entry(self, value: Any, ttl: float) -> Entry:
        return Entry(encode(value), self._entries.moment() + max(0.0, min(ttl, MAX_TTL)))


def _increased(found: Entry, by: int) -> Entry:
    number = decode(found.value)
    if type(number) is not int:  # isinstance would accept a bool
        raise StoreError(f"incr needs a whole number, but the value of this key is a {type(number).__name__}")
    return Entry(encode(number + by), found.expires)


# A plugin may pass anything. Compiled code would answer a value of another type than ``Value`` with a TypeError, before
# ``encode`` can raise StoreError; so implementations take Any, and only the protocol says Value.
def encode(value: Any) -> bytes:
    """Return ``value`` as JSON. Raises ``StoreError`` when JSON cannot represent it, or it is None or too large."""
    try:
        octets = orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError as error:
        raise StoreError(f"the store cannot keep this value: {error}") from None
    if octets == b"null":
        raise StoreError(
            "the store cannot keep None or NaN, because None means that there is no value. Keep True instead"
        )
    if len(octets) > MAX_VALUE:
        raise StoreError(f"a value of {len(octets)} octets is too large; the limit is {MAX_VALUE}")
    return octets


def decode(octets: bytes) -> Any:
    """Return the value that ``encode`` has written. Raises ``StoreError`` for any other octets."""
    try:
        return orjson.loads(octets)
    except ValueError as error:
        raise StoreError(f"the store cannot read a value: {error}") from None
