"""Points: the scopes in which they are kept, and the ruling on their sum. Pure: no clock, no I/O, no plugins called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gatepost.address import Address
from gatepost.decisions import defer, deny
from gatepost.rulings import Ruling
from gatepost.session import Envelope, Ledger, Session

_ENVELOPE_SCOPE: Final = frozenset({"mail", "data", "headers", "message"})


@dataclass(frozen=True, slots=True)
class Score:
    """The numbers of points from which a client is deferred or denied; None: never."""

    defer_at: float | None = None
    deny_at: float | None = None


def ledger_of(ruling: Ruling, session: Session, envelope: Envelope | None) -> Ledger:
    """Return the ledger for points of this phase: the recipient's, the envelope's, the HELO's or the session's."""
    if ruling.phase == "rcpt" and envelope is not None and ruling.recipient is not None:
        envelope._recipient_points = envelope._recipient_points or {}
        return envelope._recipient_points.setdefault(ruling.recipient, {})
    if ruling.phase == "helo":
        session._helo_points = {} if session._helo_points is None else session._helo_points
        return session._helo_points
    if ruling.phase in _ENVELOPE_SCOPE and envelope is not None:
        envelope._points = {} if envelope._points is None else envelope._points
        return envelope._points
    session._points = {} if session._points is None else session._points
    return session._points


def rule_score(
    ruling: Ruling, score: Score, session: Session, envelope: Envelope, recipients: Sequence[Address]
) -> None:
    """Rule on the sum of points, after the plugins: at rcpt for one recipient, at the end of the message for all.

    The points of a recipient count only for it; of several, the one with the fewest counts, so that no mail is refused
    for what speaks against another recipient. An accept does not override the score; trusted and relaying clients are
    not scored. Where a plugin defers, the points given before it make that permanent from ``deny_at`` on.
    """
    scored = [recipient for recipient in recipients if not envelope.trusted_for(recipient)]
    if session.privileged or not scored:
        return
    deferral = ruling.decision if ruling.refuses else None
    # A plugin's permanent refusal stands as it is, with that plugin's name and words. So does a temporary one of ours,
    # for a plugin that failed or a recipient that nobody vouched for: it says nothing about the client.
    if deferral is not None and (deferral.permanent or ruling.fault or ruling.plugin == "gatepost"):
        return
    by_recipient = envelope._recipient_points or {}
    fewest = min((by_recipient.get(recipient, {}) for recipient in scored), key=lambda held: sum(held.values()))
    scopes = (session._points or {}, session._helo_points or {}, envelope._points or {}, fewest)
    held = [(reason, number) for scope in scopes for (_, reason), number in scope.items()]
    total = sum(number for _, number in held)
    reasons = "; ".join(f"{reason} ({number:+g})" for reason, number in held)
    if score.deny_at is not None and total >= score.deny_at:
        disconnect = deferral is not None and deferral.disconnect
        ruling.decide(deny(f"score {total:g}: {reasons}", disconnect=disconnect), "score")
    elif deferral is None and score.defer_at is not None and total >= score.defer_at:
        ruling.decide(defer(f"score {total:g}: {reasons}"), "score")
