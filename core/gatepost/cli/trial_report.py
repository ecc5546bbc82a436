"""What ``gatepost try`` is told and what it tells: the flags of a session, and its steps with all that was said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatepost.rulings import Ruling
    from gatepost.telemetry.record import Record


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line says of the session."""

    ip: str
    helo: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes | None
    early: bool
    listener: str
    deliver: bool
    store: bool


@dataclass(slots=True)
class Step:
    """One thing that the client did, and what came of it."""

    said: str
    reply: str
    code: int
    rulings: list[Ruling]
    waited: float
    """Seconds that the client would have waited because we want it to."""
    plugin: str = ""
    """Who refused it; ``gatepost`` is the core itself."""

    @property
    def is_refused(self) -> bool:
        """True for a reply of 4xx or 5xx."""
        return self.code >= 400

    def facts(self) -> dict[str, object]:
        """For JSON."""
        rulings = [ruling.facts() for ruling in self.rulings]
        return {
            "said": self.said,
            "reply": self.reply,
            "refused_by": self.plugin,
            "waited": round(self.waited, 3),
            "rulings": rulings,
        }


@dataclass(slots=True)
class Trial:
    """What was said in a session, from connect to the end."""

    steps: list[Step] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    events: list[dict[str, object]] = field(default_factory=list)
    would_deliver: tuple[str, ...] = ()
    """Who would have been asked to deliver; () when they were asked, or when it did not come to that."""

    @property
    def refusals(self) -> list[Step]:
        """The steps that were refused."""
        return [step for step in self.steps if step.is_refused]

    @property
    def accepted(self) -> bool:
        """True when the message was taken, or would be, for all recipients."""
        return not self.refusals

    @property
    def outcome(self) -> str:
        """A sentence."""
        if not self.accepted:
            refused = self.refusals[0]
            return f"refused by {refused.plugin} at {refused.said}: {refused.reply}"
        if self.would_deliver:
            return f"would be handed to: {', '.join(self.would_deliver)}"
        return f"accepted: {self.steps[-1].reply}"

    def facts(self) -> dict[str, object]:
        """For JSON."""
        return {
            "accepted": self.accepted,
            "outcome": self.outcome,
            "would_deliver": self.would_deliver,
            "waited": round(sum(step.waited for step in self.steps), 3),
            "steps": [step.facts() for step in self.steps],
            "events": self.events,
        }
