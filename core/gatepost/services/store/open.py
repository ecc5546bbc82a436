"""From a URL to a back end."""

from __future__ import annotations

from gatepost.errors import StoreError
from gatepost.events import NULL_RECORDER, Recorder
from gatepost.services.clock import Clock
from gatepost.services.store.memory import MemoryBackend
from gatepost.services.store.sqlite import SqliteBackend
from gatepost.services.store.store import MAX_ENTRIES, Backend


def open_store(url: str, clock: Clock, recorder: Recorder = NULL_RECORDER, max_entries: int = MAX_ENTRIES) -> Backend:
    """Return the back end for ``url``, not opened yet.

    ``url`` is ``sqlite:///absolute/path``, ``sqlite:path/from/here`` or ``memory:``. ``recorder`` is told when the
    store cannot be written. ``max_entries`` limits all namespaces together. Raises ``StoreError`` for any other URL.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "memory" and not rest.strip("/"):
        return MemoryBackend(clock, max_entries)
    if scheme == "sqlite":
        path = rest.removeprefix("//")
        if not path or (path != rest and not path.startswith("/")):  # sqlite://var/lib has a host named "var"
            raise StoreError(f"{url!r} names no file; write sqlite:///absolute/path or sqlite:path/from/here")
        return SqliteBackend(path, clock, recorder, max_entries)
    if scheme in {"redis", "rediss"}:
        raise StoreError(f"{url}: a store in Redis comes later; use sqlite:///path/of/a/file or memory:")
    raise StoreError(f"{url!r} is not the URL of a store; it looks like sqlite:///path/of/a/file or memory:")
