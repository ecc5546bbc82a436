"""What the checks found: one ``Result`` for each check, and the ``Report`` of all.

It knows no plugin and runs nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatepost.testing.conformance.subject import Subject


class Outcome(Enum):
    """How a check ended."""

    PASSED = "pass"
    FAILED = "fail"
    SKIPPED = "skip"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that every plugin must satisfy."""

    name: str
    """Its name in tables and in the names of tests."""
    about: str
    """What must hold, as a sentence."""
    run: Callable[[Subject], Awaitable[list[str]]]
    """Gives a sentence for each thing that is wrong. Raises ``NotApplicableError``."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Result:
    """What one check found."""

    check: str
    about: str
    outcome: Outcome
    findings: tuple[str, ...] = ()
    """What is wrong, or why there was nothing to look at."""

    def __str__(self) -> str:
        return f"{self.check}: {self.about}" + "".join(f"\n  - {finding}" for finding in self.findings)

    def facts(self) -> dict[str, object]:
        """The result as plain values, for JSON."""
        return {
            "check": self.check,
            "about": self.about,
            "outcome": self.outcome.value,
            "findings": list(self.findings),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What all checks found in the plugin ``plugin``."""

    plugin: str
    results: tuple[Result, ...]

    @property
    def failures(self) -> tuple[Result, ...]:
        """The checks that it does not pass."""
        return tuple(result for result in self.results if result.outcome is Outcome.FAILED)

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong. A check that was skipped is no failure."""
        return not self.failures

    def __str__(self) -> str:
        if self.passed:
            return f"{self.plugin}: nothing is wrong"
        return "\n".join((f"{self.plugin} does not conform:", *map(str, self.failures)))
