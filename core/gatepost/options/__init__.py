"""The options of a plugin: a pydantic model made right for a TOML table.

A plugin's author writes a subclass of ``Options``; the string under each field is its documentation. A whole number is
not a truth value and text is not a number, unknown keys are refused, and no value is repeated in an error of pydantic.
The kinds of value that come with it (``Duration``, ``Secret`` …) are in ``kinds`` and ``watched_file``.

This module knows nothing of files, lines and sections: ``config`` validates with it and words what pydantic finds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema

from gatepost.options.kinds import Duration, Network, Secret, Size, as_toml, format_duration, format_size
from gatepost.options.watched_file import WatchedFile

__all__ = [
    "CORE_KEYS",
    "UNDESCRIBED",
    "Duration",
    "Network",
    "Option",
    "Options",
    "Secret",
    "Size",
    "Table",
    "WatchedFile",
    "describe",
    "format_duration",
    "format_size",
    "json_schema",
]

CORE_KEYS = ("use", "mode", "time_limit", "on_error", "reject_at", "phases")
"""Keys of a plugin's table that belong to the core, so that no plugin may have options of these names."""


def _be_exact(schema: Any) -> None:
    """Make numbers and truth values strict, but not collections: TOML's lists shall become tuples and sets.

    A default written as text ("10s") is read as the file's text would be; any other default stands as it is.
    """
    if isinstance(schema, list | tuple):
        for part in schema:
            _be_exact(part)
    if not isinstance(schema, dict):
        return
    if schema.get("type") in ("int", "float", "bool"):
        schema.setdefault("strict", True)
    if schema.get("type") == "default" and isinstance(schema.get("default"), str):
        schema.setdefault("validate_default", True)
    for key, part in schema.items():
        if key == "fields" and isinstance(part, dict):
            _be_exact(list(part.values()))
        elif key not in ("default", "metadata", "serialization"):
            _be_exact(part)


class Table(BaseModel):
    """A table of TOML as a frozen model: unknown keys are refused, and a value is of its type or a mistake."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        protected_namespaces=(),
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler(source)
        _be_exact(schema)
        return schema

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        described = handler(schema)
        properties = handler.resolve_ref_schema(described).get("properties", {})
        defaults = cls.model_construct().model_dump(mode="json", by_alias=True, warnings=False)
        for name, field in cls.model_fields.items():
            part = properties.get(field.alias or name, {})
            if "default" in part or isinstance(field.default_factory, type):
                default = defaults[field.alias or name]
                part["default"] = sorted(default, key=str) if part.get("uniqueItems") else default
        return described


class Options(Table):
    """The base of every plugin's options. A subclass is also the plugin's page in the manual.

    Raises TypeError where the class is made, if a field has a name that belongs to the core (``CORE_KEYS``).
    """

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        taken = sorted(set(cls.model_fields) & set(CORE_KEYS))
        if taken:
            names = ", ".join(taken)
            raise TypeError(
                f"{cls.__qualname__} may not have an option named {names}: the core's own keys are so named"
            )


UNDESCRIBED = "any value"
"""What the JSON schema calls a type of a plugin's own that says nothing of itself."""


class _Describing(GenerateJsonSchema):
    """pydantic's generator, which would rather fail than leave a type undescribed."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {"x-kind": UNDESCRIBED}


def json_schema(model: type[BaseModel], ref_template: str = "#/$defs/{model}") -> dict[str, Any]:
    """What may be written for a model, as pydantic says it (draft 2020-12); ``x-kind`` names our own kinds of value."""
    return model.model_json_schema(schema_generator=_Describing, ref_template=ref_template)


class Option(NamedTuple):
    """One option as the manual and ``gatepost plugins show`` print it."""

    name: str
    type: str
    default: str
    """As TOML; "required" or "none" in words."""
    doc: str


def describe(model: type[BaseModel]) -> list[Option]:
    """The options of a model in the order of its fields, for documentation."""
    schema = json_schema(model)
    definitions = schema.get("$defs", {})
    if "$ref" in schema:  # a model that contains itself is one of its own definitions
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
    """What may be written, in words, from a JSON schema."""
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
