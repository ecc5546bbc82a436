"""How answers become a ruling. Pure: no clock, no I/O, no plugins called.

``fault_of`` says whether a plugin may say what it said, ``compose`` takes one answer into a ruling, ``rule_score`` adds
up points. Here stand the rules of composition: the first deny or defer decides; at rcpt an accept only vouches; points
are evidence in a scope; an accept at rcpt, auth or queue needs a grant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gatepost.address import Address
from gatepost.chain import Instance
from gatepost.decisions import Action, Decision, defer, deny
from gatepost.hookspecs import ALL_RUN
from gatepost.rulings import Ruling
from gatepost.session import Envelope, Ledger, Session

NEED_GRANT: Final = frozenset({"rcpt", "auth", "queue"})
"""Phases in which a casual accept would open a relay, log somebody in, or lose a message."""

_ACCEPT: Final = Action.ACCEPT  # asked for several times a message: an enum finds its members slowly
_POINTS: Final = Action.POINTS

_ENVELOPE_SCOPE: Final = frozenset({"mail", "data", "headers", "message"})


@dataclass(frozen=True, slots=True)
class Score:
    """At how many points a client is deferred or denied; None: never."""

    defer_at: float | None = None
    deny_at: float | None = None


def fault_of(phase: str, instance: Instance, answer: object) -> str | None:
    """Why ``answer`` is none that ``phase`` takes from this plugin; None when it is one."""
    if isinstance(answer, Decision) and phase != "greeting":
        if phase in NEED_GRANT and answer.action is _ACCEPT and not instance.may_grant(phase):
            return f"accepted at {phase} without the grant"
        return None
    if phase in ALL_RUN or (phase == "greeting" and isinstance(answer, str)):
        return None
    if phase == "queue" and isinstance(answer, Mapping):
        return _fault_of_answers(instance, answer)
    return f"returned {type(answer).__name__}, which {phase} does not take"


def _fault_of_answers(instance: Instance, answers: Mapping[object, object]) -> str | None:
    if not all(isinstance(recipient, Address) for recipient in answers):
        return "answered for something that is no recipient"
    if any(isinstance(answer, Decision) and answer.action is _POINTS for answer in answers.values()):
        return "answered for a recipient with points"
    if not all(isinstance(answer, Decision) for answer in answers.values()):
        return "answered for a recipient with something that is no decision"
    faults = (fault_of("queue", instance, answer) for answer in answers.values())
    return next((fault for fault in faults if fault is not None), None)


def compose(ruling: Ruling, name: str, answer: Any, session: Session, envelope: Envelope | None) -> bool:
    """Take the answer of plugin ``name`` into ``ruling``. True when it decides, and nobody after it is asked."""
    if isinstance(answer, str):
        ruling.decide(Decision(Action.ACCEPT, answer), name)
        return True
    if ruling.phase == "queue" and envelope is not None:
        return _compose_delivery(ruling, name, answer, envelope)
    if answer.action is _POINTS:
        if answer.number:
            ledger_of(ruling, session, envelope)[name, answer.text] = answer.number
        return False
    if answer.action is _ACCEPT and ruling.phase == "rcpt":
        ruling.vouched = True
        return False
    ruling.decide(answer, name)
    return True


def _compose_delivery(ruling: Ruling, name: str, answer: Any, envelope: Envelope) -> bool:
    """At queue an answer is for the recipients that have none yet. Over when all have one."""
    if isinstance(answer, Decision):
        if answer.action is _POINTS:
            return False
        envelope.answers.update(dict.fromkeys(envelope.pending, (name, answer)))
    else:
        for recipient in envelope.pending:
            if recipient in answer:
                envelope.answers[recipient] = (name, answer[recipient])
    if envelope.pending:
        return False
    ruling.plugin = name
    return True


def ledger_of(ruling: Ruling, session: Session, envelope: Envelope | None) -> Ledger:
    """Where points of this phase are kept: with the recipient, the envelope, the HELO, or else the session."""
    if ruling.phase == "rcpt" and envelope is not None and ruling.recipient is not None:
        envelope.recipient_points = envelope.recipient_points or {}
        return envelope.recipient_points.setdefault(ruling.recipient, {})
    if ruling.phase == "helo":
        session.helo_points = {} if session.helo_points is None else session.helo_points
        return session.helo_points
    if ruling.phase in _ENVELOPE_SCOPE and envelope is not None:
        envelope.points = {} if envelope.points is None else envelope.points
        return envelope.points
    session.points = {} if session.points is None else session.points
    return session.points


def rule_score(
    ruling: Ruling, score: Score, session: Session, envelope: Envelope, recipients: Sequence[Address]
) -> None:
    """Rule the sum of points, after the plugins: at rcpt for one recipient, at the end of the message for all.

    The points of a recipient count only for it; with several, the one with the fewest counts, so that nobody's mail is
    refused for what speaks against another. An accept does not override the score; trusted and relaying clients are not
    scored.
    """
    scored = [recipient for recipient in recipients if not envelope.exempt(recipient)]
    if ruling.refuses or session.exempt or not scored:
        return
    by_recipient = envelope.recipient_points or {}
    fewest = min((by_recipient.get(recipient, {}) for recipient in scored), key=lambda held: sum(held.values()))
    scopes = (session.points or {}, session.helo_points or {}, envelope.points or {}, fewest)
    held = [(reason, number) for scope in scopes for (_, reason), number in scope.items()]
    total = sum(number for _, number in held)
    reasons = "; ".join(f"{reason} ({number:+g})" for reason, number in held)
    if score.deny_at is not None and total >= score.deny_at:
        ruling.decide(deny(f"score {total:g}: {reasons}"), "score")
    elif score.defer_at is not None and total >= score.defer_at:
        ruling.decide(defer(f"score {total:g}: {reasons}"), "score")
