"""Greylisting: ask who is new to come back in a few minutes (RFC 6647).

**What it does.** The first time a client sends from this sender to this recipient, the recipient is answered 451. A
mail server keeps the message and tries again; after `delay` it is let in, and is remembered for `remember`, renewed
as it goes on sending. What comes back too early is told how long it still has to wait, and its time runs on;
what comes back after `retry_window` is new again.

**Why it works.** A real mail server has a queue. Much of what sends spam has none: to keep state for each message and
come back costs more than the message is worth. And what does come back minutes later may be on a DNS list by then.

**Who is "a client".** The organisation's domain (`example.com` of `out7.mail.example.com`) if the client has a name
that is confirmed forward and backward, else its network. Large senders retry from another address each time. The name
is looked up from the connection on; when it cannot be known at the moment, the network stands in.

**What it costs.** The first message between two people waits as long as the sender's queue makes it: mostly five to
thirty minutes. Those who wait for a code to log in notice. A client whose messages were delivered `auto_allow_after`
times is never asked to wait again, as long as it sends something within `remember`; to whom it sends is then not noted
any more. All customers of a provider may share one name or network, so a bot among them profits from what its
neighbours sent.

**The null reverse-path.** Many servers check a sender by starting a bounce to it and leaving after RCPT. So for `<>` no
recipient is refused; all are noted, and the answer 451 comes at DATA if one of them is new.

**When not to use it.** Where nobody may wait, on a submission listener, or on a second MX that does not share the store
with the first. Put it behind `recipients`, so that mailboxes that do not exist never get into its memory. In mode
"observe" it learns: whom it has seen to deliver does not have to wait later.

**On the wire.** 451 4.7.1 at RCPT, for the null reverse-path at DATA. Trusted clients and those that may relay are not
asked. If the memory cannot be read, mail passes. Addresses are kept as digests, without regard to case.
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
"""How many times in `remember` what is known of a client that keeps sending is written anew."""
AT_HAND = 16_384
"""Clients, the last ones that came, of which it is at hand that they are allowed until that is to be renewed."""


class GreylistOptions(Options):
    """Whom to ask to come back, and how long to remember who did."""

    delay: Annotated[Duration, Field(gt=0)] = 300.0
    """How long a new sender has to wait. More than a few minutes catches little more and costs patience."""

    retry_window: Duration = 2 * 86400.0
    """Who comes back later than this is new again. Mail servers try for days, and most often on the first."""

    remember: Duration = 36 * 86400.0
    """How long a sender that came back is known after its last message, at least to 35 parts of 36: to save writing,
    it begins anew no more often than that. A monthly newsletter fits into 36 days."""

    ipv4_prefix: Annotated[int, Field(ge=1, le=32)] = 24
    """How many bits of an IPv4 address make up the network that counts as one client."""

    ipv6_prefix: Annotated[int, Field(ge=1, le=128)] = 64
    """The same for IPv6."""

    by_name: bool = True
    """Whether a client with a verified name is known by its organisation's domain instead of its network."""

    auto_allow_after: Annotated[int, Field(ge=0)] = 5
    """After this many queued messages a client is not asked to wait any more; 0: it always is."""

    @model_validator(mode="after")
    def _window_is_longer_than_delay(self) -> GreylistOptions:
        if self.retry_window <= self.delay:
            raise ValueError("retry_window must be longer than delay, or nobody could ever come back in time")
        return self


@dataclass(slots=True)
class Sender:
    """What is known of a client, the same in all its sessions."""

    name: str
    """Under which it is known: its organisation's domain, or its network."""
    key: str
    """Under which its messages are counted."""
    count: float = 0.0
    """How many of them were queued, and once there were enough, when that was last renewed."""

    @classmethod
    def called(cls, name: str) -> Sender:
        """One of which nothing has been read yet."""
        return cls(name, _digest(name))


