"""The parts that the commands share: options, tables, JSON, mistakes.

Only the command line prints, and it escapes all text that may come from a client or a plugin.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from unicodedata import east_asian_width

import click

if TYPE_CHECKING:
    from gatepost.config import Config

F = TypeVar("F", bound=Callable[..., Any])
SEPARATOR = "  "
NARROWEST = 10
"""The width from which on a column of a table is not folded any more, on a terminal that is too narrow."""


def config_option(function: F) -> F:
    """Add ``--config``, which is the same for all commands."""
    return click.option(
        "--config",
        "path",
        metavar="PATH",
        type=click.Path(path_type=Path),
        help="The configuration file. Default: see gatepost --help.",
    )(function)


def json_option(function: F) -> F:
    """Add ``--json``, which every command with a table has."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def find_config(path: Path | None) -> Path | None:
    """Return the file that ``--config`` names, else the first usual one that exists; None: the embedded default."""
    from gatepost.config import find_config_file

    return find_config_file(path, os.environ)


def load_config(path: Path | None) -> Config:
    """Return the configuration. Raises ``ConfigError`` with every mistake in it."""
    from gatepost import config

    return config.load_config(find_config(path), os.environ)


def print_json(value: object) -> None:
    """Print ``value`` as JSON in ASCII, so that a terminal obeys nothing in it."""
    import json

    from gatepost.telemetry import json_line

    click.echo(json.dumps(json.loads(json_line(value)), indent=2, ensure_ascii=True))


def say(text: str, *, err: bool = False) -> None:
    """Print a line, escaped."""
    from gatepost.telemetry import escaped

    click.echo(escaped(text), err=err)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table without rules, as wide as the terminal. Cells are escaped."""
    from gatepost.telemetry import escaped

    table = [[escaped(str(cell)) for cell in row] for row in (columns, *rows)]
    widths = [max(map(_width, column)) for column in zip(*table, strict=True)]
    if sys.stdout.isatty():
        # The widest column is folded, again and again, until all fit.
        room = shutil.get_terminal_size().columns - len(SEPARATOR) * (len(widths) - 1)
        while sum(widths) > room and max(widths) > NARROWEST:
            widths[widths.index(max(widths))] -= 1
    for row in table:
        folded = [textwrap.wrap(cell, width or 1) or [""] for cell, width in zip(row, widths, strict=True)]
        for parts in zip_longest(*folded, fillvalue=""):
            padded = (part + " " * (width - _width(part)) for part, width in zip(parts, widths, strict=True))
            click.echo(SEPARATOR.join(padded).rstrip())


def _width(text: str) -> int:
    """Return how many columns of a terminal ``text`` takes."""
    return len(text) if text.isascii() else sum(2 if east_asian_width(each) in "WF" else 1 for each in text)
