"""What a run of the benchmark gives: figures with all their samples, to and from JSON.

It knows nothing of servers and loads, and does not measure. Every figure names the server's version and, if the server
is interpreted, the interpreter, so that a figure that is quoted alone still says what it was taken with.
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
    """What is counted: ``Measure("CPU", "µs a message")``.

    ``at`` is the size of the work where one work is measured at several: the number of connections held, say.
    """

    name: str
    unit: str
    at: int | None = None

    def __str__(self) -> str:
        return f"{self.name}, {self.unit}" + (f", at {self.at:,}" if self.at is not None else "")


Sample = Mapping[Measure, float]
"""What one run of a work has measured."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure of one row of a work, over all runs.

    ``row`` is the row's name, ``version`` that of its server. ``samples`` are in the order they were taken; ``others``
    are the cores that processes of nobody here used meanwhile, for each sample.
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
        """Give what stands in the JSON file; median, min and max are there for those who read it without this."""
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
        """Make it from what ``written`` gave."""
        measure = Measure(written["measure"], written["unit"], written["at"])
        samples, others = tuple(written["samples"]), tuple(written["others"])
        return cls(written["work"], written["row"], written["version"], measure, samples, others)


def _short(value: float) -> float:
    """Give it with no more digits than anybody measures."""
    return float(f"{value:.6g}")


@dataclass(frozen=True, slots=True)
class Machine:
    """What the figures were taken on."""

    processor: str
    cores: int
    kernel: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Works that were measured: where, with what effort, when, and what came of each.

    ``interpreter`` is the benchmark's own, and that of gatepost. ``dates`` says when each work was begun, ISO 8601 in
    UTC. ``skipped`` says why, by "work: row", where a row could not be measured.
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
        """When the last of the works was begun."""
        return max(self.dates.values(), default="")

    def is_like(self, other: Figures) -> bool:
        """Whether both were taken alike, so that they may stand in one file."""
        alike = ("machine", "interpreter", "quick", "runs")
        return all(getattr(self, name) == getattr(other, name) for name in alike)

    def with_work(self, name: str, date: str, found: Sequence[Figure], skipped: Mapping[str, str]) -> Figures:
        """The same with what came of this work now, in place of what came of it before."""
        others = tuple(figure for figure in self.figures if figure.work != name)
        kept = {row: why for row, why in self.skipped.items() if not row.startswith(f"{name}: ")}
        return dataclasses.replace(
            self,
            dates={**self.dates, name: date},
            figures=(*others, *found),
            skipped=kept | {f"{name}: {row}": why for row, why in skipped.items()},
        )

    def find(self, work: str, row: str, name: str, at: int | None = None) -> Figure | None:
        """Give the figure of that measure's name, or None. Without ``at``: the one of the largest size."""
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
        """Read what ``save`` wrote."""
        whole = orjson.loads(path.read_bytes())
        whole["machine"] = Machine(**whole["machine"])
        whole["figures"] = tuple(map(Figure.read, whole["figures"]))
        return cls(**whole)
