"""The behaviour that only the store in a file has."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gatepost.errors import StoreError
from gatepost.services.clock import SystemClock
from gatepost.services.store import sqlite
from gatepost.services.store.open import open_store
from gatepost.services.store.store import DAY, MAX_TTL, Backend
from gatepost.services.virtual_clock import VirtualClock
from gatepost.testing.recording import GateEvents
from tests.core.services.store.stores import HOUR, locked, rows, until


class TestFile:
    """The operations that are tried on the store in a file."""

    async def test_what_was_put_is_there_after_a_restart(self, in_file: Backend, clock: VirtualClock) -> None:
        store = in_file.namespace("p")
        await store.put("kept", [1], ttl=60)
        await store.put("deleted", 1, ttl=60, durable=True)
        await store.delete("deleted")
        await in_file.close()
        await in_file.open()
        assert await store.get("kept") == [1]
        assert await store.get("deleted") is None
        await clock.advance(60)
        assert await store.get("kept") is None

    async def test_writes_leave_together_after_a_tenth_of_a_second(
        self, in_file: Backend, path: Path, clock: VirtualClock
    ) -> None:
        store = in_file.namespace("p")
        await store.put("a", 1, ttl=60)
        await store.put("b", 2, ttl=60)
        await store.put("b", 3, ttl=60)
        await clock.advance(0.05)
        assert rows(path) == []
        await clock.advance(0.06)
        await until(lambda: bool(rows(path)))
        assert rows(path) == [("p", b"a", b"1"), ("p", b"b", b"3")]

    async def test_many_writes_do_not_wait_for_the_clock(self, in_file: Backend, path: Path) -> None:
        store = in_file.namespace("p")
        for number in range(sqlite.BATCH_FROM):
            await store.put(str(number), number, ttl=60)
        await until(lambda: bool(rows(path)))
        assert len(rows(path)) == sqlite.BATCH_FROM

    async def test_a_durable_put_is_in_the_file_when_it_returns(self, in_file: Backend, path: Path) -> None:
        await in_file.namespace("p").put("key", 1, ttl=60, durable=True)
        assert rows(path) == [("p", b"key", b"1")]

    async def test_a_durable_put_survives_a_kill(self, path: Path) -> None:
        script = """
import asyncio, os, signal, sys
from gatepost.services.clock import SystemClock
from gatepost.services.store import open_store

