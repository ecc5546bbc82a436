"""Recipients that were taken when others of the same message were not: they are remembered, and skipped next time.

A client that is told 451 sends the message again, to all its recipients. Those that a plugin has already taken must not
get it twice, and the store remembers them. RFC 5321 §4.5.4.1 (retries), RFC 1047 (duplicates).
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
"""Seconds for which a taken recipient is remembered: clients keep trying for 4 to 5 days (RFC 5321 §4.5.4.1)."""
ANY: Final = "any"
"""The key of the entry that stands for all others. Every other key contains a line end."""
LOOK_EVERY: Final = 0.01
"""Seconds for which a look that found no entries holds. One that another process writes is seen that much later:
clients mostly take longer to come back, and a store in a file may lag behind longer."""
ALREADY_TAKEN: Final = "taken before"
"""The name in place of a plugin's for a recipient that was taken at an earlier attempt."""


class Taken:
    """The recipients of one message that were taken at an earlier attempt.

    Each recipient that was taken, when others were not, has three entries in the store, under these keys:

    1. content hash, sender and recipient: the one that counts. Hashing is slow, so two cheaper ones are read before it;
    2. sender and recipient: without it there is no entry of the first kind, whatever the content;
    3. ``ANY``: without it there are no entries at all. That is the usual case, in which nothing else is read; and for
       ``LOOK_EVERY`` not even this one (``runtime.none_taken_until``).

    The second and the third are hints, and are left to expire. No entry holds a list, which two messages of one sender,
    handed over at the same time, would overwrite for each other.
    """

    __slots__ = ("_envelope", "_hash", "_message", "_runtime", "_store", "recalled")

    def __init__(self, runtime: Runtime, envelope: Envelope, message: Message) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._envelope = envelope
        self._message = message
        self._hash = ""
        self.recalled: tuple[Address, ...] = ()
        """The recipients that were taken at an earlier attempt."""

    async def recall(self) -> None:
        """Find the recipients that were taken at an earlier attempt, and answer for them in the envelope."""
        now = self._runtime.clock.monotonic()
        if not await self._store.get(ANY):
            self._runtime.none_taken_until = now + LOOK_EVERY
            return
        for recipient in self._envelope.recipients:
            if await self._store.get(self._hint(recipient)) and await self._store.get(await self._key(recipient)):
                self._envelope._answers[recipient] = (ALREADY_TAKEN, Decision(Action.ACCEPT))
                self.recalled += (recipient,)

    async def remember(self) -> None:
        """Write down, durably, the recipients that were taken at this attempt although others were not."""
        keys: list[str] = []
        for recipient, (plugin, decision) in self._envelope._answers.items():
            if not decision.refuses and plugin != ALREADY_TAKEN:
                keys += (await self._key(recipient), self._hint(recipient))
        if keys:
            await asyncio.gather(*(self._store.put(key, True, REMEMBER, durable=True) for key in (*keys, ANY)))
            self._runtime.none_taken_until = 0.0  # the client may come back sooner than a look holds

    async def forget(self) -> None:
        """Delete the entries, now that all recipients are taken: the same content is then a new message."""
        try:
            for recipient in self.recalled:
                await self._store.delete(await self._key(recipient))
        except StoreError as error:  # all recipients are taken: the client gets its 250 all the same
            self._runtime.recorder.event(events.STORE_FAILED, error=str(error))

    def _hint(self, recipient: Address) -> str:
        return f"{self._envelope.sender}\n{recipient}"

    async def _key(self, recipient: Address) -> str:
        if not self._hash:  # in a thread: hashing a large message would hold up all other clients
            self._hash = await asyncio.to_thread(_hash, self._message)
        return f"{self._hash}\n{self._hint(recipient)}"


def _hash(message: Message) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with message.open() as content:
        while block := content.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
