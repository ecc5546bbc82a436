"""One configured plugin: its object, its declarations, its settings, and its circuit breaker.

This module knows no session and asks nobody.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from mypy_extensions import mypyc_attr

from gatepost.concurrency import Threads

FAILURES_TO_OPEN: Final = 5
"""Failures in a row after which a plugin's circuit opens."""
OPEN_SECONDS: Final = 30.0
"""How long it stays open before a trial call."""
GRANTS: Final = {"recipients": "rcpt", "logins": "auth", "delivery": "queue"}
"""What a class may declare as ``grants``, and the phase in which its accept then counts."""


class Mode(Enum):
    """What is made of a plugin's answers."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    OFF = "off"


@mypyc_attr(allow_interpreted_subclasses=True)
class CircuitBreaker:
    """Stops asking a plugin that keeps failing: open after five failures in a row, a trial call after 30 s."""

    __slots__ = ("_open_until", "_trying", "failures")

    def __init__(self) -> None:
        self.failures = 0
        """How often it has failed in a row."""
        self._open_until = 0.0
        self._trying = False

    @property
    def closed(self) -> bool:
        """True while the plugin is asked as usual."""
        return self.failures < FAILURES_TO_OPEN

    def allows(self, now: float) -> bool:
        """True when a call may be made at ``now``; it must then be followed by one of the three below."""
        if self.closed:
            return True
        if self._trying or now < self._open_until:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        """A call gave an answer."""
        self.failures = 0
        self._trying = False

    def failed(self, now: float) -> bool:
        """A call failed at ``now``. True when this opened the circuit."""
        self.failures += 1
        self._trying = False
        self._open_until = now + OPEN_SECONDS
        return self.failures == FAILURES_TO_OPEN

    def abandoned(self) -> None:
        """A call ended without an answer, since the client left."""
        self._trying = False


@dataclass(slots=True, eq=False)
class Instance:
    """One configured plugin: the object, what its class declares, and what the configuration says of it."""

    name: str
    plugin: Any
    mode: Mode = Mode.ENFORCE
    time_limit: float = 30.0
    """Seconds one call may take."""
    on_error: str = "defer"
    reject_at: str | None = None
    phases: frozenset[str] | None = None
    """The phases in which it takes part; None: all that it implements."""
    grants: frozenset[str] = frozenset()
    skip_trusted: bool = False
    longest_wait: float = 0.0
    """How long its ``connect`` may wait on purpose, in seconds; part of that phase's budget."""
    package: str = ""
    version: str = ""
    circuit: CircuitBreaker = field(default_factory=CircuitBreaker)
    threads: Threads = field(init=False)
    """Where its ``blocking`` calls run."""
    _granted: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.threads = Threads(f"gatepost-{self.name}")
        self._granted = frozenset(GRANTS[grant] for grant in self.grants)

    @property
    def observed(self) -> bool:
        """True when its answers are recorded and not applied."""
        return self.mode is Mode.OBSERVE

    def may_grant(self, phase: str) -> bool:
        """True when its accept counts at rcpt, auth or queue."""
        return phase in self._granted
