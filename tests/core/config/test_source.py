"""Layers merge tables, replace everything else, and keep the place of each key."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gatepost.config import (
    load_config,
)
from gatepost.config.source import Layers
from tests.core.config.examples import MINIMAL, Write


def test_each_key_keeps_the_place_it_was_written_at(write: Write) -> None:
    path = write(f"{MINIMAL}[plugins.a]\nlist = [1,\n2]\nkept = 1\n", x="\n[plugins.a]\nlist = [\n3]\n")
    config = load_config(path, {"GATEPOST__PLUGINS__A__KEPT": "2"})
    drop_in = str(path.parent / "gatepost.d/x.toml")
    assert config.locate(("plugins", "a")) == (str(path), 3)
    assert config.locate(("plugins", "a", "list", 0)) == (drop_in, 4)
    assert config.locate(("plugins", "a", "list", 1)) == (drop_in, 3)
    assert config.locate(("plugins", "a", "kept")) == ("GATEPOST__PLUGINS__A__KEPT", 0)
    assert config.locate(("plugins", "a", "nowhere", "written")) == (str(path), 3)
    assert config.locate(("dns",)) == (str(path), 0)


KEYS = st.sampled_from(["a", "b", "c"])


TABLES = st.recursive(st.integers(), lambda inner: st.dictionaries(KEYS, inner, max_size=3), max_leaves=8)


TOP = st.dictionaries(KEYS, TABLES, max_size=3)


def merged(*tables: dict[str, object]) -> Layers:
    layers = Layers()
    for number, table in enumerate(tables):
        layers.add(table, str(number), {})
    return layers


@given(TOP, TOP, TOP)
def test_an_upper_layer_replaces_its_keys_and_keeps_the_others(
    low: dict[str, object], middle: dict[str, object], high: dict[str, object]
) -> None:
    assert merged(low, middle, high).merged == merged(merged(low, middle).merged, high).merged
    assert merged(low, low).merged == low
    assert merged(low, {}).merged == merged({}, low).merged == low
    assert merged(merged(low, high).merged, high).merged == merged(low, high).merged


@given(TOP, TOP)
def test_every_key_of_the_merged_tables_has_a_place_and_no_other(
    low: dict[str, object], high: dict[str, object]
) -> None:
    layers = merged(low, high)
    assert set(layers.places) == set(keys_of(layers.merged))


def keys_of(table: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(table, dict):
        return []
    return [found for key, part in table.items() for found in [(*path, key), *keys_of(part, (*path, key))]]
