"""One configured plugin: its object, its declaration, its settings, and its circuit breaker.

This module knows no session and calls no plugin; ``plugins.contract`` reads declarations.
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
"""Seconds for which it stays open before a trial call."""
GRANTS: Final = {"recipients": "rcpt", "logins": "auth", "delivery": "queue"}
"""The names that a plugin may declare as ``grants``, and the phase in which its accept then counts."""


class Mode(Enum):
    """How a plugin's answers are used."""

    ENFORCE = "enforce"
    OBSERVE = "observe"
    OFF = "off"


@mypyc_attr(allow_interpreted_subclasses=True)
class CircuitBreaker:
    """Stops calls to a plugin that keeps failing: open after five failures in a row, a trial call after 30 s."""

    __slots__ = ("_open_until", "_trying", "failures")

    def __init__(self) -> None:
        self.failures = 0
        """Failures since the last success."""
        self._open_until = 0.0
        self._trying = False

    @property
    def closed(self) -> bool:
        """True while the plugin is called as usual."""
        return self.failures < FAILURES_TO_OPEN

    def allows(self, now: float) -> bool:
        """True when a call may be made at ``now``. Its outcome must then be told to one of the three methods below."""
        if self.closed:
            return True
        # One trial at a time: a plugin that fails by waiting would otherwise make every client wait for it again.
        if self._trying or now < self._open_until:
            return False
        self._trying = True
        return True

    def succeeded(self) -> None:
        """Note that a call gave an answer."""
        self.failures = 0
        self._trying = False

    def failed(self, now: float) -> bool:
        """Note that a call failed at ``now``. Return True when this opened the circuit."""
        self.failures += 1
        self._trying = False
        self._open_until = now + OPEN_SECONDS
        return self.failures == FAILURES_TO_OPEN

    def inconclusive(self) -> None:
        """Note that a call says nothing about the plugin: its client has left, or its failure is blameless."""
        self._trying = False


@dataclass(frozen=True, slots=True)
class Declaration:
    """Everything that a plugin declares about itself, under the names of its attributes.

    The strings under the fields are the table in the manual.
    """

    Options: Any = None
    """The class of its options, a subclass of `gatepost.Options`. Without it the plugin takes no options."""
    grants: frozenset[str] = frozenset()
    """The grant of its `accept`: `"recipients"`, `"logins"` or `"delivery"`, or several of them. Without the grant, an
    `accept` at `rcpt`, `auth` or `queue` is an error of the plugin."""
    on_error: str = "defer"
    """How an error of the plugin counts: `"defer"`, the default, or `"pass"`. `on_error` in its table overrides it."""
    skip_trusted: bool = False
    """`True` if the plugin is not asked about trusted clients."""
    phases: frozenset[str] | None = None
    """The phases in which it is asked, if its options leave it nothing to do in the others; usually a property.
    By default all that it implements."""
    hooks_version: int = 1
    """The lowest `gatepost.HOOKS_VERSION` that it works with. It must be an attribute of the class or module."""
    time_limit: float = 30.0
    """The seconds that one call may take. `time_limit` in its table overrides it. The phase as a whole has a limit,
    too: 60 s, at `message` 120 s."""
    longest_wait: float = 0.0
    """The longest time in seconds that its `connect` waits on purpose. The time limit of the phase grows by it."""
    takes_everything: bool = False
    """`True` if its `queue` accepts every recipient: `gatepost check` then reports a delivery plugin after it, which
    is never reached."""
    commits: bool = False
    """`True` if its `queue` calls `envelope.commit()` just before it takes a message: until then gatepost may cancel
    it. By default the call of `queue` itself counts as the point of no return."""
    next_hops: tuple[str, ...] = ()
    """The servers to which it delivers, as `"host:port"`: `gatepost check` reports a next hop that is gatepost
    itself."""
    trusts: bool = False
    """`True` if it marks clients as trusted: `gatepost check` warns if a plugin with `skip_trusted` precedes it."""
    wants_vouched: bool = False
    """`True` if it stores something about each recipient: `gatepost check` warns if it precedes every plugin that
    grants recipients, because it then stores recipients that do not exist."""
    defers_strangers: bool = False
    """`True` if its `rcpt` defers clients because it does not know them yet: `gatepost check` warns if a plugin that
    gives points at `rcpt` comes after it, because those points come too late."""
    gives_points: frozenset[str] = frozenset()
    """`"positive"` if its `rcpt` gives points against clients, `"negative"` if it gives points in their favour, or
    both. With options that decide this it is usually a property."""


@dataclass(slots=True, eq=False)
class Instance:
    """One configured plugin: the object, what it declares, and what the configuration says about it."""

    name: str
    plugin: Any
    declaration: Declaration = field(default_factory=Declaration)
    mode: Mode = Mode.ENFORCE
    time_limit: float = 30.0
    """Seconds that one call may take."""
    on_error: str = "defer"
    """How an error counts: as configured, else as declared."""
    reject_at: str | None = None
    phases: frozenset[str] | None = None
    """The phases in which it is asked, as declared and as configured; None: all that it implements."""
    package: str = ""
    version: str = ""
    circuit: CircuitBreaker = field(default_factory=CircuitBreaker)
    threads: Threads = field(init=False)
    """The threads in which its ``blocking`` calls run."""
    _granted: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.threads = Threads(f"gatepost-{self.name}")
        self._granted = frozenset(GRANTS[grant] for grant in self.declaration.grants)

    @property
    def observed(self) -> bool:
        """True when its answers are recorded and not applied."""
        return self.mode is Mode.OBSERVE

    def may_grant(self, phase: str) -> bool:
        """True when its accept counts at ``phase``: rcpt, auth or queue."""
        return phase in self._granted
