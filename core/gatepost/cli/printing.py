"""The parts that the commands share: options, tables, JSON, mistakes.

Only the command line prints, and it escapes all text that may come from a client or a plugin.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from gatepost.config import Config

F = TypeVar("F", bound=Callable[..., Any])
UNBROKEN = 10_000
"""Columns of a table that does not go to a terminal: a program that reads it by lines needs each row on one line."""


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
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gatepost.telemetry import escaped

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(escaped(str(cell))) for cell in row))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else UNBROKEN)
    with console.capture() as captured:  # rich pads each line to the width of its column
        console.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())
