"""A description of a model's options, for the manual, editors and ``gatepost plugins show``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from gatepost.options.kinds import as_toml

UNDESCRIBED = "any value"
"""The description of a type of a plugin's own that does not describe itself."""


class _Describing(GenerateJsonSchema):
    """pydantic's generator, except that a type without a description is no error."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {"x-kind": UNDESCRIBED}


def json_schema(model: type[BaseModel], ref_template: str = "#/$defs/{model}") -> dict[str, Any]:
    """Return pydantic's JSON schema of a model (draft 2020-12); ``x-kind`` names our own kinds of value."""
    return model.model_json_schema(schema_generator=_Describing, ref_template=ref_template)


class Option(NamedTuple):
    """One option, as the manual and ``gatepost plugins show`` print it."""

    name: str
    type: str
    default: str
    """As TOML, or "required" or "none"."""
    doc: str


def describe(model: type[BaseModel]) -> list[Option]:
    """Return the options of a model in the order of its fields."""
    schema = json_schema(model)
    definitions = schema.get("$defs", {})
    if "$ref" in schema:  # a model that contains itself is among its own definitions
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    required = schema.get("required", [])
    return [
        Option(
            name,
            _type_text(part, definitions),
            "required" if name in required else as_toml(part.get("default")),
            part.get("description", ""),
        )
        for name, part in schema.get("properties", {}).items()
    ]


_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "array": "list",
    "object": "table",
    "null": "",
}


def _type_text(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return the allowed values in words, from a JSON schema."""
    items, values = schema.get("items"), schema.get("additionalProperties")
    match schema:
        case {"x-kind": str(kind)}:
            return kind
        case {"$ref": str(reference)}:
            target: dict[str, Any] = definitions[reference.rpartition("/")[2]]
            fields = ", ".join(target.get("properties", {}))
            return f"table ({fields})" if fields else _type_text(target, definitions)
        case {"anyOf": [*parts]}:
            return " or ".join(filter(None, (_type_text(part, definitions) for part in parts)))
        case {"enum": [*choices]}:
            return " or ".join(as_toml(choice) for choice in choices)
        case {"const": choice}:
            return as_toml(choice)
        case {"format": "date" | "time" | "path" as kind}:
            return str(kind)
    if items:
        return f"list of {_type_text(items, definitions)}"
    if isinstance(values, dict) and values:
        return f"table of {_type_text(values, definitions)}"
    return _TYPES.get(schema.get("type", ""), "any value")
