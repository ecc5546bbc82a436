"""The results of the benchmark: figures with all their samples, which can be written to JSON and read again.

This module knows nothing of servers and loads, and measures nothing. Every figure names the version of its server and,
if the server is interpreted, that of the interpreter, so that it is complete when it is quoted alone.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure and its unit: ``Measure("CPU", "µs a message")``.

    ``at`` is the size of the work if a work is measured at several sizes, such as the number of connections held.
    """

    name: str
    unit: str
    at: int | None = None

    def __str__(self) -> str:
        return f"{self.name}, {self.unit}" + (f", at {self.at:,}" if self.at is not None else "")


Sample = Mapping[Measure, float]
"""The results of one run of a work."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure of one row of a work, over all runs.

    ``row`` is the row's name, ``version`` that of its server. ``samples`` are in the order they were taken. ``others``
    has the number of cores that processes outside the benchmark used during each sample.
    """

    work: str
    row: str
    version: str
    measure: Measure
    samples: tuple[float, ...]
    others: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        """The figure that is quoted."""
        return statistics.median(self.samples)

    @property
    def least(self) -> float:
        """The lowest sample."""
        return min(self.samples)

    @property
    def most(self) -> float:
        """The highest sample."""
        return max(self.samples)

    def written(self) -> dict[str, Any]:
        """Return the figure's part of the JSON file; median, min and max are for readers of the file only."""
        return {
            "work": self.work,
            "row": self.row,
            "version": self.version,
            "measure": self.measure.name,
            "unit": self.measure.unit,
            "at": self.measure.at,
            "median": _short(self.median),
            "min": _short(self.least),
            "max": _short(self.most),
            "samples": [_short(sample) for sample in self.samples],
            "others": list(self.others),
        }

    @classmethod
    def read(cls, written: Mapping[str, Any]) -> Figure:
        """Return the figure that ``written`` described."""
        measure = Measure(written["measure"], written["unit"], written["at"])
        samples, others = tuple(written["samples"]), tuple(written["others"])
        return cls(written["work"], written["row"], written["version"], measure, samples, others)


def _short(value: float) -> float:
    """Round to six significant digits, more than can be measured."""
    return float(f"{value:.6g}")


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that the figures were taken on."""

    processor: str
    cores: int
    kernel: str


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of all works that were measured, and how, where and when.

    ``interpreter`` is that of the benchmark and of gatepost. ``dates`` has the time when each work began, ISO 8601 in
    UTC. ``skipped`` maps "work: row" to the reason why a row could not be measured.
    """

    machine: Machine
    interpreter: str
    quick: bool
    runs: int
    dates: Mapping[str, str] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def date(self) -> str:
        """The time when the last of the works began."""
        return max(self.dates.values(), default="")

    def is_like(self, other: Figures) -> bool:
        """Return whether both were measured under the same conditions, so that one file may hold them."""
        alike = ("machine", "interpreter", "quick", "runs")
        return all(getattr(self, name) == getattr(other, name) for name in alike)

    def with_work(self, name: str, date: str, found: Sequence[Figure], skipped: Mapping[str, str]) -> Figures:
        """Return the same figures with new ones of this work in place of its old ones."""
        others = tuple(figure for figure in self.figures if figure.work != name)
        kept = {row: why for row, why in self.skipped.items() if not row.startswith(f"{name}: ")}
        return dataclasses.replace(
            self,
            dates={**self.dates, name: date},
            figures=(*others, *found),
            skipped=kept | {f"{name}: {row}": why for row, why in skipped.items()},
        )

    def find(self, work: str, row: str, name: str, at: int | None = None) -> Figure | None:
        """Return the figure of the measure with this name, or None. Without ``at`` it is that of the largest size."""
        found = [each for each in self.figures if (each.work, each.row, each.measure.name) == (work, row, name)]
        if at is not None:
            found = [each for each in found if each.measure.at == at]
        return max(found, key=lambda each: each.measure.at or 0, default=None)

    def save(self, path: Path) -> None:
        """Write the JSON file."""
        whole = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        whole |= {"machine": dataclasses.asdict(self.machine), "figures": [each.written() for each in self.figures]}
        path.write_bytes(orjson.dumps(whole, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))

    @classmethod
    def load(cls, path: Path) -> Figures:
        """Read a file that ``save`` wrote."""
        whole = orjson.loads(path.read_bytes())
        whole["machine"] = Machine(**whole["machine"])
        whole["figures"] = tuple(map(Figure.read, whole["figures"]))
        return cls(**whole)
