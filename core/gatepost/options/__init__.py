"""The options of a plugin: a pydantic model made right for a TOML table.

A plugin's author writes a subclass of ``Options``; the string under each field is its documentation. A whole number is
not a truth value and text is not a number, unknown keys are refused, and no value is repeated in an error of pydantic.
The kinds of value that come with it (``Duration``, ``Secret`` …) are in ``kinds`` and ``watched_file``.

This module knows nothing of files, lines and sections: ``config`` validates with it and words what pydantic finds.
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
from gatepost.options.model import CORE_KEYS, Options, Table
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
    "as_toml",
    "describe",
    "dotted_key",
    "expected",
    "format_duration",
    "format_size",
    "json_schema",
    "shown",
    "toml_value",
]
