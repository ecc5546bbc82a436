"""Figures that are kept in the repository, by build of the interpreter, and whether a new one is a regression.

It knows neither what is counted nor how.
"""

from __future__ import annotations

import platform
import shlex
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import orjson

TOLERANCE = 0.10
"""How much more than the kept figure is no regression yet."""

_TELLING = {"--enable-optimizations", "--with-lto", "--enable-shared", "--with-pydebug", "--disable-gil"}
"""Options of CPython's configure that change how many instructions a program takes."""

Counts: TypeAlias = Mapping[str, float]
"""Instructions for a unit, by work."""


def build() -> str:
    """The build that runs this, as figures are kept by it.

    The minor version alone is not enough: two builds of CPython 3.11 by the same compiler, one with profile-guided
    optimization, were ten percent apart.
    """
    options = _TELLING & set(shlex.split(sysconfig.get_config_var("CONFIG_ARGS") or ""))
    version = f"{platform.python_implementation()} {platform.python_version()}"
    return " ".join([version, platform.machine(), platform.python_compiler(), *sorted(options)])


@dataclass(frozen=True, slots=True)
class Comparison:
    """The count of a work beside the one that is kept, if one is."""

    name: str
    count: float
    kept: float | None

    @property
    def change(self) -> float | None:
        """How much more it is, as a fraction of what is kept."""
        return None if self.kept is None else self.count / self.kept - 1

    @property
    def is_regression(self) -> bool:
        """True when it is more than ten percent above what is kept."""
        return self.change is not None and self.change > TOLERANCE

    @property
    def is_progress(self) -> bool:
        """True when it is so far below that what is kept would hide a regression."""
        return self.change is not None and self.change < -TOLERANCE


def compare(counts: Counts, kept: Counts) -> list[Comparison]:
    """Each count beside what is kept of the same work."""
    return [Comparison(name, count, kept.get(name)) for name, count in counts.items()]


def read(file: Path) -> dict[str, dict[str, float]]:
    """What is kept, by build. Nothing is where there is no file."""
    kept: dict[str, dict[str, float]] = orjson.loads(file.read_bytes()) if file.exists() else {}
    return kept


def record(file: Path, counts: Counts) -> None:
    """Keep these counts for this build. Works that were not counted now, and other builds, keep theirs."""
    kept = read(file)
    kept[build()] = kept.get(build(), {}) | {name: round(count) for name, count in counts.items()}
    file.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE))
