"""The store: small values with a time to live, each plugin under its own namespace.

``Store`` is what a plugin sees. ``Backend`` is what the server opens, closes and cuts into namespaces; ``open_store``
makes one from a URL. The back end in a process's memory is here, the one in a file is in ``store_sqlite``.

All public methods are coroutines, so that a plugin reads the same when the store is a server on the network. On these
two back ends ``get``, ``put`` and ``delete`` never suspend.

This module knows nothing of SMTP and of what the values mean.
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
    """What a plugin gets when its constructor asks for ``store``: a memory that no other plugin shares.

    A key is any text. A value is what JSON can say: a string, a number, a bool, a list or a dict with string keys, at
    most 64 KiB when written as JSON. A tuple comes back as a list. ``None`` may stand inside, but cannot be a value by
    itself, because it is how ``get`` says that nothing is there.

    ``ttl`` is the time to live in seconds, at most 366 days; more is cut to that, and with 0 the entry is gone at
    once. The store is bounded: when it is full, the entries that would expire first go first.

    What ``put`` and ``delete`` do is seen by this process at once. A store in a file writes it within 100 ms, so a
    crash may lose that much, and other processes see it that much later. ``add``, ``incr`` and a durable ``put`` are
    written before they return, and are atomic among all processes that share the store.

    Every method raises ``StoreError`` when the store cannot read or write, or cannot keep this value.
    """

    async def get(self, key: str) -> Any:
        """The value of ``key``, or None when there is none or its time is over."""

    async def put(self, key: str, value: Value, ttl: float, *, durable: bool = False) -> None:
        """Keep ``value`` for ``ttl`` seconds, in place of what was there.

        With ``durable`` it returns when the value is safe on disk, so that not even a power cut can lose it.
        """

    async def add(self, key: str, value: Value, ttl: float) -> bool:
        """Keep ``value`` only if nothing is there; says whether it did. Of several that try, one succeeds."""

    async def incr(self, key: str, by: int = 1, *, ttl: float) -> int:
        """Add ``by`` to the whole number under ``key`` (0 when there is none) and return the sum.

        ``ttl`` counts from the first call, and later calls do not renew it: this counts what happens in a window of
        time. Raises ``StoreError`` when another kind of value is there.
        """

    async def delete(self, key: str) -> None:
        """Forget ``key``; does nothing when it is not there."""


class Backend(Protocol):
    """A store as the server sees it. Open it before use, and close it: what waits to be written is written then."""

    async def open(self) -> None:
        """Make ready. Raises ``StoreError`` with a sentence for the administrator."""

    async def close(self) -> None:
        """Write what waits, and let go. May be called twice. Raises ``StoreError`` when something was lost."""

    def namespace(self, name: str) -> Store:
        """The store of the plugin instance ``name``."""


# What the back ends share. Redis has an atomic command for each method and will need none of it.

Key: TypeAlias = tuple[str, bytes]


class Entry(NamedTuple):
    """A value as it is kept: JSON, and the moment from which it is gone, on the back end's clock. A row of a table."""

    value: bytes
    expires: float


Change: TypeAlias = Callable[[Entry | None], Entry | None]


class Entries(Protocol):
    """What a back end does, beneath ``NamespacedStore``."""

    def moment(self) -> float:
        """The present, on the clock by which entries expire."""

    def find(self, key: Key) -> bytes | None:
        """The value of ``key``, as JSON, if its entry lives."""

    def keep(self, key: Key, entry: Entry) -> None:
        """Put ``entry`` under ``key``."""

    def drop(self, key: Key) -> None:
        """Forget ``key``."""

    async def change(self, key: Key, change: Change, *, durable: bool = False) -> Entry | None:
        """Keep what ``change`` makes of the living entry, or leave it alone if it makes None; return what it made.

        Atomic, and written when it returns. ``change`` may run in another thread.
        """


class NamespacedStore:
    """``Store`` over the entries of a back end."""

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

    async def put(self, key: str, value: Value, ttl: float, *, durable: bool = False) -> None:
        entry = self._entry(value, ttl)
        if durable:
            await self._entries.change(self._key(key), lambda found: entry, durable=True)
        else:
            self._entries.keep(self._key(key), entry)

    async def add(self, key: str, value: Value, ttl: float) -> bool:
        entry = self._entry(value, ttl)
        if self._entries.find(self._key(key)) is not None:
            return False  # spares the common case a way through the writer
        kept = await self._entries.change(self._key(key), lambda found: entry if found is None else None)
        return kept is not None

    async def incr(self, key: str, by: int = 1, *, ttl: float) -> int:
        first = self._entry(by, ttl)
        kept = await self._entries.change(self._key(key), lambda found: _increased(found, by) if found else first)
        assert kept is not None
        return int(kept.value)

    async def delete(self, key: str) -> None:
        self._entries.drop(self._key(key))

    def _key(self, key: str) -> Key:
        octets = key.encode("utf-8", "surrogatepass")
        if len(octets) > MAX_KEY:  # a client chooses how long its sender is; no text begins with this octet
            octets = b"\xff" + blake2b(octets, digest_size=32).digest()
        return self._name, octets

    def _entry(self, value: Value, ttl: float) -> Entry:
        return Entry(encode(value), self._entries.moment() + max(0.0, min(ttl, MAX_TTL)))


def _increased(found: Entry, by: int) -> Entry:
    number = decode(found.value)
    if type(number) is not int:  # a bool is an int to isinstance
        raise StoreError(f"incr needs a whole number, and this key holds a {type(number).__name__}")
    return Entry(encode(number + by), found.expires)


def encode(value: Value) -> bytes:
    """``value`` as JSON. Raises ``StoreError`` when it cannot be said in JSON, is None, or is too large."""
    try:
        octets = orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME)
    except TypeError as error:
        raise StoreError(f"the store cannot keep this value: {error}") from None
    if octets == b"null":
        raise StoreError("the store cannot keep None or NaN: None says that nothing is there. Keep True instead")
    if len(octets) > MAX_VALUE:
        raise StoreError(f"a value of {len(octets)} octets is too large: the store keeps at most {MAX_VALUE}")
    return octets


def decode(octets: bytes) -> Any:
    """The value that ``encode`` wrote."""
    try:
        return orjson.loads(octets)
    except ValueError as error:
        raise StoreError(f"the store holds a value that it cannot read: {error}") from None
