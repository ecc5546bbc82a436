"""The contract of the store, which both back ends keep."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.errors import StoreError
from gatepost.services.store.memory import MemoryBackend
from gatepost.services.store.open import open_store
from gatepost.services.store.store import MAX_TTL, MAX_VALUE, Backend
from gatepost.services.virtual_clock import VirtualClock
from tests.core.services.store.stores import HOUR
from tests.properties import examples


class TestContract:
    """The behaviour that all back ends share."""

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

    async def test_a_key_without_a_value_gives_none(self, backend: Backend) -> None:
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

    @pytest.mark.parametrize(
        "value",
        [
            float("nan"),
            {1: 2},
            2**70,
            "\ud800",
            *(pytest.param(value, marks=pytest.mark.patches) for value in (None, b"octets", datetime.now(UTC))),
        ],
    )
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


@examples(60)
@given(st.lists(calls, max_size=40))
def test_the_file_behaves_as_the_memory_does(sequence: list[tuple[Any, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(compare(sequence, Path(folder, "state.db")))
