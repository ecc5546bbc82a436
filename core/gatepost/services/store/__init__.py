"""The store of small values with a time to live, in memory or in a file."""

from gatepost.services.store.memory import MemoryBackend
from gatepost.services.store.open import open_store
from gatepost.services.store.store import Backend, Change, Entry, Key, Store, decode

__all__ = [
    "Backend",
    "Change",
    "Entry",
    "Key",
    "MemoryBackend",
    "Store",
    "decode",
    "open_store",
]
