"""The effective configuration, key by key: each value and its origin, without secrets.

A value is shown as it was written. The JSON schema of its table says whether it is a secret; a value without a schema
may be a misspelt secret, so it is hidden too. The place of a secret (``{ file = … }``, ``{ env = … }``) is not secret.

This module prints nothing, and its callers pass the models of plugins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatepost.config.load import validate_options
from gatepost.config.model import Config, PluginTable
from gatepost.config.schema import Schema, schema_of
from gatepost.config.source import Place
from gatepost.config.toml_lines import KeyPath
from gatepost.errors import ConfigError
from gatepost.options import CORE_KEYS, RESERVED_KEYS, UNDESCRIBED, Options

MASK = "**********"
"""The text in place of a secret."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key with its value; also an empty table. ``place`` is None for a default."""

    path: KeyPath
    value: Any
    place: Place | None

    @property
    def origin(self) -> str:
        """The file and line, the variable, or "default"."""
        if self.place is None:
            return "default"
        return f"{self.place.where}:{self.place.line}" if self.place.line else self.place.where


def entries(
    config: Config, models: Mapping[str, type[Options] | None], *, with_defaults: bool = False
) -> Iterator[Entry]:
    """Yield every value in the order in which it was written, and after those of each table its defaults.

    ``models`` has the classes of the plugins' options by the names of their tables, None for a plugin without options.
    For a plugin that is missing there, every option is hidden and no default is known.
    """
    written = dict(config.source.tables)
    effective = _effective(config, models) if with_defaults else {}
    for path, value, is_default in _leaves(_masked_tables(written, models), effective, ()):
        yield Entry(path, value, None if is_default else config.source.locate(path))


def _leaves(written: Any, effective: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any, bool]]:
    """Yield the values in a table: first the written ones, then the defaults."""
    for key, value in written.items():
        below = effective.get(key)
        if isinstance(value, dict) and value:
            yield from _leaves(value, below if isinstance(below, dict) else {}, (*path, key))
        elif isinstance(value, dict) and isinstance(below, dict) and below:
            yield from _leaves({}, below, (*path, key))
        else:
            yield (*path, key), value, False
    for key, value in effective.items():
        if key in written:
            continue
        if isinstance(value, dict) and value:
            yield from _leaves({}, value, (*path, key))
        else:
            yield (*path, key), value, True


# Defaults


def _effective(config: Config, models: Mapping[str, type[Options] | None]) -> dict[str, Any]:
    """Return the effective values in their TOML form, with secrets hidden."""
    tables: dict[str, Any] = {"order": list(config.order)}
    for name, table in config.plugin_tables.items():
        core = table.model_dump(mode="json", include=set(CORE_KEYS).difference(RESERVED_KEYS))
        tables[name] = core | _options(config, table, models.get(name))
    top: dict[str, Any] = config.model_dump(mode="json", by_alias=True, exclude={"plugins"})
    return top | {"plugins": tables}


def _options(config: Config, table: PluginTable, model: type[Options] | None) -> dict[str, Any]:
    """Return the plugin's effective options; {} if they are wrong, which ``check`` reports."""
    if model is None:
        return {}
    try:
        options = validate_options(model, table, config)
    except ConfigError:
        return {}
    dumped: dict[str, Any] = options.model_dump(mode="json", by_alias=True, warnings=False)
    return dumped


# Secrets


def _masked_tables(written: Mapping[str, Any], models: Mapping[str, type[Options] | None]) -> dict[str, Any]:
    """Return the tables as they were written, with secrets hidden."""
    core, definitions = schema_of(Config)
    shown: dict[str, Any] = {}
    for key, value in written.items():
        if key == "plugins" and isinstance(value, dict):
            shown[key] = {name: _masked_plugin(name, part, models, definitions) for name, part in value.items()}
        else:
            shown |= masked({key: value}, core, definitions)
    return shown


