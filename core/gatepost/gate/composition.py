"""How answers become a ruling. Pure: no clock, no I/O, no plugins called.

``fault_of`` says whether a plugin may say what it said, ``compose`` takes one answer into a ruling, ``rule_score`` adds
up points. Here stand the rules of composition: the first deny or defer decides; at rcpt an accept only vouches; points
are evidence in a scope; an accept at rcpt, auth or queue needs a grant.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gatepost.address import Address
from gatepost.decisions import Action, Decision
from gatepost.gate.instance import Instance
from gatepost.gate.score import ledger_of
from gatepost.hookspecs import ALL_RUN
from gatepost.rulings import Ruling
from gatepost.session import Envelope, Session

NEED_GRANT: Final = frozenset({"rcpt", "auth", "queue"})
"""Phases in which a casual accept would open a relay, log somebody in, or lose a message."""

_ACCEPT: Final = Action.ACCEPT  # asked for several times a message: an enum finds its members slowly
_POINTS: Final = Action.POINTS


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
        envelope._answers.update(dict.fromkeys(envelope.pending, (name, answer)))
    else:
        for recipient in envelope.pending:
            if recipient in answer:
                envelope._answers[recipient] = (name, answer[recipient])
    if envelope.pending:
        return False
    ruling.plugin = name
    return True
