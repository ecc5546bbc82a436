"""The targets of gatepost, as ratios that hold on any machine, and the figures that a run reached.

A target compares figures of one run only: peers and gatepost on the same machine in the same hour. It does not measure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    it the largest that was measured counts. Of several measures the worst counts, so that no way of counting flatters.
    """

    says: str
    work: str
    measures: Sequence[str]
    row: str
    limit: float
    unit: str
    reckoning: Reckoning = _itself
    against: str | None = None
    at: int | None = None

    def verdict(self, figures: Figures) -> Verdict:
        """Compare the medians of a run."""
        reached = [value for measure in self.measures if (value := self._reached(figures, measure)) is not None]
        return Verdict(self, max(reached, default=None), judged=not figures.quick)

    def _reached(self, figures: Figures, measure: str) -> float | None:
        ours = figures.find(self.work, self.row, measure, self.at)
        theirs = figures.find(self.work, self.against or self.row, measure, self.at)
        return self.reckoning(ours.median, theirs.median) if ours and theirs else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The figure that a run reached for a target, and whether that is good enough."""

    target: Target
    reached: float | None
    """None if it was not measured."""
    judged: bool = True
    """False for a quick run: a single short sample says too little."""

    @property
    def met(self) -> bool | None:
        """True if the target is met; None if it was not measured or is not judged."""
        return self.reached <= self.target.limit if self.judged and self.reached is not None else None

    @property
    def percent(self) -> float | None:
        """The distance of the figure from the limit; negative below it."""
        return None if self.reached is None else (self.reached / self.target.limit - 1) * 100


def _of_haraka(work: str, part: Fraction, what: str = "CPU", suffix: str = "") -> Target:
    says = f"{work}: {what} at most {part} of Haraka's"
    return Target(says, work, ("CPU",), f"gatepost{suffix}", float(part), "of Haraka's", _ratio, f"haraka{suffix}")


def _of_postfix(work: str, part: Fraction) -> Target:
    says = f"{work}: CPU at most {part} of Postfix's"
    return Target(says, work, ("CPU",), "gatepost-as-run", float(part), "of Postfix's", _ratio, "postfix-as-run")


def _more(says: str, work: str, row: str, against: str, limit: float) -> Target:
    return Target(f"{work}: {says}", work, ("CPU",), row, limit, "µs more", _difference, against)


def _large_of_chain(row: str) -> Target:
    says = f"large: {row}, CPU per MB at most 1.3 of the whole chain's"
    return Target(says, "large", ("CPU",), row, 1.3, "of the chain's", _ratio, "gatepost")


def _plain(says: str, work: str, measure: str, limit: float, unit: str, row: str = "gatepost") -> Target:
    return Target(f"{work}: {says}", work, (measure,), row, limit, unit)


def _memory_of_each(work: str, limit: float, clients: int) -> Target:
    """Limit the memory per client; with fewer clients it means little, since they take memory that was already free."""
    says = f"{work}: memory of {clients:,} clients"
    return Target(says, work, ("memory", "memory, further"), "gatepost", limit, "KiB each", at=clients)


TARGETS = (
    _of_haraka("messages-new", Fraction(1, 3)),
    _of_haraka("messages-reused", Fraction(1, 2)),
    Target(
        "pipelined: no slower than one by one",
        "pipelined",
        ("p50 alone",),
        "gatepost",
        1.0,
        "of one by one",
        _ratio,
        "gatepost, one by one",
    ),
    _of_haraka("large", Fraction(1, 3), "CPU per MB"),
    _plain("memory rises by at most 10 MiB", "large", "memory rise", 10, "MiB", "gatepost, ten at once"),
    _plain(
        "the event loop is blocked for at most 20 ms",
        "large",
        "longest standstill of the loop",
        20,
        "ms",
        "gatepost, watched",
    ),
    _of_haraka("quit", Fraction(1, 2)),
    _memory_of_each("held", 4, 15_000),
    _plain("CPU", "held", "CPU", 60, "µs each"),
    _plain(
        "a known client is served in the meantime",
        "held",
        "longest while they are held",
        50,
        "ms",
        "gatepost, newcomers",
    ),
    _memory_of_each("idle", 7, 10_000),
    _more("ten that pass, per message", "plugins", "gatepost-10-plugins", "gatepost-bare", 60),
    _plain("five of 50 ms, looked up ahead", "lookups", "p50", 60, "ms", "gatepost-look-ups-ahead"),
    _of_haraka("as-run-new", Fraction(1, 3), suffix="-as-run"),
    _of_postfix("as-run-new", Fraction(2, 5)),
    _of_haraka("as-run-reused", Fraction(1, 3), suffix="-as-run"),
    _of_postfix("as-run-reused", Fraction(2, 5)),
    _more("log and journal at their defaults, per message", "messages-new", "gatepost-logging", "gatepost", 30),
    _more("forward over a pooled connection, per message", "messages-new", "gatepost-forward", "gatepost-bare", 100),
    _of_haraka("alone", Fraction(2, 5)),
    _large_of_chain("gatepost-bare"),
    _large_of_chain("gatepost-forward"),
)


def verdicts(figures: Figures) -> list[Verdict]:
    """All targets, in their order."""
    return [target.verdict(figures) for target in TARGETS]
