"""Greylisting: ask new clients to come back in a few minutes (RFC 6647).

**What it does.** The first time a client sends from this sender to this recipient, the recipient is refused with 451. A
mail server keeps the message and tries again. After `delay` it is accepted and remembered for `remember`, which is
renewed as long as it sends. A client that comes back too early is told how long it still has to wait, and its time
goes on. A client that comes back after `retry_window` is new again.

**Why it works.** A real mail server has a queue. Many spam programs have none, because keeping state for each message
and coming back costs more than the message is worth. And a client that does come back minutes later may be on a DNS
list by then.

**What counts as a client.** The organisation's domain (`example.com` of `out7.mail.example.com`) if the client has a
forward-confirmed name, otherwise its network. Large senders retry from another address each time. The name is looked
up from the connection on; while DNS fails, the network is used.

**What it costs.** The first message between two people is delayed until the sender's queue retries: usually five to
thirty minutes. People who wait for a login code will notice. A client never has to wait again after `auto_allow_after`
delivered messages, as long as it sends something within `remember`; its recipients are then no longer recorded. All
customers of a provider may share a name or a network, so a bot among them benefits from the mail of its neighbours.

**The null reverse-path.** Many servers verify a sender by starting a bounce to it and disconnecting after RCPT. So for
`<>` no recipient is refused. All are recorded, and DATA gets the 451 if one of them is new.

**When not to use it.** Where nobody may wait, on a submission listener, or on a second MX that does not share the store
with the first. Put it after `recipients`, so that mailboxes that do not exist are never stored. In mode "observe" it
learns: clients that it has seen deliver do not have to wait later.

**On the wire.** 451 4.7.1 at RCPT, for the null reverse-path at DATA. Trusted clients and clients that may relay are
skipped. If the store cannot be read, mail passes. Addresses are stored as digests, without regard to case.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import ceil
from typing import Annotated

from pydantic import Field, model_validator

from gatepost import (
    Address,
    Answer,
    Clock,
    DNSTemporaryError,
    Duration,
    Envelope,
    Options,
    Session,
    Store,
    defer,
    hookimpl,
)
from gatepost_builtin.public_suffixes import public_suffixes

RENEWALS = 36
"""The most renewals of a client's entry within `remember`. Each one is a write to the store."""
CACHE_SIZE = 16_384
"""Size of the in-process cache of clients that are allowed until their entry must be renewed."""


class GreylistOptions(Options):
    """Which clients have to come back, and how long those that did are remembered."""

    delay: Annotated[Duration, Field(gt=0)] = 300.0
    """How long a new client has to wait. More than a few minutes stops little more spam and costs patience."""

    retry_window: Duration = 2 * 86400.0
    """A client that comes back after this time is new again. Mail servers retry for days, most often on the first."""

    remember: Duration = 36 * 86400.0
    """How long a client that came back is remembered after its last message. It may be up to 1/36 less, because the
    time is only renewed that often. 36 days are enough for a monthly newsletter."""

    ipv4_prefix: Annotated[int, Field(ge=1, le=32)] = 24
    """The prefix length of an IPv4 network that counts as one client."""

    ipv6_prefix: Annotated[int, Field(ge=1, le=128)] = 64
    """The same for IPv6."""

    by_name: bool = True
    """Identify a client with a verified name by its organisation's domain instead of its network."""

    auto_allow_after: Annotated[int, Field(ge=0)] = 5
    """The number of queued messages after which a client no longer has to wait. With 0 it always has to."""

    @model_validator(mode="after")
    def _window_is_longer_than_delay(self) -> GreylistOptions:
        if self.retry_window <= self.delay:
            raise ValueError("retry_window must be longer than delay, otherwise no client could come back in time")
        return self


@dataclass(slots=True)
class Sender:
    """A client, as all its sessions share it."""

    name: str
    """The name that identifies it: its organisation's domain, or its network."""
    key: str
    """The key of its count in the store."""
    count: float = 0.0
    """The number of queued messages, or if there were enough, the time when the entry was last renewed."""

    @classmethod
    def called(cls, name: str) -> Sender:
        """Return a client whose count has not been read yet."""
        return cls(name, _digest(name))


