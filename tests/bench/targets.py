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


def _of_haraka(work: str, part: Fraction, what: str = "CPU") -> Target:
    says = f"{work}: {what} at most {part} of Haraka's"
    return Target(says, work, "CPU", "gatepost", float(part), "of Haraka's", _ratio, "haraka")


def _plain(says: str, work: str, measure: str, limit: float, unit: str, row: str = "gatepost") -> Target:
    return Target(f"{work}: {says}", work, measure, row, limit, unit)


TARGETS = (
    _of_haraka("messages-new", Fraction(1, 3)),
    _of_haraka("messages-reused", Fraction(1, 2)),
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
    _of_haraka("large", Fraction(1, 3), "CPU per MB"),
    _plain("memory rises by no more than 10 MiB", "large", "memory rise", 10, "MiB", "gatepost, ten at once"),
    _plain(
        "the loop stands still for no more than 20 ms",
        "large",
        "longest standstill of the loop",
        20,
        "ms",
        "gatepost, watched",
    ),
    _of_haraka("quit", Fraction(1, 2)),
    _plain("memory", "held", "memory", 4, "KiB each"),
    _plain("CPU", "held", "CPU", 60, "µs each"),
    _plain(
        "a good client is served while they come",
        "held",
        "newcomer served while they come, longest",
        50,
        "ms",
        "gatepost, newcomers",
    ),
    _plain(
        "a good client is served while they are held",
        "held",
        "newcomer served while they are held, longest",
        50,
        "ms",
        "gatepost, newcomers",
    ),
    _plain("memory", "idle", "memory", 7, "KiB each"),
    Target(
        "plugins: ten that pass, a message",
        "plugins",
        "CPU",
        "gatepost-10-plugins",
        60.0,
        "µs more",
        _difference,
        "gatepost-bare",
    ),
    _plain("five of 50 ms, ahead", "lookups", "p50", 60, "ms", "gatepost-look-ups-ahead"),
)


def verdicts(figures: Figures) -> list[Verdict]:
    """All targets, in their order."""
    return [target.verdict(figures) for target in TARGETS]
