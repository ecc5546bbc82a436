"""The results of checks: a ``Result`` for each check, and a ``Report`` of all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatepost.testing.conformance.subject import Subject


class Outcome(Enum):
    """The outcome of a check."""

    PASSED = "pass"
    FAILED = "fail"
    SKIPPED = "skip"


@dataclass(frozen=True, slots=True)
class Check:
    """A requirement for all plugins."""

    name: str
    """Its name in tables and in the names of tests."""
    about: str
    """The requirement as a sentence."""
    run: Callable[[Subject], Awaitable[list[str]]]
    """Returns a sentence for each violation. Raises ``NotApplicableError``."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a check."""

    check: str
    about: str
    outcome: Outcome
    findings: tuple[str, ...] = ()
    """The violations, or the reason why the check does not apply."""

    def __str__(self) -> str:
        return f"{self.check}: {self.about}" + "".join(f"\n  - {finding}" for finding in self.findings)

    def facts(self) -> dict[str, object]:
        """Return the result as plain values, for JSON."""
        return {
            "check": self.check,
            "about": self.about,
            "outcome": self.outcome.value,
            "findings": list(self.findings),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The results of all checks of a plugin."""

    plugin: str
    results: tuple[Result, ...]

    @property
    def failures(self) -> tuple[Result, ...]:
        """The results of the checks that failed."""
        return tuple(result for result in self.results if result.outcome is Outcome.FAILED)

    @property
    def passed(self) -> bool:
        """True when no check failed. A check that was skipped has not failed."""
        return not self.failures

    def __str__(self) -> str:
        if self.passed:
            return f"{self.plugin} conforms"
        return "\n".join((f"{self.plugin} does not conform:", *map(str, self.failures)))
