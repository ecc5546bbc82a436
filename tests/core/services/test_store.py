"""The store: one contract for both back ends, then what only the one in a file must do."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatepost.errors import StoreError
from gatepost.services.clock import SystemClock
from gatepost.services.store import sqlite
from gatepost.services.store.memory import MemoryBackend
from gatepost.services.store.open import open_store
from gatepost.services.store.store import DAY, MAX_TTL, MAX_VALUE, Backend
from gatepost.services.virtual_clock import VirtualClock
from gatepost.testing.recording import GateEvents

HOUR = 3600.0


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


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 – the thread has no event to wait for
            await asyncio.sleep(0.002)


def rows(path: Path) -> list[tuple[str, bytes, bytes]]:
    """What a stranger finds in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT namespace, key, value FROM entries ORDER BY key").fetchall()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process is writing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


class TestContract:
    """What every back end does."""

    @pytest.mark.parametrize(
        "value", ["text", "", "grüße \0", 0, -(2**63), 1.5, True, False, [], [1, [None]], {}, {"first": 1.5, "n": None}]
    )
    async def test_a_value_comes_back_as_it_was_put(self, backend: Backend, value: Any) -> None:
        store = backend.namespace("p")
        await store.put("key", value, ttl=60)
        found = await store.get("key")
        assert found == value
        assert type(found) is type(value)

    async def test_a_tuple_comes_back_as_a_list(self, backend: Backend) -> None:
        store = backend.namespace("p")
        await store.put("key", (1, 2), ttl=60)
        assert await store.get("key") == [1, 2]

    async def test_nothing_is_none(self, backend: Backend) -> None:
        assert await backend.namespace("p").get("key") is None

    async def test_what_was_put_last_counts(self, backend: Backend) -> None:
        store = backend.namespace("p")
        await store.put("key", 1, ttl=60)
        await store.put("key", 2, ttl=60, durable=True)
        assert await store.get("key") == 2
        await store.put("key", 3, ttl=60)
        assert await store.get("key") == 3

    async def test_namespaces_do_not_see_each_other(self, backend: Backend) -> None:
        await backend.namespace("a").put("key", "a", ttl=60)
        await backend.namespace("b").put("key", "b", ttl=60)
        await backend.namespace("b").delete("key")
        assert await backend.namespace("a").get("key") == "a"
        assert await backend.namespace("b").get("key") is None

    async def test_one_name_is_one_namespace(self, backend: Backend) -> None:
        await backend.namespace("a").put("key", 1, ttl=60)
        assert await backend.namespace("a").get("key") == 1

    async def test_a_value_lives_for_its_time_and_no_longer(self, backend: Backend, clock: VirtualClock) -> None:
        store = backend.namespace("p")
        await store.put("key", 1, ttl=300)
        await clock.advance(299.5)
        assert await store.get("key") == 1
        await clock.advance(0.5)
        assert await store.get("key") is None

    async def test_put_renews_the_time(self, backend: Backend, clock: VirtualClock) -> None:
        store = backend.namespace("p")
        await store.put("key", 1, ttl=300)
        await clock.advance(200)
        await store.put("key", 1, ttl=300)
        await clock.advance(200)
        assert await store.get("key") == 1

    @pytest.mark.parametrize("ttl", [0.0, -5.0, float("nan")])
    async def test_without_time_to_live_it_is_gone_at_once(self, backend: Backend, ttl: float) -> None:
        store = backend.namespace("p")
        await store.put("key", 1, ttl=60)
        await store.put("key", 2, ttl=ttl)
        assert await store.get("key") is None

    @pytest.mark.parametrize("ttl", [MAX_TTL, 100 * MAX_TTL, float("inf")])
    async def test_nothing_lives_longer_than_the_longest_time(
        self, backend: Backend, clock: VirtualClock, ttl: float
    ) -> None:
        store = backend.namespace("p")
        await store.put("key", 1, ttl=ttl)
        await clock.advance(MAX_TTL - 1)
        assert await store.get("key") == 1
        await clock.advance(1)
        assert await store.get("key") is None

    async def test_delete_forgets(self, backend: Backend) -> None:
        store = backend.namespace("p")
        await store.put("key", 1, ttl=60)
        await store.delete("key")
        await store.delete("never there")
        assert await store.get("key") is None

    async def test_delete_forgets_what_was_durable(self, backend: Backend) -> None:
        store = backend.namespace("p")
        await store.put("key", 1, ttl=60, durable=True)
        await store.delete("key")
        assert await store.get("key") is None

    async def test_add_keeps_only_the_first(self, backend: Backend) -> None:
        store = backend.namespace("p")
        assert await store.add("key", "first", ttl=60)
        assert not await store.add("key", "second", ttl=60)
        assert await store.get("key") == "first"

    async def test_add_finds_what_was_just_put(self, backend: Backend) -> None:
        store = backend.namespace("p")
        await store.put("key", 1, ttl=60)
        assert not await store.add("key", 2, ttl=60)

    async def test_add_succeeds_after_delete_and_after_the_time(self, backend: Backend, clock: VirtualClock) -> None:
        store = backend.namespace("p")
        await store.put("key", 1, ttl=60)
        await store.delete("key")
        assert await store.add("key", 2, ttl=60)
        await clock.advance(60)
        assert await store.add("key", 3, ttl=60)
        assert await store.get("key") == 3

    async def test_of_many_that_add_one_succeeds(self, backend: Backend) -> None:
        store = backend.namespace("p")
        said = await asyncio.gather(*(store.add("key", number, ttl=60) for number in range(30)))
        assert sum(said) == 1
        assert await store.get("key") == said.index(True)

    async def test_incr_counts_from_nothing(self, backend: Backend) -> None:
        store = backend.namespace("p")
        assert [await store.incr("key", ttl=60), await store.incr("key", 5, ttl=60)] == [1, 6]
        assert await store.incr("key", -6, ttl=60) == 0
        assert await store.get("key") == 0

    async def test_incr_counts_on_from_what_was_just_put(self, backend: Backend) -> None:
        store = backend.namespace("p")
        await store.put("key", 5, ttl=60)
        assert await store.incr("key", ttl=60) == 6

    async def test_incr_loses_no_count(self, backend: Backend) -> None:
        store = backend.namespace("p")
        sums = await asyncio.gather(*(store.incr("key", ttl=60) for _ in range(30)))
        assert sorted(sums) == list(range(1, 31))

    async def test_the_time_of_a_count_begins_with_the_first(self, backend: Backend, clock: VirtualClock) -> None:
        store = backend.namespace("p")
        await store.incr("key", ttl=60)
        await clock.advance(40)
        assert await store.incr("key", ttl=60) == 2
        await clock.advance(20)
        assert await store.incr("key", ttl=60) == 1

    @pytest.mark.parametrize("value", ["5", True, 1.5, [1]])
    async def test_incr_of_what_is_no_whole_number_is_an_error(self, backend: Backend, value: Any) -> None:
        store = backend.namespace("p")
        await store.put("key", value, ttl=60)
        with pytest.raises(StoreError, match=f"whole number.* a {type(value).__name__}"):
            await store.incr("key", ttl=60)
        assert await store.get("key") == value

    async def test_a_count_past_what_json_can_say_is_an_error(self, backend: Backend) -> None:
        store = backend.namespace("p")
        await store.put("key", 2**64 - 1, ttl=60)
        with pytest.raises(StoreError):
            await store.incr("key", ttl=60)

    @pytest.mark.parametrize("value", [None, float("nan"), b"octets", {1: 2}, datetime.now(UTC), 2**70, "\ud800"])
    async def test_what_json_cannot_say_is_an_error(self, backend: Backend, value: Any) -> None:
        with pytest.raises(StoreError, match="cannot keep"):
            await backend.namespace("p").put("key", value, ttl=60)

    async def test_a_large_value_is_an_error(self, backend: Backend) -> None:
        store = backend.namespace("p")
        await store.put("key", "x" * (MAX_VALUE - 2), ttl=60)
        with pytest.raises(StoreError, match="too large"):
            await store.put("key", "x" * (MAX_VALUE - 1), ttl=60)

    @pytest.mark.parametrize("key", ["", "a\0b", "grüße", "\udcff\ud800", "x" * 100_000])
    async def test_a_key_is_any_text(self, backend: Backend, key: str) -> None:
        store = backend.namespace("p")
        await store.put(key, 1, ttl=60, durable=True)
        await store.put(key + "'", 2, ttl=60)
        assert await store.get(key) == 1
        assert await store.get(key + "'") == 2

    @pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "\ud800"])
    async def test_a_namespace_needs_a_name(self, backend: Backend, name: str) -> None:
        with pytest.raises(StoreError, match="namespace"):
            backend.namespace(name)

    async def test_when_full_those_go_first_that_would_expire_first(self, url: str, clock: VirtualClock) -> None:
        backend = open_store(url, clock, max_entries=20)
        await backend.open()
        store = backend.namespace("p")
        for number in range(200):
            hours = number * 77 % 200  # each number once, in no order
            await store.put(str(hours), hours, ttl=(1 + hours) * HOUR, durable=number % 50 == 0)
        await backend.close()
        await backend.open()
        left = [hours for hours in range(200) if await store.get(str(hours)) is not None]
        await backend.close()
        assert left == list(range(180, 200))

    async def test_closing_twice_is_no_error(self, url: str, clock: VirtualClock) -> None:
        backend = open_store(url, clock)
        await backend.open()
        await backend.close()
        await backend.close()