async def main():
    backend = open_store("sqlite://" + sys.argv[1], SystemClock())
    await backend.open()
    await backend.namespace("p").put("key", "taken", ttl=600, durable=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, str(path))
        assert await process.wait() == -signal.SIGKILL
        backend = open_store(f"sqlite://{path}", SystemClock())
        await backend.open()
        assert await backend.namespace("p").get("key") == "taken"
        await backend.close()

    async def test_add_and_incr_are_atomic_between_two_that_share_a_file(
        self, in_file: Backend, path: Path, clock: VirtualClock
    ) -> None:
        other = open_store(f"sqlite://{path}", clock)
        await other.open()
        stores = [in_file.namespace("p"), other.namespace("p")]
        for number in range(20):
            said = await asyncio.gather(*(store.add(str(number), 1, ttl=60) for store in stores))
            assert sorted(said) == [False, True]
        sums = await asyncio.gather(*(store.incr("count", ttl=60) for store in stores * 20))
        assert sorted(sums) == list(range(1, 41))
        await other.close()

    async def test_several_may_make_the_file_at_once(self, path: Path, clock: VirtualClock) -> None:
        backends = [open_store(f"sqlite://{path}", clock) for _ in range(6)]
        await asyncio.gather(*(backend.open() for backend in backends))
        await backends[0].namespace("p").put("key", 1, ttl=60, durable=True)
        assert [await backend.namespace("p").get("key") for backend in backends] == [1] * 6
        for backend in backends:
            await backend.close()

    async def test_another_that_writes_holds_up_no_read_and_no_put(
        self, in_file: Backend, path: Path, clock: VirtualClock
    ) -> None:
        store = in_file.namespace("p")
        await store.put("old", 1, ttl=60, durable=True)
        with locked(path):
            durable = asyncio.ensure_future(store.put("durable", 2, ttl=60, durable=True))
            await clock.advance(1)
            await store.put("new", 3, ttl=60)
            assert [await store.get("old"), await store.get("new")] == [1, 3]
            assert not durable.done()
        await durable
        assert await store.get("durable") == 2

    async def test_a_call_that_is_cancelled_takes_no_other_write_with_it(self, in_file: Backend, path: Path) -> None:
        store = in_file.namespace("p")
        with locked(path):
            first = asyncio.ensure_future(store.incr("count", ttl=60))
            await asyncio.sleep(0)
            await store.put("key", 1, ttl=60)
            second = asyncio.ensure_future(store.incr("count", ttl=60))
            await asyncio.sleep(0)
            second.cancel()  # its way to the file is the one that "key" goes
            await asyncio.sleep(0)
        assert await first == 1
        await until(lambda: ("p", b"key", b"1") in rows(path))

    async def test_a_put_while_the_same_key_is_written_stays(self, in_file: Backend, path: Path) -> None:
        store = in_file.namespace("p")
        with locked(path):
            await store.put("key", 1, ttl=60)
            durable = asyncio.ensure_future(store.put("key", 2, ttl=60, durable=True))
            await asyncio.sleep(0)
            await store.put("key", 3, ttl=60)
        await durable
        assert await store.get("key") == 3
        await in_file.close()
        assert rows(path) == [("p", b"key", b"3")]

    async def test_dead_entries_are_swept_from_the_file(
        self, in_file: Backend, path: Path, clock: VirtualClock
    ) -> None:
        store = in_file.namespace("p")
        for number in range(1500):
            await store.put(str(number), number, ttl=60)
        await store.put("new", 1, ttl=HOUR, durable=True)
        await clock.advance(61)
        await store.put("new", 1, ttl=HOUR, durable=True)
        assert len(rows(path)) == 501
        await store.put("new", 1, ttl=HOUR, durable=True)
        assert rows(path) == [("p", b"new", b"1")]

    async def test_a_long_key_takes_little_room(self, in_file: Backend, path: Path) -> None:
        store = in_file.namespace("p")
        for key in ("x" * 256, "x" * 257, "x" * 100_000):
            await store.put(key, len(key), ttl=60, durable=True)
        assert sorted(len(key) for _, key, _ in rows(path)) == [33, 33, 256]
        assert await store.get("x" * 257) == 257

    async def test_the_file_is_for_its_owner_only(self, in_file: Backend, path: Path) -> None:
        await in_file.namespace("p").put("key", 1, ttl=60, durable=True)
        assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}

    async def test_a_relative_path_is_a_file_here(
        self, tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        backend = open_store("sqlite::memory:", clock)
        await backend.open()
        await backend.close()
        assert os.listdir() == [":memory:"]


class TestClockThatJumps:
    """Entries expire by the wall clock, which may be wrong for a while."""

    async def put(self, path: Path, at: float, ttl: float, key: str = "key") -> None:
        backend = open_store(f"sqlite://{path}", VirtualClock(at))
        await backend.open()
        await backend.namespace("p").put(key, 1, ttl=ttl)
        await backend.close()

    async def found(self, path: Path, at: float) -> Any:
        backend = open_store(f"sqlite://{path}", VirtualClock(at))
        await backend.open()
        found = await backend.namespace("p").get("key")
        await backend.close()
        return found

    async def test_an_entry_from_the_far_future_is_gone_and_swept(self, path: Path) -> None:
        await self.put(path, at=2e9 + 10 * MAX_TTL, ttl=60)
        assert await self.found(path, at=2e9) is None
        await self.put(path, at=2e9, ttl=60, key="other")
        assert rows(path) == [("p", b"other", b"1")]

    async def test_a_clock_set_back_by_an_hour_loses_nothing(self, path: Path) -> None:
        await self.put(path, at=2e9, ttl=MAX_TTL)
        assert await self.found(path, at=2e9 - HOUR) == 1

    async def test_a_clock_ahead_by_a_day_keeps_an_entry_a_day_longer(self, path: Path) -> None:
        await self.put(path, at=2e9 + DAY, ttl=HOUR)
        assert await self.found(path, at=2e9 + DAY) == 1
        assert await self.found(path, at=2e9 + DAY + HOUR) is None


@pytest.mark.patches
class TestDiskThatFails:
    """Another process that holds the file for too long stands for any disk that cannot be written."""

    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sqlite, "LOCK_TIMEOUT", 0.0)

    async def fail(self, clock: VirtualClock, events: GateEvents) -> None:
        await clock.advance(sqlite.BATCH_EVERY)
        await until(lambda: bool(events))

    async def test_a_failed_batch_is_logged_once_kept_and_tried_again(
        self, in_file: Backend, path: Path, clock: VirtualClock, events: GateEvents
    ) -> None:
        store = in_file.namespace("p")
        with locked(path):
            await store.put("key", 1, ttl=600)
            await self.fail(clock, events)
            for number in range(3):
                await store.put(f"more {number}", 1, ttl=600)
                with pytest.raises(StoreError):
                    await store.put("durable", 1, ttl=600, durable=True)
            assert await store.get("key") == 1
        await clock.advance(sqlite.RETRY_AFTER)
        await until(lambda: len(rows(path)) == 4)
        await until(lambda: len(events) > 1)
        assert [event.name for event in events] == ["store_cannot_write", "store_writes_again"]
        assert [event.facts["path"] for event in events] == [str(path)] * 2

    async def test_what_must_be_written_says_so_when_it_is_not(self, in_file: Backend, path: Path) -> None:
        store = in_file.namespace("p")
        with locked(path):
            for call in (
                store.put("key", 1, ttl=60, durable=True),
                store.add("key", 1, ttl=60),
                store.incr("key", ttl=60),
            ):
                with pytest.raises(StoreError, match=f"{path} cannot be used: .*locked"):
                    await call
        assert await store.get("key") is None

    async def test_incr_counts_on_from_a_write_that_failed(
        self, in_file: Backend, path: Path, clock: VirtualClock, events: GateEvents
    ) -> None:
        store = in_file.namespace("p")
        with locked(path):
            await store.put("key", 5, ttl=60)
            await self.fail(clock, events)
        assert await store.incr("key", ttl=60) == 6
        assert await store.get("key") == 6

    @pytest.mark.patches
    async def test_what_waits_is_bounded(
        self,
        in_file: Backend,
        path: Path,
        clock: VirtualClock,
        events: GateEvents,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(sqlite, "MAX_UNWRITTEN", 10)
        store = in_file.namespace("p")
        with locked(path):
            for number in range(10):
                await store.put(str(number), number, ttl=60)
            await self.fail(clock, events)
            await store.put("0", "again", ttl=60)
            with pytest.raises(StoreError, match="cannot keep up"):
                await store.put("10", 10, ttl=60)
        await store.put("0", "written", ttl=60, durable=True)
        await store.put("10", 10, ttl=60)
        assert await store.get("10") == 10

    async def test_closing_says_when_something_was_lost(
        self, path: Path, clock: VirtualClock, events: GateEvents
    ) -> None:
        backend = open_store(f"sqlite://{path}", clock, events)
        await backend.open()
        await backend.namespace("p").put("key", 1, ttl=60)
        with locked(path), pytest.raises(StoreError, match="locked"):
            await backend.close()
        assert events.named("store_cannot_write")[0]["waiting"] == 1
        await backend.close()


class TestMistakes:
    """Each error is one sentence that names the file."""

    async def refused(self, path: Path, clock: VirtualClock) -> str:
        with pytest.raises(StoreError) as caught:
            await open_store(f"sqlite://{path}", clock).open()
        return str(caught.value)

    async def test_a_folder_that_is_not_there(self, tmp_path: Path, clock: VirtualClock) -> None:
        path = tmp_path / "none" / "state.db"
        assert f"{path} cannot be used: No such file" in await self.refused(path, clock)

    async def test_a_folder_where_nobody_can_write(self, tmp_path: Path, clock: VirtualClock) -> None:
        folder = tmp_path
        if os.geteuid() == 0:
            folder = Path("/proc")  # root writes in any folder of a disk
        else:
            folder.chmod(0o500)
        said = await self.refused(folder / "state.db", clock)
        assert said.startswith(f"the store {folder}/state.db cannot be used: ")
        assert said.endswith("and do file and folder belong to the account that gatepost runs as?")

    async def test_a_folder_in_place_of_the_file(self, tmp_path: Path, clock: VirtualClock) -> None:
        assert f"{tmp_path} cannot be used: unable to open" in await self.refused(tmp_path, clock)

    async def test_a_value_that_a_stranger_wrote(self, in_file: Backend, path: Path) -> None:
        store = in_file.namespace("p")
        await store.put("key", 1, ttl=60, durable=True)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE entries SET value = x'ff'")
        with pytest.raises(StoreError, match="cannot read"):
            await store.get("key")

    async def test_a_store_that_is_not_open(self, path: Path, clock: VirtualClock) -> None:
        backend = open_store(f"sqlite://{path}", clock)
        store = backend.namespace("p")
        for call in (store.get("key"), store.put("key", 1, ttl=60), store.incr("key", ttl=60), store.delete("key")):
            with pytest.raises(StoreError, match=f"{path} is not open"):
                await call
