"""Recipients whose answers differ: those that were taken are remembered and skipped next time, and some come alone.

A client that is told 451 sends the message again, to all its recipients. Those that a plugin has already taken must not
get it twice, and the store remembers them. RFC 5321 §4.5.4.1 (retries), RFC 1047 (duplicates).

Recipients that were refused for reasons of their own are remembered too, with the sender. Such a refusal is never
repeated from memory: the next message may be another one. The recipient only has to come in a transaction of its own,
where the reply to the final dot is its own too; SMTP says so with 452 4.5.3 (RFC 5321 §4.5.3.1.10).

Without the store mail passes all the same: the worst is that somebody gets a message twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gatepost import events
from gatepost.address import Address
from gatepost.decisions import Action, Decision
from gatepost.errors import PluginError, SpoolError, StoreError
from gatepost.message import BLOCK, FIELD, Message
from gatepost.session import Envelope

if TYPE_CHECKING:
    from gatepost.runtime import Runtime
    from gatepost.services.clock import Timer

REMEMBER: Final = 7 * 86400.0
"""Seconds for which a taken recipient is remembered: clients keep trying for 4 to 5 days (RFC 5321 §4.5.4.1)."""
REMEMBER_UNNAMED: Final = 86400.0
"""The same for a message without a Message-ID. Only its whole content tells such a message from a new one, and programs
that send without a Message-ID, such as cron jobs, do send the same content again the next day."""
IDENTIFYING: Final = frozenset({b"message-id", b"from", b"date"})
"""The fields that identify a message which has a Message-ID, together with its body. The others may differ between two
attempts: relays of one provider add Received fields of their own, and Exim signs each attempt anew."""
ANY: Final = "any"
"""The key of the entry that stands for all others. Every other key contains a line end."""
LOOK_EVERY: Final = 0.01
"""Seconds for which a look that found no entries holds. One that another process writes is seen that much later:
clients mostly take longer to come back, and a store in a file may lag behind longer."""
WRITE_AFTER: Final = 0.1
"""Seconds after which a recipient is written down that was taken while answers for others are still missing. Most
messages have all their answers by then, and cost the store nothing."""
ALREADY_TAKEN: Final = "taken before"
"""The name in place of a plugin's for a recipient that was taken at an earlier attempt."""


