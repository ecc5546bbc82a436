"""How answers become a ruling. Pure: no clock, no I/O, no plugins called.

The rules of composition: the first deny or defer decides; an accept decides too, except at rcpt, where it only vouches;
points are evidence in a scope (see ``score``); an accept at rcpt, auth or queue needs a grant; at queue an answer is
for the recipients that have none yet; plugins with ``skip_trusted`` are not asked about trusted clients, transactions
and recipients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gatepost.address import Address
from gatepost.decisions import Action, Decision, accept
from gatepost.gate.instance import Instance
from gatepost.gate.score import ledger_of
from gatepost.hookspecs import ALL_RUN
from gatepost.rulings import Ruling, Said
from gatepost.session import Envelope, Session

NEED_GRANT: Final = frozenset({"rcpt", "auth", "queue"})
"""Phases in which a casual accept would open a relay, log somebody in, or lose a message."""

_ACCEPT: Final = Action.ACCEPT  # read several times per message; attribute access on an Enum class is slow
_POINTS: Final = Action.POINTS


def is_trusted(session: Session, envelope: Envelope | None, recipient: Address | None) -> bool:
    """Return True when plugins with ``skip_trusted`` are skipped: for this client, transaction or ``recipient``."""
    if session._trusted or session._may_relay:  # ``session.privileged`` without a call, for each hook that asks
        return True
    return envelope is not None and envelope.trusted_for(recipient)


def fault_of(phase: str, instance: Instance, answer: object) -> str | None:
    """Return why ``phase`` does not take ``answer`` from this plugin; None when it does."""
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
        return "answered for something that is not a recipient"
    if any(isinstance(answer, Decision) and answer.action is _POINTS for answer in answers.values()):
        return "answered for a recipient with points"
    if not all(isinstance(answer, Decision) for answer in answers.values()):
        return "answered for a recipient with something that is not a decision"
    faults = (fault_of("queue", instance, answer) for answer in answers.values())
    return next((fault for fault in faults if fault is not None), None)


def take(ruling: Ruling, name: str, answer: Any, seconds: float, session: Session, envelope: Envelope | None) -> bool:
    """Take the answer of plugin ``name``, and what it did besides, into ``ruling``. Return True when it decides."""
    # Taken away from the session, so that the acts of this plugin are not recorded for the next one.
    did, session._did = session._did, ()
    if envelope is not None and envelope._did:
        did, envelope._did = (*did, *envelope._did), ()
    if answer is None and not did:
        ruling.trace.append((name, seconds))
        return False
    ruling.trace.append(said_by(name, answer, seconds, did=did))
    return answer is not None and ruling.phase not in ALL_RUN and _compose(ruling, name, answer, session, envelope)


def said_by(
    name: str,
    answer: Any,
    seconds: float,
    *,
    did: tuple[str, ...] = (),
    observed: bool = False,
    withheld: tuple[str, ...] = (),
) -> Said:
    """Return, for the record, what plugin ``name`` said and did."""
    decision: Decision | None = None
    answers: tuple[tuple[str, Decision], ...] = ()
    if isinstance(answer, Decision):
        decision = answer
    elif isinstance(answer, str):
        decision = accept(answer)
    elif isinstance(answer, Mapping):
        answers = tuple([(str(recipient), decision) for recipient, decision in answer.items()])
    return Said(name, decision, seconds, observed=observed, withheld=withheld, did=did, answers=answers)


def _compose(ruling: Ruling, name: str, answer: Any, session: Session, envelope: Envelope | None) -> bool:
    """Apply the rules of composition to an answer. Return True when it decides, so that no later plugin is asked."""
    if isinstance(answer, str):
        ruling.decide(Decision(Action.ACCEPT, answer), name)
        return True
    if ruling.phase == "queue" and envelope is not None:
        return _compose_delivery(ruling, name, answer, envelope)
    if answer.action is _POINTS:
        # By plugin and reason, so that the same reason replaces its number instead of adding to it.
        if answer.number:
            ledger_of(ruling, session, envelope)[name, answer.text] = answer.number
        return False
    # In qpsmtpd an early OK hides every later check, so an allow list opens the relay. Here an accept at rcpt only
    # vouches, and the plugins that may refuse the recipient are asked as well.
    if answer.action is _ACCEPT and ruling.phase == "rcpt":
        ruling.vouched = True
        return False
    ruling.decide(answer, name)
    return True


def _compose_delivery(ruling: Ruling, name: str, answer: Any, envelope: Envelope) -> bool:
    """Keep the answer for the recipients that have none yet. Return True when all have one."""
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
    # Only named here: ``conversation.handover`` makes one decision of the answers for all recipients.
    ruling.plugin = name
    return True
