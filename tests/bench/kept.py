"""Figures kept in the repository for each build of the interpreter, and their comparison with new ones.

This module knows neither what is counted nor how.
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
"""Fraction of the kept figure by which a new one may differ without being a regression or progress."""

_TELLING = {"--enable-optimizations", "--with-lto", "--enable-shared", "--with-pydebug", "--disable-gil"}
"""Options of CPython's configure that change the number of instructions of a program."""

Counts: TypeAlias = Mapping[str, float]
"""Instructions for a unit, by work."""


def build() -> str:
    """Return the name of the running build, under which its figures are kept.

    The minor version alone is not enough: two builds of CPython 3.11 by the same compiler, one of them with
    profile-guided optimization, differed by ten percent.
    """
    options = _TELLING & set(shlex.split(sysconfig.get_config_var("CONFIG_ARGS") or ""))
    version = f"{platform.python_implementation()} {platform.python_version()}"
    return " ".join([version, platform.machine(), platform.python_compiler(), *sorted(options)])


@dataclass(frozen=True, slots=True)
class Comparison:
    """The count of a work and the kept one, or None if none is kept."""

    name: str
    count: float
    kept: float | None

    @property
    def change(self) -> float | None:
        """The increase, as a fraction of the kept count."""
        return None if self.kept is None else self.count / self.kept - 1

    @property
    def is_regression(self) -> bool:
        """True if the count is more than ten percent above the kept one."""
        return self.change is not None and self.change > TOLERANCE

    @property
    def is_progress(self) -> bool:
        """True if the count is so far below the kept one that the kept one would hide a regression."""
        return self.change is not None and self.change < -TOLERANCE


def compare(counts: Counts, kept: Counts) -> list[Comparison]:
    """Compare each count with the kept one of the same work."""
    return [Comparison(name, count, kept.get(name)) for name, count in counts.items()]


def read(file: Path) -> dict[str, dict[str, float]]:
    """Return the kept figures by build, which are none if there is no file."""
    kept: dict[str, dict[str, float]] = orjson.loads(file.read_bytes()) if file.exists() else {}
    return kept


def record(file: Path, counts: Counts) -> None:
    """Keep these counts for this build. Those of other works and of other builds stay."""
    kept = read(file)
    kept[build()] = kept.get(build(), {}) | {name: round(count) for name, count in counts.items()}
    file.write_bytes(orjson.dumps(kept, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE))
