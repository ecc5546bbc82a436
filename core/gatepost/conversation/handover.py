"""Responsibility: handing a message over, and the one answer that SMTP has for all its recipients.

250 only when every recipient was taken by somebody durable. Any temporary result makes it 451; those already taken are
remembered, by content hash, sender and recipient, and skipped when the client comes back. Else any permanent one makes
it 554, naming the refused. Written down before the reply, so nothing is lost and nothing delivered twice.

RFC 5321 §4.2.5, §6.1 (responsibility); RFC 1047 (a client that missed our 250 sends a new message).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gatepost import events
from gatepost.address import Address
from gatepost.conversation.taken import ALREADY_TAKEN, Taken
from gatepost.decisions import NOBODY_TOOK_IT, Action, Decision, defer, deny
from gatepost.errors import SpoolError, StoreError
from gatepost.gate import Gate
from gatepost.message import Message
from gatepost.replies import Reply, internal_error, queued, refusal
from gatepost.rulings import Ruling
from gatepost.session import Envelope, Session

if TYPE_CHECKING:
    from gatepost.runtime import Runtime


Delivered = Mapping[Address, tuple[str, Decision]]


async def hand_over(
    gate: Gate, runtime: Runtime, session: Session, envelope: Envelope, message: Message
) -> tuple[Ruling, Reply]:
    """Ask the queue phase, and make one ruling and one reply of its answers."""
    ruling = Ruling("queue")
    marks = Taken(runtime, envelope, message)
    try:
        if runtime.clock.monotonic() >= runtime.look_for_marks_at:
            await marks.recall()
        if envelope.pending and gate.chains["queue"]:
            ruling = await gate.ask("queue", (session, envelope, message), session, envelope)
        settle(ruling, envelope)
        if ruling.refuses:
            await marks.remember()
    except (SpoolError, StoreError) as error:
        runtime.recorder.event(events.HAND_OVER_FAILED, error=str(error), session=session.id)
        ruling.decide(defer("local error, try again later"), "gatepost", fault=True)
    if marks.recalled and not ruling.refuses:
        await marks.forget()
    return ruling, _reply(ruling, envelope)


def settle(ruling: Ruling, envelope: Envelope) -> None:
    """Make one decision of the answers for each recipient. Pure."""
    if ruling.fault:
        return
    answers: Delivered = envelope._answers
    refused = {recipient: said for recipient, said in answers.items() if said[1].refuses}
    pending = envelope.pending
    if answers and not refused and not pending:
        ruling.decide(*_together(list(answers.values())))
        return
    later = {recipient: said for recipient, said in refused.items() if not said[1].permanent}
    if not later and (pending or not answers):
        ruling.decide(NOBODY_TOOK_IT, "gatepost")
        return
    chosen = later or refused
    plugin, decision = next(iter(chosen.values()))
    alone = len(refused) == len(envelope.recipients) and len({str(said[1]) for said in refused.values()}) == 1
    ruling.decide(decision if alone else _mixed(decision, chosen), plugin)


def _together(accepted: list[tuple[str, Decision]]) -> tuple[Decision, str]:
    """One acceptance of several, with the text of each, and the plugin that was the first to take a recipient."""
    plugin, decision = accepted[0]
    if len(accepted) > 1:
        plugin = next((plugin for plugin, _ in accepted if plugin != ALREADY_TAKEN), ALREADY_TAKEN)
        if any(other != decision for _, other in accepted):
            texts = dict.fromkeys(other.text for _, other in accepted if other.text)
            decision = Decision(Action.ACCEPT, "; ".join(texts))
    return decision, plugin


def _mixed(decision: Decision, refused: Delivered) -> Decision:
    """One refusal for recipients that met different fates. A permanent one names whom it is about."""
    if not decision.permanent:
        return defer(f"some recipients are to be tried again: {decision.text}", disconnect=decision.disconnect)
    named = "; ".join(f"<{recipient}>: {said.text}" for recipient, (_, said) in refused.items())
    return deny(f"refused for {named}", 554, decision.status)


def _reply(ruling: Ruling, envelope: Envelope) -> Reply:
    assert ruling.decision is not None
    if ruling.fault:
        return internal_error(ruling.identify())
    if ruling.refuses:
        return refusal("queue", ruling.decision, ruling.identify())
    text = ruling.decision.text
    return queued(f"queued as {envelope.id}" + (f": {text}" if text else ""))
