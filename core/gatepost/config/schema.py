"""The JSON schema of ``gatepost.toml``, for completion and checks in editors: the tables of the core and of plugins.

It is draft-07, which every checker reads, also taplo and so the usual TOML extensions of editors. It covers what is
visible in one file: keys, kinds of value, required keys. What needs the program (is this an address, does the file
exist, does the order make sense) is left to ``gatepost check``. The schema rejects nothing that gatepost accepts, with
one exception: a required key that is in a drop-in or a variable.

This module does not know which plugins exist; their models are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from gatepost.config.model import Config
from gatepost.options import CORE_KEYS, json_schema

DIALECT = "http://json-schema.org/draft-07/schema#"

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """The options in the table of one plugin: the fields of ``options``, or none."""

    options: type[BaseModel] | None
    summary: str = ""


def configuration_schema(plugins: Mapping[str, Known], comment: str = "") -> Schema:
    """Return the schema. ``plugins`` has the known tables by name; another plugin's table may have any options."""
    whole, definitions = schema_of(Config)
    properties = definitions.pop("PluginTable")["properties"]
    core = {key: properties[key] for key in CORE_KEYS}
    listed = definitions["Plugins"]
    listed["additionalProperties"] = {"type": "object", "properties": core}
    for name, known in plugins.items():
        listed["properties"][name], inner = _table(name, known, core)
        definitions |= inner
    top = {"$schema": DIALECT, "$comment": comment, **_draft_07(whole), "title": "gatepost.toml"}
    return top | {"definitions": {name: _draft_07(part) for name, part in definitions.items()}}


def schema_of(model: type[BaseModel], prefix: str = "") -> tuple[Schema, dict[str, Schema]]:
    """Return the schema of a model and the definitions that it refers to, with ``prefix`` before their names."""
    schema = json_schema(model, f"#/definitions/{prefix}{{model}}")
    definitions = {prefix + name: part for name, part in schema.pop("$defs", {}).items()}
    if "$ref" in schema:  # a model that contains itself is among its own definitions
        schema = definitions[schema["$ref"].removeprefix("#/definitions/")]
    return schema, definitions


def _table(name: str, known: Known, core: Mapping[str, Any]) -> tuple[Schema, dict[str, Schema]]:
    """Return the schema of one plugin's table, and its definitions."""
    table: Schema = {"type": "object", "additionalProperties": False}
    definitions: dict[str, Schema] = {}
    if known.options is not None:
        table, definitions = schema_of(known.options, f"{name}.")
    summary = {"description": known.summary} if known.summary else {}
    return {**table, **summary, "properties": {**table.get("properties", {}), **core}}, definitions


_MAPS = frozenset({"properties", "patternProperties"})
_LISTS = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_SCHEMAS = frozenset({"items", "additionalProperties", "propertyNames"})
_DROPPED = frozenset({"title", "uniqueItems"})
"""Titles only repeat the key; gatepost accepts a set that lists an element twice."""


def _draft_07(schema: Any) -> Any:
    """Return a schema of pydantic's (draft 2020-12) as draft-07, and without null, which does not exist in TOML."""
    if not isinstance(schema, dict):
        return schema
    made: Schema = {}
    for key, part in schema.items():
        if key in _MAPS:
            made[key] = {name: _draft_07(each) for name, each in part.items()}
        elif key in _LISTS:
            made[key] = [_draft_07(each) for each in part if each != {"type": "null"}]
        elif key in _SCHEMAS:
            made[key] = _draft_07(part)
        elif key not in _DROPPED and not (key == "default" and part is None):
            made[key] = part
    return _reworded(made)


def _reworded(made: Schema) -> Schema:
    """Return a schema, whose parts are draft-07 already, in the keywords of draft-07."""
    if "prefixItems" in made:  # a tuple: draft-07 lists its elements in "items", and "additionalItems" are the others
        others = {"additionalItems": made.pop("items")} if "items" in made else {}
        made |= {"items": made.pop("prefixItems"), **others}
    if len(made.get("anyOf", ())) == 1:  # the other alternative was null
        made = {**made.pop("anyOf")[0], **made}
    if "$ref" in made and len(made) > 1:  # draft-07 ignores everything beside a reference
        made["allOf"] = [{"$ref": made.pop("$ref")}]
    return made