# The two back ends are compared under any sequence of calls. Times are halves of seconds, which floats hold exactly.

keys = st.sampled_from("abc")
ttls = st.integers(0, 40).map(lambda halves: halves / 2)
values = st.integers(-3, 3) | st.sampled_from(["text", ["list"], True])
calls = st.one_of(
    st.tuples(st.just("get"), keys),
    st.tuples(st.just("put"), keys, values, ttls, st.booleans()),
    st.tuples(st.just("add"), keys, values, ttls),
    st.tuples(st.just("incr"), keys, st.integers(-3, 3), ttls),
    st.tuples(st.just("delete"), keys),
    st.tuples(st.just("advance"), ttls),
    st.tuples(st.just("reopen")),
)


async def outcome(backend: Backend, call: tuple[Any, ...]) -> Any:
    store = backend.namespace("p")
    try:
        match call:
            case ("put", key, value, ttl, durable):
                return await store.put(key, value, ttl, durable=durable)
            case ("incr", key, by, ttl):
                return await store.incr(key, by, ttl=ttl)
            case (name, *arguments):
                return await getattr(store, name)(*arguments)
    except StoreError as error:
        return str(error)


async def compare(sequence: list[tuple[Any, ...]], path: Path) -> None:
    clock = VirtualClock()
    model, in_file = MemoryBackend(clock), open_store(f"sqlite://{path}", clock)
    await in_file.open()
    for call in sequence:
        if call[0] == "advance":
            await clock.advance(call[1])
        elif call[0] == "reopen":
            await in_file.close()
            await in_file.open()
        else:
            assert await outcome(in_file, call) == await outcome(model, call)
    await in_file.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(calls, max_size=40))
