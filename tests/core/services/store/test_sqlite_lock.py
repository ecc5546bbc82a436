"""All that waits for a locked file waits once, together, and closing has a bound."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gatepost.errors import StoreError
from gatepost.services.store import sqlite
from gatepost.services.store.sqlite import SqliteBackend
from gatepost.services.store.store import Backend
from gatepost.testing.recording import GateEvents
from tests.core.services.store.stores import commits, locked, rows


async def test_what_waits_for_a_lock_becomes_one_transaction(in_file: Backend, path: Path) -> None:
    store = in_file.namespace("p")
    await store.put("open", 1, ttl=60, durable=True)
    before = commits(path)
    with locked(path):
        calls = [asyncio.ensure_future(store.put(str(number), number, ttl=60, durable=True)) for number in range(20)]
        await asyncio.sleep(0)
        assert not any(call.done() for call in calls)
    await asyncio.gather(*calls)
    assert len(rows(path)) == 21
    assert commits(path) - before == 2  # the first, and those that came while it waited


async def test_puts_and_changes_of_one_key_take_effect_in_their_order(in_file: Backend, path: Path) -> None:
    store = in_file.namespace("p")
    with locked(path):
        first = asyncio.ensure_future(store.put("other", 1, ttl=60, durable=True))
        await asyncio.sleep(0)
        await store.put("key", 5, ttl=60)
        second = asyncio.ensure_future(store.incr("key", ttl=60))
        await asyncio.sleep(0)
        await store.put("key", 10, ttl=60)
        third = asyncio.ensure_future(store.incr("key", by=2, ttl=60))
        await asyncio.sleep(0)
        await store.put("last", 3, ttl=60)
    await first
    assert [await second, await third] == [6, 12]
    assert rows(path) == [("p", b"key", b"12"), ("p", b"last", b"3"), ("p", b"other", b"1")]


async def test_an_error_of_one_change_is_no_error_of_the_others(in_file: Backend, path: Path) -> None:
    store = in_file.namespace("p")
    await store.put("text", "no number", ttl=60)
    with locked(path):
        calls = [asyncio.ensure_future(store.incr(key, ttl=60)) for key in ("a", "b", "text", "c")]
        await asyncio.sleep(0)
    said = await asyncio.gather(*calls, return_exceptions=True)
    assert [said[0], said[1], said[3]] == [1, 1, 1]
    assert isinstance(said[2], StoreError) and "incr needs a whole number" in str(said[2])
    assert await store.get("c") == 1


@pytest.mark.patches
async def test_a_lock_that_stays_fails_all_that_waited_after_at_most_two_waits(
    in_file: Backend, path: Path, events: GateEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []
    write = sqlite._Writer.write
    monkeypatch.setattr(
        sqlite._Writer, "write", lambda self, steps, *rest: (attempts.append(len(steps)), write(self, steps, *rest))[1]
    )
    assert isinstance(in_file, SqliteBackend)
    in_file._writer._connection.execute("PRAGMA busy_timeout = 0")  # type: ignore[union-attr]
    store = in_file.namespace("p")
    with locked(path):
        calls = [store.put(str(number), number, ttl=60, durable=True) for number in range(20)]
        said = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(each, StoreError) and "locked" in str(each) for each in said) and len(said) == 20
        assert attempts == [1, 19]
        await store.put("kept", 1, ttl=60)
        with pytest.raises(StoreError, match="locked"):
            await in_file.close()
        assert attempts == [1, 19, 0]  # closing waits once more, and no longer
    assert [event.name for event in events] == ["store_cannot_write"]


@pytest.mark.patches
async def test_durable_writes_are_synced_with_synchronous_full_and_batches_are_not(in_file: Backend) -> None:
    assert isinstance(in_file, SqliteBackend) and in_file._writer._connection is not None
    connection = in_file._writer._connection
    store = in_file.namespace("p")

    async def level() -> int:
        (level,) = connection.execute("PRAGMA synchronous").fetchone()
        return int(level)

    await store.put("key", 1, ttl=60, durable=True)
    assert await level() == 2  # FULL: the write-ahead log is synced with each transaction
    await store.incr("key", ttl=60)
    assert await level() == 1  # NORMAL: with each checkpoint


@pytest.mark.patches
async def test_one_durable_write_among_others_makes_their_transaction_durable(in_file: Backend, path: Path) -> None:
    assert isinstance(in_file, SqliteBackend) and in_file._writer._connection is not None
    store = in_file.namespace("p")
    with locked(path):
        calls = [asyncio.ensure_future(store.incr("first", ttl=60))]
        await asyncio.sleep(0)
        calls.append(asyncio.ensure_future(store.incr("second", ttl=60)))
        durable = asyncio.ensure_future(store.put("durable", 1, ttl=60, durable=True))
        await asyncio.sleep(0)
    await asyncio.gather(*calls, durable)
    assert in_file._writer._connection.execute("PRAGMA synchronous").fetchone() == (2,)
