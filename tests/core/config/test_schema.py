"""The JSON schema takes what gatepost takes, refuses what can be seen to be wrong, and explains every key."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest
from pydantic import Field

from gatepost.config import load_config
from gatepost.config.model import Config, Plugins, PluginTable
from gatepost.config.schema import Known, configuration_schema
from gatepost.options import CORE_KEYS, Duration, Network, Options, Secret, Size, WatchedFile
from tests.core.cli.running import LISTEN, SOUND

ROOT = Path(__file__).parents[3]


class Zone(Options):
    points: float
    """What it counts."""
    inner: Zone | None = None
    """Another one."""


class Example(Options):
    domains: frozenset[str]
    """Whose they are."""
    delay: Duration = 6.0
    """How long."""
    limit: Size = 0
    """How much."""
    networks: tuple[Network, ...] = ()
    pair: tuple[int, str] = (1, "a")
    zones: dict[str, float | Zone] = Field(default_factory=dict)
    """Several."""
    zone: Zone | None = None
    """One, with words beside the reference."""
    password: Secret | None = None
    default: Literal["a", "b"] | None = None
    title: str = ""
    files: tuple[WatchedFile, ...] = ()


class Odd(Options):
    call: Callable[[], None] | None = None


SCHEMA = configuration_schema({"x": Known(Example, "It does things."), "none": Known(None), "odd": Known(Odd)}, "made")


def complaints(text: str) -> list[str]:
    """Return the errors that a checker of the schema finds in a TOML text."""
    checker = jsonschema.Draft7Validator(SCHEMA)
    return [f"{error.json_path}: {error.message}" for error in checker.iter_errors(tomllib.loads(text))]


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every table of the schema, itself first."""
    if isinstance(schema, dict):
        yield schema
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        yield from parts(part)


def test_the_schema_is_valid_draft_07_and_names_its_sources() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#" and SCHEMA["$comment"] == "made"
    text = str(list(parts(SCHEMA)))
    assert "$defs" not in text and "prefixItems" not in text and "'null'" not in text


def test_nothing_stands_beside_a_reference_and_every_reference_leads_somewhere() -> None:
    references = [part for part in parts(SCHEMA) if isinstance(part.get("$ref"), str)]
    assert references
    assert all(list(part) == ["$ref"] for part in references)
    assert {part["$ref"].removeprefix("#/definitions/") for part in references} <= set(SCHEMA["definitions"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        SOUND,
        f"{LISTEN}plugins = ['a']\n",
        "grace = 0\n[score]\ndeny_at = 3\ndefer_at = 2.5\n[limits]\nmax_size = 100\nline_length = '64KiB'\n",
        "[plugins.x]\ndomains = ['a', 'a']\ndelay = '1.5h'\nlimit = 5\npair = [1, 'b']\ndefault = 'b'\ntitle = 'x'\n",
        "[plugins.x]\ndomains = []\nzones = { a = 1, b = { points = 2, inner = { points = 1.5 } } }\nmode = 'off'\n",
        "[plugins.x]\ndomains = []\npassword = { file = 'x' }\nfiles = ['x']\nnetworks = ['10.0.0.0/8']\n",
        "[plugins.x]\ndomains = []\npassword = 'x'\nphases = ['mail']\non_error = 'pass'\ntime_limit = '1s'\n",
        "[plugins.none]\nmode = 'observe'\n",
        "[plugins.odd]\ncall = 5\n",
        "[plugins.other]\nuse = 'plugins/mine.py'\nwhatever = [1, { a = 2 }]\n",
    ],
)
def test_the_schema_accepts_every_text_that_gatepost_accepts(text: str) -> None:
    assert complaints(text) == []


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("hostnam = 'x'", "$: Additional properties are not allowed ('hostnam' was unexpected)"),
        ("[listen.a]", "$.listen.a: 'bind' is a required property"),
        ("[limits]\nidle = 5", "$.limits.idle: 5 is not valid under any of the given schemas"),
        ("[limits]\nidle = '5 min'", "$.limits.idle: '5 min' is not valid under any of the given schemas"),
        ("[limits]\nmax_size = '5 MB'", "$.limits.max_size: '5 MB' does not match"),
        ("[limits]\nrecipients = 0", "$.limits.recipients: 0 is less than the minimum of 1"),
        ("[log]\nlevel = 'all'", "$.log.level: 'all' is not one of ['debug', 'info', 'warning', 'error']"),
        ("[plugins]\norder = 'a'", "$.plugins.order: 'a' is not of type 'array'"),
        ("[plugins.x]", "$.plugins.x: 'domains' is a required property"),
        ("[plugins.x]\ndomains = []\ndelai = 1", "$.plugins.x: Additional properties are not allowed ('delai' was"),
        ("[plugins.x]\ndomains = []\nmode = 'observ'", "$.plugins.x.mode: 'observ' is not one of"),
        ("[plugins.x]\ndomains = []\npair = ['a', 'b']", "$.plugins.x.pair[0]: 'a' is not of type 'integer'"),
        ("[plugins.x]\ndomains = []\nzone = {}", "$.plugins.x.zone: 'points' is a required property"),
        ("[plugins.none]\na = 1", "$.plugins.none: Additional properties are not allowed ('a' was unexpected)"),
        ("[plugins.x]\ndomains = []\nobserve = true", "$.plugins.x.observe: True should not be valid under {}"),
        ("[plugins.other]\ninstead = 'x'", "$.plugins.other.instead: 'x' should not be valid under {}"),
        ("[plugins.other]\nmode = 'observ'", "$.plugins.other.mode: 'observ' is not one of"),
    ],
)
def test_the_schema_refuses_a_text_that_is_wrong_in_itself(text: str, complaint: str) -> None:
    (found,) = complaints(text)
    assert found.startswith(complaint)


@pytest.mark.parametrize("file", sorted((ROOT / "docs/examples").glob("*.toml")), ids=lambda file: file.name)
def test_an_example_of_the_manual_is_taken(file: Path) -> None:
    assert complaints(file.read_text(encoding="utf-8")) == []
    assert load_config(file, {})


def test_every_key_of_the_core_is_explained() -> None:
    for name, field in Config.model_fields.items():
        assert SCHEMA["properties"][field.alias or name]["description"]
    for model in (type(getattr(Config(), name)) for name in ("limits", "store", "dns", "spool", "log", "journal")):
        described = SCHEMA["definitions"][model.__name__]["properties"]
        assert [key for key in model.model_fields if not described[key]["description"]] == []
    assert SCHEMA["definitions"][Plugins.__name__]["properties"]["order"]["description"]
    assert PluginTable.__name__ not in SCHEMA["definitions"]


def test_a_plugin_s_table_has_its_options_and_the_core_s_keys_with_docs_and_defaults() -> None:
    table = SCHEMA["definitions"]["Plugins"]["properties"]["x"]
    assert table["description"] == "It does things."
    assert set(table["properties"]) == {*Example.model_fields, *CORE_KEYS}
    delay = table["properties"]["delay"]
    assert (delay["description"], delay["default"], delay["anyOf"][0]["type"]) == ("How long.", "6s", "string")
    assert table["properties"]["zone"]["description"] == "One, with words beside the reference."