def test_the_file_behaves_as_the_memory_does(sequence: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(sequence, Path(folder, "state.db")))


async def test_dead_entries_leave_the_memory_as_others_come(clock: VirtualClock) -> None:
    backend = MemoryBackend(clock)
    store = backend.namespace("p")
    for number in range(1000):
        await store.put(f"old {number}", number, ttl=60)
    await clock.advance(HOUR)
    for number in range(600):
        await store.put(f"new {number}", number, ttl=60)
    assert len(backend._entries) == 600


class TestFile:
    """What is asked of the store in a file."""

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
    """Each is one sentence that names the file or the URL."""

    @pytest.mark.parametrize("url", ["", "state.db", "postgres://db", "memory:x", "/var/lib/state.db"])
    async def test_an_unknown_url(self, url: str, clock: VirtualClock) -> None:
        with pytest.raises(StoreError, match=r"is not the URL of a store; it looks like sqlite:///"):
            open_store(url, clock)

    @pytest.mark.parametrize("url", ["sqlite", "sqlite:", "sqlite://", "sqlite://var/lib/state.db"])
    async def test_a_url_without_a_file(self, url: str, clock: VirtualClock) -> None:
        with pytest.raises(StoreError, match="names no file; write sqlite:///"):
            open_store(url, clock)

    async def test_redis_comes_later(self, clock: VirtualClock) -> None:
        with pytest.raises(StoreError, match="redis://db:6379: a store in Redis comes later"):
            open_store("redis://db:6379", clock)

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

    async def test_a_file_that_is_no_database(self, path: Path, clock: VirtualClock) -> None:
        path.write_bytes(b"Received: from somewhere\n" * 1000)  # noqa: ASYNC240 – nobody else runs
        said = await self.refused(path, clock)
        assert said == f"the store {path} is damaged or no store of gatepost: file is not a database. " + (
            "Stop gatepost and move it away to start afresh"
        )

    async def test_a_file_that_is_damaged_while_in_use(self, in_file: Backend, path: Path) -> None:
        store = in_file.namespace("p")
        for number in range(1000):
            await store.put(str(number), "x" * 100, ttl=60)
        await in_file.close()
        await in_file.open()
        os.truncate(path, 4096)
        with pytest.raises(StoreError, match=f"{path} (is damaged|cannot be used)"):
            await store.get("500")

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