class Taken:
    """The recipients of one message that were taken at an earlier attempt.

    Each recipient that was taken, when others were not, has three entries in the store, under these keys:

    1. identity of the message, sender and recipient: the one that counts. Finding the identity is slow, since the whole
       message is hashed, so two cheaper ones are read before it;
    2. sender and recipient: without it there is no entry of the first kind, whatever the content;
    3. ``ANY``: without it there are no entries at all. That is the usual case, in which nothing else is read; and for
       ``LOOK_EVERY`` not even this one (``runtime.none_taken_until``).

    The second and the third are hints, and are left to expire. A recipient that is to come alone has an entry under
    ``_alone``, which is read at RCPT, without the message. No entry holds a list, which two messages of one sender,
    handed over at the same time, would overwrite for each other.
    """

    __slots__ = (
        "_alone",
        "_envelope",
        "_identity",
        "_message",
        "_noted",
        "_remember",
        "_runtime",
        "_store",
        "_timer",
        "_writing",
        "_written",
        "recalled",
    )

    def __init__(self, runtime: Runtime, envelope: Envelope, message: Message) -> None:
        self._runtime = runtime
        self._store = runtime.store
        self._envelope = envelope
        self._message = message
        self._identity = ""
        self._remember = REMEMBER
        self._alone: list[str] = []
        """The keys of entries that had a recipient come alone."""
        self._noted: list[Address] = []
        """Recipients that a plugin has noted as taken and that are not written down yet."""
        self._written: set[Address] = set()
        """Recipients taken at this attempt that are written down."""
        self._timer: Timer | None = None
        self._writing: asyncio.Task[bool] | None = None
        self.recalled: tuple[Address, ...] = ()
        """The recipients that were taken at an earlier attempt."""

    async def recall(self) -> None:
        """Find the recipients that were taken at an earlier attempt, and answer for them in the envelope."""
        now = self._runtime.clock.monotonic()
        try:
            if not await self._store.get(ANY):
                self._runtime.none_taken_until = now + LOOK_EVERY
                return
            for recipient in self._envelope._recipients:
                if await self._store.get(_hint(self._envelope, recipient)) and await self._store.get(
                    await self._key(recipient)
                ):
                    self._envelope._answers[recipient] = (ALREADY_TAKEN, Decision(Action.ACCEPT))
                    self.recalled += (recipient,)
                if await self._store.get(alone := _alone(self._envelope, recipient)):
                    self._alone.append(alone)
        except StoreError as error:
            self._failed(error)

    def note(self, recipient: Address) -> None:
        """Write ``recipient`` down soon: a plugin says that it has the message, and goes on with the others."""
        commitment = self._envelope._commitment
        if commitment is None or not commitment.may_take:
            raise PluginError("noted a recipient as taken without the grant")
        self._noted.append(recipient)
        if self._timer is None:
            self._timer = self._runtime.clock.call_later(WRITE_AFTER, self._write_noted)

    def _write_noted(self) -> None:
        self._timer = None
        if self._writing is not None and not self._writing.done():
            self._timer = self._runtime.clock.call_later(WRITE_AFTER, self._write_noted)
            return
        noted, self._noted = self._noted, []
        self._writing = self._runtime.spawn(self._write(noted, ()))

    async def end_notes(self) -> None:
        """Take no more notes, and wait until those under way are written."""
        self._envelope._note_taken = None
        if self._timer is not None:
            self._timer.cancel()
        if self._writing is not None:
            await self._writing

    async def remember(self, apart: Sequence[Address]) -> bool:
        """Write down, durably, the recipients that were taken at this attempt, and those ``apart``, to come alone.

        Returns False when that is not possible.
        """
        taken = dict.fromkeys(self._noted)  # a set that keeps their order
        for recipient, (plugin, decision) in self._envelope._answers.items():
            if not decision.refuses and plugin != ALREADY_TAKEN:
                taken[recipient] = None
        unwritten = [recipient for recipient in taken if recipient not in self._written]
        return await self._write(unwritten, apart) if unwritten or apart else True

    async def _write(self, taken: Sequence[Address], apart: Sequence[Address]) -> bool:
        """Write entries, durably. Return False when that is not possible."""
        try:
            keys: list[str] = []
            for recipient in taken:
                keys += (await self._key(recipient), _hint(self._envelope, recipient))
            put = self._store.put
            await asyncio.gather(
                *(put(key, True, self._remember, durable=True) for key in keys),
                *(put(_alone(self._envelope, recipient), True, REMEMBER, durable=True) for recipient in apart),
                self._store.put(ANY, True, REMEMBER, durable=True),  # it stands for entries of other messages too
            )
        except (SpoolError, StoreError) as error:
            self._failed(error)
            return False
        self._written.update(taken)
        self._runtime.none_taken_until = 0.0  # the client may come back sooner than a look holds
        return True

    async def forget(self) -> None:
        """Delete the entries, now that all recipients have their answer: the same content is then a new message."""
        try:
            for recipient in (*self.recalled, *self._written):
                await self._store.delete(await self._key(recipient))
            for key in self._alone:
                await self._store.delete(key)
        except (SpoolError, StoreError) as error:  # all have their answer: the client gets it all the same
            self._runtime.recorder.event(events.STORE_FAILED, error=str(error))

    def _failed(self, error: Exception) -> None:
        self._runtime.recorder.event(events.MARKS_FAILED, error=str(error), id=self._envelope._id)

    async def _key(self, recipient: Address) -> str:
        if not self._identity:  # in a thread: hashing a large message would hold up all other clients
            self._identity, is_named = await asyncio.to_thread(_identify, self._message)
            self._remember = REMEMBER if is_named else REMEMBER_UNNAMED
        return f"{self._identity}\n{_hint(self._envelope, recipient)}"


async def comes_alone(runtime: Runtime, envelope: Envelope, recipient: Address) -> bool:
    """Return True when ``recipient`` cannot join those of ``envelope``: it, or the first one of them, comes alone."""
    first = envelope._recipients[0]
    now = runtime.clock.monotonic()
    if now < runtime.none_taken_until or recipient == first:
        return False
    try:
        if await runtime.store.get(ANY):
            return bool(
                await runtime.store.get(_alone(envelope, recipient)) or await runtime.store.get(_alone(envelope, first))
            )
        runtime.none_taken_until = now + LOOK_EVERY
    except StoreError as error:  # the reply to the message is then one for all again
        runtime.recorder.event(events.MARKS_FAILED, error=str(error), id=envelope._id)
    return False


def _hint(envelope: Envelope, recipient: Address) -> str:
    return f"{envelope._sender}\n{recipient}"


def _alone(envelope: Envelope, recipient: Address) -> str:
    return f"alone\n{_hint(envelope, recipient)}"


def _identify(message: Message) -> tuple[str, bool]:
    """Return a hash of what the client sent that is the same at each attempt, and whether it has a Message-ID.

    Neither our own fields nor the edits of plugins are part of it.
    """
    digest = hashlib.blake2b(digest_size=16)
    with message.open() as content:
        head = content.read(message._header_size)
        fields = [(found[1].lower(), b" ".join(found[2].split())) for found in FIELD.finditer(head)]
        is_named = any(name == b"message-id" and value for name, value in fields)
        if is_named:
            head = b"".join(b"%b:%b\n" % field for field in fields if field[0] in IDENTIFYING)
        digest.update(b"%d\n%b\n" % (is_named, head))
        while block := content.read(BLOCK):
            digest.update(block)
    return digest.hexdigest(), is_named
