"""What gatepost is to reach, as the ratios that hold on any machine, and what it has reached in a run.

A target compares figures of one run only: peers and gatepost on the same machine in the same hour. It does not measure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from tests.bench.figures import Figures

Reckoning = Callable[[float, float], float]


def _itself(ours: float, _theirs: float) -> float:
    return ours


def _ratio(ours: float, theirs: float) -> float:
    return ours / theirs


def _difference(ours: float, theirs: float) -> float:
    return ours - theirs


@dataclass(frozen=True, slots=True)
class Target:
    """One figure that must not be over a limit.

    ``row`` is ours, ``against`` the row it is compared with by ``reckoning``, and ``at`` the size of the work; without
    it the largest that was measured counts.
    """

    says: str
    work: str
    measure: str
    row: str
    limit: float
    unit: str
    reckoning: Reckoning = _itself
    against: str | None = None
    at: int | None = None

    def verdict(self, figures: Figures) -> Verdict:
        """Compare the medians of a run."""
        ours = figures.find(self.work, self.row, self.measure, self.at)
        if ours is None:
            return Verdict(self, None)
        if self.against is None:
            return Verdict(self, ours.median)
        theirs = figures.find(self.work, self.against, self.measure, self.at)
        return Verdict(self, self.reckoning(ours.median, theirs.median) if theirs else None)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was reached of a target; None if it was not measured."""

    target: Target
    reached: float | None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if that was not measured."""
        return None if self.reached is None else self.reached <= self.target.limit

    @property
    def percent(self) -> float | None:
        """How far the figure is over the limit; under it this is negative."""
        return None if self.reached is None else (self.reached / self.target.limit - 1) * 100


def _of_haraka(work: str, measure: str, part: Fraction) -> Target:
    says = f"{work}: {measure} at most {part} of Haraka's"
    return Target(says, work, measure, "gatepost", float(part), "of Haraka's", _ratio, "haraka")


TARGETS = (
    _of_haraka("messages-new", "CPU", Fraction(1, 3)),
    _of_haraka("messages-reused", "CPU", Fraction(1, 2)),
    _of_haraka("quit", "CPU", Fraction(1, 2)),
    Target(
        "pipelined: no slower than one by one",
        "pipelined",
        "p50 alone",
        "gatepost",
        1.0,
        "of one by one",
        _ratio,
        "gatepost, one by one",
    ),
    Target(
        "plugins: ten that pass cost at most 60 µs a message",
        "plugins",
        "CPU",
        "gatepost-10-plugins",
        60.0,
        "µs",
        _difference,
        "gatepost-bare",
    ),
    Target("lookups: five of 50 ms, ahead, under 60 ms", "lookups", "p50", "gatepost-look-ups-ahead", 60.0, "ms"),
)


def verdicts(figures: Figures) -> list[Verdict]:
    """All targets, in their order."""
    return [target.verdict(figures) for target in TARGETS]
