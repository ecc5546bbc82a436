"""The URLs of stores: an error is one sentence that names the URL."""

from __future__ import annotations

import pytest

from gatepost.errors import StoreError
from gatepost.services.store.open import open_store
from gatepost.services.virtual_clock import VirtualClock


@pytest.mark.parametrize("url", ["", "state.db", "postgres://db", "memory:x", "/var/lib/state.db"])
async def test_an_unknown_url(url: str, clock: VirtualClock) -> None:
    with pytest.raises(StoreError, match=r"is not the URL of a store; it looks like sqlite:///"):
        open_store(url, clock)


@pytest.mark.parametrize("url", ["sqlite", "sqlite:", "sqlite://", "sqlite://var/lib/state.db"])
async def test_a_url_without_a_file(url: str, clock: VirtualClock) -> None:
    with pytest.raises(StoreError, match="names no file; write sqlite:///"):
        open_store(url, clock)


async def test_redis_comes_later(clock: VirtualClock) -> None:
    with pytest.raises(StoreError, match="redis://db:6379: a store in Redis comes later"):
        open_store("redis://db:6379", clock)
