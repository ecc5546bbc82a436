"""Both back ends of the store, opened and closed around each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gatepost.services.store.open import open_store
from gatepost.services.store.store import Backend
from gatepost.services.virtual_clock import VirtualClock
from gatepost.testing.recording import GateEvents


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, path: Path) -> str:
    return "memory:" if request.param == "memory" else f"sqlite://{path}"


@pytest.fixture
async def backend(url: str, clock: VirtualClock) -> AsyncIterator[Backend]:
    backend = open_store(url, clock)
    await backend.open()
    yield backend
    await backend.close()


@pytest.fixture
def events() -> GateEvents:
    return GateEvents()


@pytest.fixture
async def in_file(path: Path, clock: VirtualClock, events: GateEvents) -> AsyncIterator[Backend]:
    backend = open_store(f"sqlite://{path}", clock, events)
    await backend.open()
    yield backend
    await backend.close()
