"""Recipients that were taken when others of the same message were not: remembered, and skipped the next time.

RFC 1047 (a client that missed our 250 sends a new message).
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final

from gatepost import events
from gatepost.address import Address
from gatepost.decisions import Action, Decision
from gatepost.errors import StoreError
from gatepost.message import BLOCK, Message
from gatepost.session import Envelope

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


class Taken:
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
            self._runtime.no_marks_until = now + LOOK_EVERY
            return
        for recipient in self._envelope.recipients:
            if await self._store.get(self._key(recipient)) and await self._store.get(await self._mark(recipient)):
                self._envelope._answers[recipient] = (ALREADY_TAKEN, Decision(Action.ACCEPT))
                self.recalled += (recipient,)

    async def remember(self) -> None:
        """Write down, durably, who was taken although others were not."""
        keys: list[str] = []
        for recipient, (plugin, decision) in self._envelope._answers.items():
            if not decision.refuses and plugin != ALREADY_TAKEN:
                keys += (await self._mark(recipient), self._key(recipient))
        if keys:
            await asyncio.gather(*(self._store.put(key, True, REMEMBER, durable=True) for key in (*keys, ANY)))
            self._runtime.no_marks_until = 0.0

    async def forget(self) -> None:
        """All are taken: the same content, should it come again, is a new message."""
        try:
            for recipient in self.recalled:
                await self._store.delete(await self._mark(recipient))
        except StoreError as error:  # they are taken all the same
            self._runtime.recorder.event(events.STORE_FAILED, error=str(error))

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
