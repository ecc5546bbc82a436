"""The handover of a message: ask the delivery plugins, and make one reply of their answers for all its recipients.

SMTP has one reply to the final dot. It is 250 only when responsibility was taken for every recipient, and permanent
only when all are refused for good. Otherwise it is 451, and two things are remembered (``taken``) before it is spoken:
the recipients that were taken, which are skipped when the client comes back, so that nothing is delivered twice; and
those whose refusal is about themselves, such as a full mailbox. These come alone the next time and get their own
answer: one full mailbox must not have the message bounced for all. It is forgotten when all have their final answer.

RFC 5321 §4.2.5, §6.1 (responsibility); RFC 1047 (a client that missed our 250 sends a new message).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gatepost import events
from gatepost.address import Address
from gatepost.conversation.taken import ALREADY_TAKEN, Taken
from gatepost.decisions import NOBODY_TOOK_IT, Action, Decision, defer, deny
from gatepost.errors import SpoolError
from gatepost.gate import Gate
from gatepost.message import Message
from gatepost.replies import Reply, internal_error, queued, refusal
from gatepost.rulings import Ruling
from gatepost.session import Envelope, Session

if TYPE_CHECKING:
    from gatepost.runtime import Runtime


Delivered = Mapping[Address, tuple[str, Decision]]
"""By recipient: the plugin that answered for it, and its answer."""


async def hand_over(
    gate: Gate, runtime: Runtime, session: Session, envelope: Envelope, message: Message
) -> tuple[Ruling, Reply]:
    """Ask the queue phase, and make one ruling and one reply of its answers."""
    ruling = Ruling("queue")  # the gate's ruling takes its place, unless nobody has to be asked
    taken = Taken(runtime, envelope, message)
    try:
        if runtime.clock.monotonic() >= runtime.none_taken_until:
            await taken.recall()
        if envelope.pending and gate.chains["queue"]:
            ruling = await _ask(gate, session, envelope, message, taken)
        if not ruling.fault:
            ruling.decide(*decide_for_all(envelope))
        if not (ruling.refuses and not ruling.refusal.permanent):
            await taken.forget()
        elif not await taken.remember(set_apart(envelope)) and not ruling.fault:
            # Before the reply: a client that gets its 451 comes back, and then the recipients must be known. Without
            # the store, those that were taken would get the message again at each attempt.
            ruling.decide(*decide_for_all(envelope, once=True))
    except SpoolError as error:
        runtime.recorder.event(events.HAND_OVER_FAILED, error=str(error), session=session.id)
        ruling.decide(defer("local error, try again later"), "gatepost", fault=True)
    if ruling.fault:
        return ruling, internal_error(ruling.identify())
    if ruling.refuses:
        return ruling, refusal("queue", ruling.refusal, ruling.identify())
    text = ruling.decision.text if ruling.decision else ""
    return ruling, queued(f"queued as {envelope._id}: {text}" if text else f"queued as {envelope._id}")


async def _ask(gate: Gate, session: Session, envelope: Envelope, message: Message, taken: Taken) -> Ruling:
    """Ask the queue phase. With several recipients, those that a plugin notes as taken are written down meanwhile."""
    if len(envelope._recipients) == 1:
        return await gate.ask("queue", (session, envelope, message), session, envelope)
    envelope._note_taken = taken.note
    try:
        return await gate.ask("queue", (session, envelope, message), session, envelope)
    finally:
        await taken.end_notes()


def decide_for_all(envelope: Envelope, once: bool = False) -> tuple[Decision, str]:
    """Make one decision of the answers for each recipient; return it with the plugin that it is due to. Pure.

    With ``once`` the client is not asked to come back because of permanent refusals: nothing could be remembered.
    """
    answers: Delivered = envelope._answers
    refused = {recipient: said for recipient, said in answers.items() if said[1].refuses}
    pending = envelope.pending
    if answers and not refused and not pending:
        return _accept_all(list(answers.values()))
    # Temporary results go before permanent ones, because the client tries again after them: the recipients that could
    # still be taken are not lost, and those that are refused for good hear it the next time. A recipient for which
    # nobody answered is a temporary result too.
    temporary = {recipient: said for recipient, said in refused.items() if not said[1].permanent}
    if not temporary and (pending or not answers):
        return NOBODY_TOOK_IT, "gatepost"
    chosen = temporary or refused
    plugin, decision = next(iter(chosen.values()))
    if len(refused) == len(envelope._recipients) and len({str(said[1]) for said in refused.values()}) == 1:
        return decision, plugin  # the same refusal for all: it stands as the plugin gave it
    if temporary or not (once or len(refused) == len(envelope._recipients)):
        return defer(f"some recipients are to be tried again: {decision.text}", disconnect=decision.disconnect), plugin
    named = "; ".join(f"<{recipient}>: {said.text}" for recipient, (_, said) in refused.items())
    return deny(f"refused for {named}", 554, decision.status), plugin


def set_apart(envelope: Envelope) -> list[Address]:
    """Return the recipients that are to come alone the next time, since their refusal is not that of the others. Pure.

    A temporary refusal counts only if it is about the mailbox: the next hop's loss would set all the others apart.
    """
    answers: Delivered = envelope._answers
    decisions = [decision for _, decision in answers.values()]
    if not any(decision.permanent for decision in decisions) and not any(map(_is_about_mailbox, decisions)):
        return []
    some_taken = not all(decision.refuses for decision in decisions)
    if not some_taken and all(decision.permanent for decision in decisions):
        return []
    return [
        recipient
        for recipient, (_, decision) in answers.items()
        if decision.permanent or (some_taken and _is_about_mailbox(decision))
    ]


def _is_about_mailbox(decision: Decision) -> bool:
    """Return True for a refusal of an address or a mailbox (RFC 3463 §3.2, §3.3; without a status RFC 5321 §4.2.3)."""
    if not decision.refuses:
        return False
    status = decision.status or ""
    return status[1:4] in {".1.", ".2."} or (status[1:] in {"", ".0.0"} and decision.code in {450, 452})


def _accept_all(accepted: list[tuple[str, Decision]]) -> tuple[Decision, str]:
    """Return one acceptance with the texts of all, and the first plugin that took a recipient this time."""
    plugin, decision = accepted[0]
    if len(accepted) > 1:
        plugin = next((plugin for plugin, _ in accepted if plugin != ALREADY_TAKEN), ALREADY_TAKEN)
        if any(other != decision for _, other in accepted):
            texts = dict.fromkeys(other.text for _, other in accepted if other.text)
            decision = Decision(Action.ACCEPT, "; ".join(texts))
    return decision, plugin