class Greylist:
    """Knows triples of client, sender and recipient, and counts the messages of each client."""

    Options = GreylistOptions
    on_error = "pass"
    skip_trusted = True
    wants_vouched = True

    def __init__(self, options: GreylistOptions, store: Store, clock: Clock) -> None:
        self.options = options
        self.store = store
        self.clock = clock
        self._renewed_after = options.remember / RENEWALS
        self._prefixes = {4: (options.ipv4_prefix, 32), 6: (options.ipv6_prefix, 128)}
        self._suffixes = public_suffixes()
        self._sender = lru_cache(AT_HAND)(Sender.called)

    @hookimpl
    def connect(self, session: Session) -> None:
        if self.options.by_name:
            session.look_up_name()

    @hookimpl
    def rcpt(self, session: Session, envelope: Envelope, recipient: Address) -> Answer | Awaitable[Answer]:
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
        """Note the recipient, and how long it still has to wait, unless enough messages of the client were queued."""
        client = await self._client(session)
        if self._is_allowed(client):
            return None
        triple = _digest(client.name, str(envelope.sender), recipient)
        wait = await self._wait(triple)
        session.notes(self)["judged"] = True
        envelope.notes(self)[recipient] = (triple, wait)
        return None if envelope.sender.is_null else _come_back(wait)

    async def _learn(self, session: Session, envelope: Envelope) -> None:
        """Know who was judged, now that the message is queued, and count it for its client."""
        for triple, _ in self._judged(envelope):
            if self._is_due(-(await self.store.get(triple) or 0)):
                await self._know(triple)
        client = await self._client(session)
        if self.options.auto_allow_after and self._is_due(client.count):
            await self._count(client)

    async def _count(self, client: Sender) -> None:
        """Count one more message of the client, or renew what is known of it once there were enough."""
        if self._is_allowed(client):
            now = self.clock.now()
            await self.store.put(client.key, now, self.options.remember)
            client.count = now
        else:
            await self.store.incr(client.key, ttl=self.options.remember)

    def _judged(self, envelope: Envelope) -> list[tuple[str, float]]:
        """The triple and the wait of each recipient, but for those of allowed clients and trusted ones."""
        notes = envelope.notes(self)
        return (
            [] if not notes else [notes[recipient] for recipient in map(str, envelope.recipients) if recipient in notes]
        )

    async def _wait(self, triple: str) -> float:
        """How many seconds the triple still has to wait. Notes it when it is new, and when its time is over.

        A time in the future is that of a clock that was set back: it begins anew, or the wait could take years.
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
        """Keep the present in place of the time at which the triple was first seen, negative: its delay is over."""
        await self.store.put(triple, -self.clock.now(), self.options.remember)

    def _is_due(self, renewed: float) -> bool:
        """True when what was last renewed at that time is to be written anew. A mere count of messages always is."""
        return not 0 <= self.clock.now() - renewed < self._renewed_after

    def _is_allowed(self, client: Sender) -> bool:
        """True when enough messages of the client were queued."""
        return 0 < self.options.auto_allow_after <= client.count

    async def _client(self, session: Session) -> Sender:
        """Who the client is, which stays so for its whole session, and how many of its messages are queued by now."""
        notes = session.notes(self)
        client: Sender | None = notes.get("client")
        if client is None:
            name = (self.options.by_name and await self._organisation(session)) or self._network(session)
            client = notes["client"] = self._sender(name)
        if self.options.auto_allow_after and self._is_due(client.count):
            client.count = await self.store.get(client.key) or 0.0
        return client

    async def _organisation(self, session: Session) -> str | None:
        """The registered domain of the verified name; None without one, and for a name that is a public suffix."""
        try:
            name = await session.verified_name()
        except DNSTemporaryError:
            return None
        return self._suffixes.privatesuffix(name) if name else None

    def _network(self, session: Session) -> str:
        address = session.ip
        version = address.version
        prefix, bits = self._prefixes[version]
        return f"IPv{version} {int(address) >> bits - prefix}/{prefix}"


def _digest(*parts: str) -> str:
    """A short key, so that no client decides how much is kept. No address holds a line end, so parts stay apart."""
    return blake2b("\n".join(parts).casefold().encode(), digest_size=16).hexdigest()


def _come_back(wait: float) -> Answer:
    return defer(f"greylisted: please try again in {ceil(wait)} seconds", 451, "4.7.1") if wait > 0 else None
