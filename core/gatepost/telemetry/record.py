"""Records: one for each outcome of a session, with all rulings that led to it. ``gatepost explain`` prints them.

This module only holds and prints facts.
"""

from __future__ import annotations

from dataclasses import dataclass

from gatepost.replies import Reply
from gatepost.rulings import Ruling

RECIPIENTS_KEPT = 10
"""Recipients that a record names; it counts the others. A client may name a thousand in each of a thousand commands."""


@dataclass(slots=True)
class Record:
    """One outcome of a session: a refusal, a message, or the session's end, with all rulings that led to it."""

    id: str
    at: float
    """Seconds since the epoch."""
    event: str
    """``refused``, ``accepted`` or ``disconnected``."""
    session: str
    client: str
    helo: str
    sender: str | None
    recipients: tuple[str, ...]
    """The first ten."""
    phase: str
    plugin: str
    reply: str
    """The reply as it went out, without line ends."""
    rulings: tuple[Ruling, ...] = ()
    size: int = 0
    """Octets of the message; 0 when there was none."""
    seconds: float = 0.0
    """Duration of the phase, or of the session at its end."""
    trusted: str = ""
    recipient_count: int = 0
    """The number of all recipients."""
    next_hop: str = ""
    """The next hop that took the message."""
    failed_next_hops: tuple[str, ...] = ()
    """Those that were tried and did not take it, each with its failure."""

    def facts(self) -> dict[str, object]:
        """Return the record as plain values, for JSON. Text of the client is unescaped: escape it before printing."""
        return self.head() | {"rulings": [ruling.facts() for ruling in self.rulings]}

    def head(self) -> dict[str, object]:
        """Return ``facts`` without the rulings."""
        return {
            "id": self.id,
            "at": self.at,
            "event": self.event,
            "session": self.session,
            "client": self.client,
            "helo": self.helo,
            "sender": self.sender,
            "recipients": list(self.recipients),
            "recipient_count": self.recipient_count,
            "phase": self.phase,
            "plugin": self.plugin,
            "reply": self.reply,
            "size": self.size,
            "seconds": round(self.seconds, 6),
            "trusted": self.trusted,
            "next_hop": self.next_hop,
            "failed_next_hops": list(self.failed_next_hops),
        }


def reply_text(reply: Reply) -> str:
    """Return a reply as one line, for the log and the journal."""
    if reply.wire.count(b"\n") == 1:
        return reply.wire[:-2].decode("ascii")
    return " ".join(part for part in (str(reply.code), reply.status or "", " ".join(reply.lines())) if part)
