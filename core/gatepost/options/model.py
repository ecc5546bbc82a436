"""A plugin's options as a pydantic model for a TOML table.

A whole number is not accepted as a truth value, nor text as a number; unknown keys are refused; pydantic's errors
repeat no value. This module does not know files, lines and tables: see ``config``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, PrivateAttr
from pydantic_core import CoreSchema

RESERVED_KEYS = ("observe", "instead")
"""Keys of a plugin's table that the core will use in a later version: until then a table may not have them."""
CORE_KEYS = ("use", "mode", "time_limit", "on_error", "reject_at", "phases", *RESERVED_KEYS)
"""Keys of a plugin's table that belong to the core, so that no plugin may have options of these names."""


def _be_exact(schema: Any) -> None:
    """Make numbers and truth values strict, but not collections, because TOML's lists become tuples and sets.

    A default written as text ("10s") is read like text in the file; any other default stays as it is. pydantic's own
    strict mode would apply to everything, so the schema that pydantic made is walked and changed in place.
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
        if key == "fields" and isinstance(part, dict):  # its keys are names of fields, also "default" or "metadata"
            _be_exact(list(part.values()))
        elif key not in ("default", "metadata", "serialization"):
            _be_exact(part)


class Table(BaseModel):
    """A table of TOML as a frozen model: unknown keys and values of another type are refused."""

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
        # pydantic describes a default as it stands in the class, such as 300.0. A reader needs its TOML form, "5m".
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

    Raises TypeError where the class is defined, if a field has a name that belongs to the core (``CORE_KEYS``).
    """

    _written_at: str = PrivateAttr("")

    @property
    def written_at(self) -> str:
        """The place of this table: "/etc/gatepost.toml, line 12", in a list file "line 12"; "" when it has none."""
        return self._written_at

    def __eq__(self, other: object) -> bool:
        # pydantic compares private attributes too, but the same options written elsewhere are the same.
        return type(self) is type(other) and self.__dict__ == other.__dict__

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        taken = sorted(set(cls.model_fields) & set(CORE_KEYS))
        if taken:
            names = ", ".join(taken)
            raise TypeError(f"{cls.__qualname__} may not have an option named {names}: the core has a key of this name")


def note_places(
    value: object, locate: Callable[[tuple[str | int, ...]], str], path: tuple[str | int, ...] = ()
) -> None:
    """Note in ``value``, and in all tables inside it, where they were written: ``locate(path)``."""
    if isinstance(value, Options):
        value._written_at = locate(path)
        for name, field in type(value).model_fields.items():
            note_places(getattr(value, name), locate, (*path, field.alias or name))
    elif isinstance(value, Mapping):
        for key, part in value.items():
            note_places(part, locate, (*path, key))
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            note_places(part, locate, (*path, number))


TableT = TypeVar("TableT", bound=Table)


def with_paths_in(folder: Path, table: TableT) -> TableT:
    """Return ``table`` with its relative paths in ``folder``, also those in lists and in tables inside it.

    Its own validators have seen them as they were written, and may have refused a relative one.
    """
    changed = {
        name: placed
        for name in type(table).model_fields
        if (placed := _placed(folder, value := getattr(table, name))) is not value
    }
    return table.model_copy(update=changed) if changed else table


def _placed(folder: Path, value: Any) -> Any:
    """Return ``value`` itself if there is no relative path in it."""
    if isinstance(value, Path):
        return value if value.is_absolute() else folder / value
    if isinstance(value, Table):
        return with_paths_in(folder, value)
    if type(value) is dict:
        parts = {key: _placed(folder, part) for key, part in value.items()}
        return parts if any(parts[key] is not part for key, part in value.items()) else value
    if type(value) in (list, tuple, set, frozenset):
        placed = [_placed(folder, part) for part in value]
        return type(value)(placed) if any(new is not old for new, old in zip(placed, value, strict=True)) else value
    return value