def _masked_plugin(
    name: str, table: Any, models: Mapping[str, type[Options] | None], definitions: Mapping[str, Schema]
) -> Any:
    """Return one value of ``[plugins]`` masked: the order, or a table with the core's keys and the plugin's own."""
    if name == "order":
        return masked(table, definitions["Plugins"]["properties"]["order"], definitions)
    model = models.get(name)
    own, inner = schema_of(model) if model is not None else ({}, {})
    core = {key: definitions["PluginTable"]["properties"][key] for key in CORE_KEYS}
    return masked(table, {"type": "object", "properties": {**own.get("properties", {}), **core}}, inner)


def masked(value: Any, schema: Schema, definitions: Mapping[str, Schema]) -> Any:
    """Return ``value`` without the parts that ``schema`` describes as secrets, and those that it does not describe."""
    return _masked(value, [schema], definitions)


def _masked(value: Any, schemas: Sequence[Schema], definitions: Mapping[str, Schema]) -> Any:
    """Return the same for a value that any of several schemas may describe: it is hidden if one of them is a secret."""
    alternatives = [each for schema in schemas for each in _alternatives(schema, definitions)]
    if not alternatives or any(_is_secret(each) for each in alternatives):
        return hidden(value)
    if isinstance(value, dict):
        return {key: _masked(part, _inside(alternatives, key), definitions) for key, part in value.items()}
    if isinstance(value, list):
        return [_masked(part, _elements(alternatives, number), definitions) for number, part in enumerate(value)]
    if isinstance(value, str) and not any("string" in each.get("type", "string") for each in alternatives):
        return MASK  # text in the place of something else may be a secret in the wrong place
    return _without_password(value)


def hidden(value: Any) -> Any:
    """Return ``value`` with everything hidden but its structure and the places of secrets."""
    match value:
        case {"file": str()} | {"env": str()} if len(value) == 1:
            return value
        case dict():
            return {key: hidden(part) for key, part in value.items()}
        case list():
            return [hidden(part) for part in value]
    return MASK


def _without_password(value: Any) -> Any:
    """Return a URL without the password after its user name (RFC 3986 §3.2.1), any other value as it is."""
    return re.sub(r"(://[^/@:\s]*:)[^/@\s]+@", rf"\1{MASK}@", value) if isinstance(value, str) else value


def _is_secret(schema: Schema) -> bool:
    return schema.get("x-kind") in ("secret", UNDESCRIBED) or bool(schema.get("writeOnly"))


def _alternatives(schema: Schema, definitions: Mapping[str, Schema]) -> Iterator[Schema]:
    """Yield the schemas that a value may follow, with references and unions resolved."""
    if "$ref" in schema:
        yield from _alternatives(definitions[schema["$ref"].removeprefix("#/definitions/")], definitions)
        return
    parts = [part for key in ("anyOf", "oneOf", "allOf") for part in schema.get(key, ())]
    if not parts or _is_secret(schema):
        yield schema
    for part in parts:
        yield from _alternatives(part, definitions)


def _inside(schemas: Sequence[Schema], key: str) -> list[Schema]:
    """Return the schemas for ``key`` of a table; [] if no schema describes it."""
    found = []
    for schema in schemas:
        # JSON Schema allows any other key beside those that a table lists. Here it counts as not described.
        may_be_open = "properties" not in schema and schema.get("type", "object") == "object"
        others = schema.get("additionalProperties", may_be_open)
        part = schema.get("properties", {}).get(key, others)
        found += [part if isinstance(part, dict) else {}] if part is not False else []
    return found


def _elements(schemas: Sequence[Schema], number: int) -> list[Schema]:
    """Return the schemas for the element of a list at index ``number``."""
    found: list[Schema] = []
    for schema in schemas:
        first = schema.get("prefixItems", ())
        part = first[number] if number < len(first) else schema.get("items", schema.get("type", "array") == "array")
        found += [part if isinstance(part, dict) else {}] if part is not False else []
    return found
