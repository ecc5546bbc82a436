"""A damaged, unreadable or deleted file stops neither the start nor any plugin: it is put aside and a new one begun."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gatepost.errors import StoreError
from gatepost.services.store.open import open_store
from gatepost.services.store.store import Backend
from gatepost.services.virtual_clock import VirtualClock
from gatepost.testing.recording import GateEvents
from tests.core.services.store.stores import rows, until


def zero_all(path: Path) -> None:
    """As after a power failure: the file has its length, and none of its content."""
    path.write_bytes(bytes(path.stat().st_size))


def cut(path: Path) -> None:
    os.truncate(path, 4096)


def spoil_pages(path: Path) -> None:
    """Overwrite every page but the first, which holds the schema."""
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (path.stat().st_size - 4096))


DAMAGES: list[Callable[[Path], None]] = [zero_all, cut, spoil_pages]


async def filled(path: Path, clock: VirtualClock, events: GateEvents) -> Backend:
    """Return an open store whose file has a thousand entries of the namespace "p", and no write-ahead log."""
    backend = open_store(f"sqlite://{path}", clock, events)
    await backend.open()
    for number in range(1000):
        await backend.namespace("p").put(str(number), "x" * 100, ttl=600)
    await backend.close()
    await backend.open()
    return backend


def content(path: Path, suffix: str = "") -> bytes:
    return Path(f"{path}{suffix}").read_bytes()


def names(events: GateEvents) -> list[str]:
    return [event.name for event in events]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_file_is_put_aside_at_the_start(
    path: Path, clock: VirtualClock, events: GateEvents, damage: Callable[[Path], None]
) -> None:
    await (await filled(path, clock, events)).close()
    damage(path)
    spoilt = content(path)
    backend = open_store(f"sqlite://{path}", clock, events)
    await backend.open()
    store = backend.namespace("p")
    assert await store.get("500") is None
    await store.put("500", "new", ttl=60, durable=True)
    assert rows(path) == [("p", b"500", b'"new"')]
    assert names(events) == ["store_replaced"]
    assert [event.facts["path"] for event in events] == [str(path)]
    assert content(path, ".damaged") == spoilt
    await backend.close()


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_file_damaged_while_in_use_is_put_aside_and_no_write_is_refused(
    path: Path, clock: VirtualClock, events: GateEvents, damage: Callable[[Path], None]
) -> None:
    backend = await filled(path, clock, events)
    store = backend.namespace("p")
    damage(path)
    await store.put("kept", 1, ttl=60)
    assert await store.get("500") is None  # the loop has read nothing before
    await store.put("durable", 2, ttl=60, durable=True)
    assert await store.incr("count", ttl=60) == 1
    assert [await store.get(key) for key in ("kept", "durable", "count", "500")] == [1, 2, 1, None]
    assert [key for _, key, _ in rows(path)] == [b"count", b"durable", b"kept"]
    assert names(events) == ["store_replaced"]
    await backend.close()


async def test_a_damage_that_only_a_write_finds_loses_no_entry_and_no_order(
    path: Path, clock: VirtualClock, events: GateEvents
) -> None:
    backend = await filled(path, clock, events)
    store = backend.namespace("p")
    spoil_pages(path)
    await store.put("500", 1, ttl=60)
    await store.put("500", 2, ttl=60, durable=True)
    assert await store.get("500") == 2
    assert rows(path) == [("p", b"500", b"2")]
    assert names(events) == ["store_replaced"]
    await backend.close()


async def test_a_deleted_store_is_noticed(path: Path, clock: VirtualClock, events: GateEvents) -> None:
    backend = await filled(path, clock, events)
    store = backend.namespace("p")
    for file in path.parent.iterdir():
        file.unlink()
    await store.put("key", 1, ttl=60, durable=True)
    assert rows(path) == [("p", b"key", b"1")]
    assert [event.facts["error"] for event in events] == ["the file was deleted or replaced"]
    await backend.close()
    assert rows(path) == [("p", b"key", b"1")]


async def test_of_two_that_share_a_damaged_file_one_begins_the_new_one(
    path: Path, clock: VirtualClock, events: GateEvents
) -> None:
    first = await filled(path, clock, events)
    second = open_store(f"sqlite://{path}", clock, events)
    await second.open()
    spoil_pages(path)
    await first.namespace("p").put("1", "first", ttl=60, durable=True)
    await second.namespace("p").put("2", "second", ttl=60, durable=True)
    assert [key for _, key, _ in rows(path)] == [b"1", b"2"]
    assert await first.namespace("p").incr("both", ttl=60) + await second.namespace("p").incr("both", ttl=60) == 3
    assert names(events) == ["store_replaced"] * 2
    await first.close()
    await second.close()


async def test_one_file_that_was_put_aside_is_kept_not_all(path: Path, clock: VirtualClock) -> None:
    for spoilt in (b"first", b"second"):
        path.write_bytes(spoilt * 1000)  # noqa: ASYNC240 – nobody else runs
        backend = open_store(f"sqlite://{path}", clock)
        await backend.open()
        await backend.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["state.db", "state.db.damaged"]
    assert content(path, ".damaged") == b"second" * 1000


async def test_what_cannot_be_opened_anew_waits_in_memory_until_it_can(
    path: Path, clock: VirtualClock, events: GateEvents
) -> None:
    backend = await filled(path, clock, events)
    store = backend.namespace("p")
    for file in path.parent.iterdir():
        file.unlink()
    os.mkdir(path)  # nothing can be opened there, not even by root
    await store.put("key", 1, ttl=60)
    await clock.advance(0.1)
    await until(lambda: bool(events))
    assert names(events) == ["store_cannot_write"]
    assert [await store.get("key"), await store.get("500")] == [1, None]
    os.rmdir(path)
    await clock.advance(1)
    await until(lambda: len(events) > 1)
    assert names(events)[-1] == "store_writes_again"
    assert rows(path) == [("p", b"key", b"1")]
    await backend.close()


async def test_a_file_that_another_account_owns_is_put_aside(clock: VirtualClock, events: GateEvents) -> None:
    """A trial as root may have made it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own folders are closed to others
        path = Path(folder) / "state.db"
        await (await filled(path, clock, GateEvents())).close()
        os.chmod(folder, 0o777)
        os.seteuid(65534)
        try:
            backend = open_store(f"sqlite://{path}", clock, events)
            await backend.open()
            await backend.close()
        finally:
            os.seteuid(0)
        assert names(events) == ["store_replaced"]
        assert (os.stat(path).st_uid, os.stat(f"{path}.damaged").st_uid) == (65534, 0)


async def test_a_database_of_another_program_is_left_alone(path: Path, clock: VirtualClock) -> None:
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE entries (something TEXT)")
    other.close()
    with pytest.raises(StoreError, match="no such column"):
        await open_store(f"sqlite://{path}", clock).open()
    assert [file.name for file in path.parent.iterdir()] == ["state.db"]
