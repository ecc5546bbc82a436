"""Responsibility: handing a message over, and the one answer that SMTP has for all its recipients.

250 only when every recipient was taken by somebody durable. Any temporary result makes it 451; those already taken are
remembered, by content hash, sender and recipient, and skipped when the client comes back. Else any permanent one makes
it 554, naming the refused. Written down before the reply, so nothing is lost and nothing delivered twice.

RFC 5321 §4.2.5, §6.1 (responsibility); RFC 1047 (a client that missed our 250 sends a new message).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from gatepost.address import Address
from gatepost.decisions import NOBODY_TOOK_IT, Action, Decision, defer, deny
from gatepost.errors import SpoolError, StoreError
from gatepost.gate.gate import Gate
from gatepost.message.message import Message
from gatepost.message.spool import BLOCK
from gatepost.replies import Reply, internal_error, queued, refusal
from gatepost.rulings import Ruling
from gatepost.session import Envelope, Session

if TYPE_CHECKING:
    from gatepost.runtime import Runtime

REMEMBER: Final = 7 * 86400.0
"""Seconds a taken recipient is remembered: longer than clients keep trying (RFC 5321 §4.5.4.1: 4 to 5 days)."""
ANY: Final = "any"
"""The mark that stands for all others. No other key is without a line end."""
LOOK_EVERY: Final = 0.01
"""Seconds for which a look that found no marks holds. What another process writes meanwhile is seen that much later:
less than a client mostly takes to come back, and less than a store in a file may lag behind."""
ALREADY_TAKEN: Final = "taken before"
"""Stands for the plugin of a recipient that was taken when the client came the first time."""

Delivered = Mapping[Address, tuple[str, Decision]]


async def hand_over(
    gate: Gate, runtime: Runtime, session: Session, envelope: Envelope, message: Message
) -> tuple[Ruling, Reply]:
    """Ask the queue phase, and make one ruling and one reply of its answers."""
    ruling = Ruling("queue")
    marks = Marks(runtime, envelope, message)
    try:
        if runtime.clock.monotonic() >= runtime.look_for_marks_at:
            await marks.recall()
        if envelope.pending and gate.chains["queue"]:
            ruling = await gate.ask("queue", (session, envelope, message), session, envelope)
        settle(ruling, envelope)
        if ruling.refuses:
            await marks.remember()
    except (SpoolError, StoreError) as error:
        runtime.recorder.event("hand_over_failed", "error", error=str(error), session=session.id)
        ruling.decide(defer("local error, try again later"), "gatepost", fault=True)
    if marks.recalled and not ruling.refuses:
        await marks.forget()
    return ruling, _reply(ruling, envelope)


def settle(ruling: Ruling, envelope: Envelope) -> None:
    """Make one decision of the answers for each recipient. Pure."""
    if ruling.fault:
        return
    answers: Delivered = envelope.answers
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


class Marks:
    """What the store remembers of recipients that were taken when others of the same message were not.

    A mark stands for content, sender and recipient. A second one, for sender and recipient alone, says whether there is
    any, so that the content is hashed only when there is something to remember or to recall. A third, for all, says
    whether there are any marks at all: mostly there are none, and nothing else is read. No mark holds a list: two
    messages of one sender may be handed over at the same time.
    """

    __slots__ = ("_envelope", "_hash", "_message", "_runtime", "_store", "recalled")

    def __init__(self, runtime: Runtime, envelope: Envelope, message: Message) -> None:
        self._runtime = runtime
        self._store = runtime.marks
        self._envelope = envelope
        self._message = message
        self._hash = ""
        self.recalled: tuple[Address, ...] = ()
        """The recipients that were taken before."""

    async def recall(self) -> None:
        """Answer for the recipients that were taken before."""
        now = self._runtime.clock.monotonic()
        if not await self._store.get(ANY):
            self._runtime.look_for_marks_at = now + LOOK_EVERY
            return
        for recipient in self._envelope.recipients:
            if await self._store.get(self._key(recipient)) and await self._store.get(await self._mark(recipient)):
                self._envelope.answers[recipient] = (ALREADY_TAKEN, Decision(Action.ACCEPT))
                self.recalled += (recipient,)

    async def remember(self) -> None:
        """Write down, durably, who was taken although others were not."""
        keys: list[str] = []
        for recipient, (plugin, decision) in self._envelope.answers.items():
            if not decision.refuses and plugin != ALREADY_TAKEN:
                keys += (await self._mark(recipient), self._key(recipient))
        if keys:
            await asyncio.gather(*(self._store.put(key, True, REMEMBER, durable=True) for key in (*keys, ANY)))
            self._runtime.look_for_marks_at = 0.0

    async def forget(self) -> None:
        """All are taken: the same content, should it come again, is a new message."""
        try:
            for recipient in self.recalled:
                await self._store.delete(await self._mark(recipient))
        except StoreError as error:  # they are taken all the same
            self._runtime.recorder.event("store_failed", "warning", error=str(error))

    def _key(self, recipient: Address) -> str:
        return f"{self._envelope.sender}\n{recipient}"

    async def _mark(self, recipient: Address) -> str:
        return f"{await self._content_hash()}\n{self._key(recipient)}"

    async def _content_hash(self) -> str:
        if not self._hash:  # in a thread: a large message would hold up everybody else
            self._hash = await asyncio.to_thread(_hash, self._message)
        return self._hash


def _hash(message: Message) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with message.open() as content:
        while block := content.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
