"""The options of a plugin: a pydantic model for a TOML table.

A plugin's author writes a subclass of ``Options``; the string under each field is its documentation. A whole number is
not accepted as a truth value, nor text as a number; unknown keys are refused; pydantic's errors repeat no value. The
kinds of value (``Duration``, ``Secret`` …) are in ``kinds`` and ``watched_file``.

This package does not know files, lines and tables: ``config`` validates with it and phrases what pydantic finds.
"""

from gatepost.options.describe import UNDESCRIBED, Option, describe, json_schema
from gatepost.options.kinds import (
    Duration,
    Network,
    Secret,
    Size,
    as_toml,
    dotted_key,
    expected,
    format_duration,
    format_size,
    shown,
    toml_value,
)
from gatepost.options.model import CORE_KEYS, RESERVED_KEYS, Options, Table, note_places, with_paths_in
from gatepost.options.watched_file import LOOK_EVERY, ListFiles, WatchedFile

__all__ = [
    "CORE_KEYS",
    "LOOK_EVERY",
    "RESERVED_KEYS",
    "UNDESCRIBED",
    "Duration",
    "ListFiles",
    "Network",
    "Option",
    "Options",
    "Secret",
    "Size",
    "Table",
    "WatchedFile",
    "as_toml",
    "describe",
    "dotted_key",
    "expected",
    "format_duration",
    "format_size",
    "json_schema",
    "note_places",
    "shown",
    "toml_value",
    "with_paths_in",
]
