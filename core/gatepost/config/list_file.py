"""List files in TOML: the same sentences, lines and near misses as for the configuration itself."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from gatepost.config.toml_lines import KeyPath, key_lines, read_toml
from gatepost.config.wording import complaints
from gatepost.errors import ListFileError
from gatepost.options import Options, dotted_key, note_places

OptionsT = TypeVar("OptionsT", bound=Options)


def parse_toml(text: str, model: type[OptionsT]) -> OptionsT:
    """Return the options in a TOML text, such as a list file, validated by ``model``.

    Each table in them knows its line, see ``Options.written_at``. Raises ``ListFileError`` with every mistake, also
    misspelt keys, each with its line.
    """
    table, rest, wrong = read_toml(text)
    bad = [(line, f"this is not TOML: {message}") for line, message in wrong]
    try:
        options = model.model_validate(table)
    except ValidationError as error:
        found = complaints(error, model, table)
        lines = key_lines(rest)
        bad += [
            (_line(each.path, lines), f"{dotted_key(each.path)}: {each.message}" if each.path else each.message)
            for each in found
            if not (each.is_missing and wrong)
        ]
    if bad:
        raise ListFileError(sorted(bad))
    lines = key_lines(rest)
    note_places(options, lambda path: f"line {_line(path, lines)}")
    return options


def _line(path: KeyPath, lines: dict[KeyPath, int]) -> int:
    """Return the line of a key, or of the nearest table around it."""
    return next((lines[path[:depth]] for depth in range(len(path), 0, -1) if path[:depth] in lines), 0)