class Greylist:
    """Remembers triples of client, sender and recipient, and counts the messages of each client."""

    Options = GreylistOptions
    on_error = "pass"
    skip_trusted = True
    wants_vouched = True
    defers_strangers = True

    def __init__(self, options: GreylistOptions, store: Store, clock: Clock) -> None:
        self.options = options
        self.store = store
        self.clock = clock
        self._renewed_after = options.remember / RENEWALS
        self._prefixes = {4: (options.ipv4_prefix, 32), 6: (options.ipv6_prefix, 128)}
        self._suffixes = public_suffixes()
        self._sender = lru_cache(CACHE_SIZE)(Sender.called)

    @hookimpl(early=True)
    def connect(self, session: Session) -> None:
        if self.options.by_name:
            session.look_up_name()

    @hookimpl
    def rcpt(self, session: Session, envelope: Envelope, recipient: Address) -> Answer | Awaitable[Answer]:
        # An allowed client, as usual, is recognised without a coroutine.
        client: Sender | None = session.notes(self).get("client")
        if client is not None and not self._is_due(client.count):
            return None
        return self._judge(session, envelope, str(recipient))

    @hookimpl
    def data(self, envelope: Envelope) -> Answer:
        if not envelope.sender.is_null:
            return None
        return _come_back(max((wait for _, wait in self._judged(envelope)), default=0.0))

    @hookimpl
    def queued(self, session: Session, envelope: Envelope) -> Awaitable[None] | None:
        notes = session.notes(self)
        client: Sender | None = notes.get("client")
        if client is not None and "judged" not in notes and not self._is_due(client.count):
            return None
        return self._learn(session, envelope)

    async def _judge(self, session: Session, envelope: Envelope, recipient: str) -> Answer:
        """Note the recipient and its remaining wait, unless enough messages of the client were queued."""
        client = await self._client(session)
        if self._is_allowed(client):
            return None
        triple = _digest(client.name, str(envelope.sender), recipient)
        wait = await self._wait(triple)
        session.notes(self)["judged"] = True
        envelope.notes(self)[recipient] = (triple, wait)
        return None if envelope.sender.is_null else _come_back(wait)

    async def _learn(self, session: Session, envelope: Envelope) -> None:
        """Remember the triples that were judged, now that the message is queued, and count it for the client."""
        for triple, _ in self._judged(envelope):
            if self._is_due(-(await self.store.get(triple) or 0)):
                await self._know(triple)
        client = await self._client(session)
        if not self.options.auto_allow_after or not self._is_due(client.count):
            return
        if self._is_allowed(client):
            # A time takes the place of the count. It is larger than any count, so the client stays allowed.
            now = self.clock.now()
            await self.store.put(client.key, now, self.options.remember)
            client.count = now
        else:
            await self.store.incr(client.key, ttl=self.options.remember)

    def _judged(self, envelope: Envelope) -> list[tuple[str, float]]:
        """Return triple and wait of each recipient that was judged, so not of trusted ones and allowed clients."""
        notes = envelope.notes(self)
        if not notes:  # usual, because most clients are allowed: then no address needs to be written as text
            return []
        return [notes[recipient] for recipient in map(str, envelope.recipients) if recipient in notes]

    async def _wait(self, triple: str) -> float:
        """Return for how many seconds the triple still has to wait. Notes a new triple, and the end of its delay.

        A time in the future was written before the clock was set back. It starts again, or the wait might take years.
        """
        now = self.clock.now()
        first = await self.store.get(triple)
        if first is None or first > now:
            await self.store.put(triple, now, self.options.retry_window)
            return self.options.delay
        wait = float(first) + self.options.delay - now
        if wait <= 0 and first > 0:
            await self._know(triple)
        return max(wait, 0.0)

    async def _know(self, triple: str) -> None:
        """Replace the time at which the triple was first seen by the negative present time: its delay is over."""
        await self.store.put(triple, -self.clock.now(), self.options.remember)

    def _is_due(self, renewed: float) -> bool:
        """Return True when an entry renewed at that time must be renewed again. A count of messages always must.

        A count is small, and so a time in 1970. A time in the future was written before the clock was set back.
        """
        return not 0 <= self.clock.now() - renewed < self._renewed_after

    def _is_allowed(self, client: Sender) -> bool:
        """Return True when enough messages of the client were queued."""
        return 0 < self.options.auto_allow_after <= client.count

    async def _client(self, session: Session) -> Sender:
        """Return the client, which stays the same for the session, with its present count."""
        notes = session.notes(self)
        client: Sender | None = notes.get("client")
        if client is None:
            name = (self.options.by_name and await self._organisation(session)) or self._network(session)
            client = notes["client"] = self._sender(name)
        if self.options.auto_allow_after and self._is_due(client.count):
            client.count = await self.store.get(client.key) or 0.0
        return client

    async def _organisation(self, session: Session) -> str | None:
        """Return the registered domain of the verified name; None without one, and for a public suffix."""
        try:
            name = await session.verified_name()
        except DNSTemporaryError:
            return None
        return self._suffixes.privatesuffix(name) if name else None

    def _network(self, session: Session) -> str:
        """Return the network of the client. The text is part of stored keys, so it must not change."""
        address = session.ip
        version = address.version
        prefix, bits = self._prefixes[version]
        return f"IPv{version} {int(address) >> bits - prefix}/{prefix}"


def _digest(*parts: str) -> str:
    """Return a short key, so that clients cannot store long ones. No part contains a line end, so keys are unique."""
    return blake2b("\n".join(parts).casefold().encode(), digest_size=16).hexdigest()


def _come_back(wait: float) -> Answer:
    return defer(f"greylisted: please try again in {ceil(wait)} seconds", 451, "4.7.1") if wait > 0 else None
