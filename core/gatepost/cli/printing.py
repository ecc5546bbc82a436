"""What the commands share: options, tables, JSON, mistakes.

Only the command line prints, and it prints nothing unescaped that a client or a plugin said.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from gatepost.config import Config
    from gatepost.errors import Mistake

F = TypeVar("F", bound=Callable[..., Any])
UNBROKEN = 10_000
"""Columns where nobody looks: a line in a pipe is a line."""


def config_option(function: F) -> F:
    """``--config``, as all commands have it."""
    return click.option(
        "--config",
        "path",
        metavar="PATH",
        type=click.Path(path_type=Path),
        help="The configuration file. Default: see gatepost --help.",
    )(function)


def json_option(function: F) -> F:
    """``--json``, wherever there is a table."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def find_config(path: Path | None) -> Path | None:
    """The configuration file: that of ``--config``, else the usual ones; None: the embedded default."""
    from gatepost.config import find_config_file

    return find_config_file(path, os.environ)


def load_config(path: Path | None) -> Config:
    """The configuration. Raises ``ConfigError`` with every mistake in it."""
    from gatepost import config

    return config.load_config(find_config(path), os.environ)


def print_json(value: object) -> None:
    """``value`` as JSON, with what a terminal would obey escaped."""
    import json

    from gatepost.telemetry import json_line

    click.echo(json.dumps(json.loads(json_line(value)), indent=2, ensure_ascii=True))


def print_mistakes(mistakes: Iterable[Mistake], *, prefix: str = "", err: bool = True) -> None:
    """Each mistake as a line with its place."""
    for mistake in mistakes:
        say(f"{prefix}{mistake}", err=err)


def say(text: str, *, err: bool = False) -> None:
    """A line, escaped."""
    from gatepost.telemetry import escaped

    click.echo(escaped(text), err=err)


def console() -> Console:
    """Where tables go: as wide as the terminal, or without end where there is none."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else UNBROKEN)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table without lines. Cells are escaped."""
    from rich.table import Table
    from rich.text import Text

    from gatepost.telemetry import escaped

    table = Table(box=None, pad_edge=False, title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(escaped(str(cell))) for cell in row))
    shown = console()
    with shown.capture() as captured:
        shown.print(table)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())
