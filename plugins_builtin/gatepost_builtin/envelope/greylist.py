"""Greylisting: ask new clients to come back in a few minutes (RFC 6647).

**What it does.** The first time a client sends from this sender to this recipient, the recipient is refused with 451. A
mail server keeps the message and tries again. After `delay` it is accepted and remembered for `remember`, which is
renewed as long as it sends. A client that comes back too early is told how long it still has to wait, and its time
goes on. A client that comes back after `retry_window` is new again.

**Why it works.** A real mail server has a queue. Many spam programs have none, because keeping state for each message
and coming back costs more than the message is worth. And a client that does come back minutes later may be on a DNS
list by then.

**What counts as a client.** The organisation's domain (`example.com` of `out7.mail.example.com`) if the client has a
forward-confirmed name, otherwise its network. Large senders retry from another address each time. A name that contains
the client's address, such as `static.7.2.0.192.clients.example`, is its hoster's or access provider's, so its network
is used. The name is looked up from the connection on; while DNS fails, the network is used.

**Pools without a common name.** Some senders retry from another network each time, and have no name in common. At the
third try of the same sender and recipient, from the third network, such a client is let in, if `delay` has passed
between each try and the next, and if no client among them is on a DNS list that `dnsbl` asks before this plugin. Two
networks are not enough: a bot that is one of many sends the same message twice within minutes, but rarely a third time
after twice the delay, and by then DNS lists know it.

**What counts as a sender.** What changes in a sender from one try to the next is left out, as postgrey does:

| as sent | as remembered | why |
|---|---|---|
| `list+bounce-77@example.com` | `list@example.com` | an extension, as mailing lists use |
| `bounce-4711-9@example.com` | `bounce-#-#@example.com` | numbers that stand for themselves |
| `prvs=0412ab34cd=kim@example.com` | `kim@example.com` | BATV, a tag that is signed anew each day |
| `btv1==0412ab34cd==kim@example.com` | `kim@example.com` | the same, of Barracuda |
| `SRS0=aB3d=5T=example.org=kim@example.com` | `srs0=example.org=kim@example.com` | SRS of a forwarder: hash and day |
| `SRS1=aB3d=a.example==cD4e=5T=b.example=kim@example.com` | `srs1=a.example=b.example=kim@example.com` | SRS, twice |
| `double-bounce8CL5@example.com` | `double-bounce@example.com` | a probe of Postfix with the time in it |

**What it costs.** The first message between two people is delayed until the sender's queue retries: usually five to
thirty minutes. People who wait for a login code will notice. A client never has to wait again after `auto_allow_after`
delivered messages, as long as it sends something within `remember`; its recipients are then no longer recorded. All
customers of a provider may share a name or a network, so a bot among them benefits from the mail of its neighbours.

**The null reverse-path and other probes.** Many servers verify a sender by starting a bounce to it and disconnecting
after RCPT. If that is deferred, they defer the mail that we sent them. So for `<>`, and for `double-bounce`,
`mailer-daemon` and `postmaster` at any domain, no recipient is refused. All are recorded, and DATA gets the 451 if one
of them is new.

**When not to use it.** Where nobody may wait, on a submission listener, or on a second MX that does not share the store
with the first. Put it after `recipients`, so that mailboxes that do not exist are never stored. In mode "observe" it
learns: clients that it has seen deliver do not have to wait later.

**On the wire.** 451 4.7.1 at RCPT, for the null reverse-path and other probes at DATA. Trusted clients and clients
that may relay are skipped. If the store cannot be read, mail passes. Addresses are stored as digests, without regard to
case.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from ipaddress import IPv6Address
from math import ceil, inf
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

POOL_NETWORKS = 3
"""The number of networks from which the same sender and recipient must have come to be let in as a pool."""
PROBES = re.compile(r"(?i:double-bounce)[0-9B-DF-HJ-NP-TV-Z]*|(?i:mailer-daemon|postmaster)")
"""Local parts of senders that verify an address instead of bringing mail: those of Postfix, Exim and others.

Postfix appends a time in base 31, without vowels, if it has an ``address_verify_sender_ttl``.
"""
TAGS = (
    (re.compile(r"prvs=[^=]+=(?=.)|btv1==[^=]+==(?=.)", re.IGNORECASE), ""),
    (re.compile(r"srs0[=+-][^=]+=[^=]+=(?=.)", re.IGNORECASE), "srs0="),
    (re.compile(r"srs1[=+-][^=]+=([^=]+)=[=+-][^=]+=[^=]+=(?=.)", re.IGNORECASE), r"srs1=\1="),
)
"""Beginnings of local parts that change from one try to the next, and what stays of them: BATV, then SRS."""


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

    @property
    def is_network(self) -> bool:
        """True when its network stands in for an organisation."""
        return " " in self.name  # no domain contains a blank


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
        if not _is_probe(envelope.sender):
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
        sender, is_probe = constant_part(envelope.sender), _is_probe(envelope.sender)
        triple = _digest(client.name, sender, recipient)
        wait = await self._wait(triple)
        if wait > 0 and client.is_network and not is_probe and await self._is_pool(session, client, sender, recipient):
            await self._know(triple)
            wait = 0.0
        session.notes(self)["judged"] = True
        envelope.notes(self)[recipient] = (triple, wait)
        return None if is_probe else _come_back(wait)

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

    async def _is_pool(self, session: Session, client: Sender, sender: str, recipient: str) -> bool:
        """Note a try of this sender and recipient from another network. Return True when it is to be let in."""
        now, key = self.clock.now(), _digest("pool", sender, recipient)
        tries = await self.store.get(key)
        if tries is None or not 0 <= now - tries["first"] < self.options.retry_window:
            tries = {"first": now, "last": -inf, "networks": [], "listed": False}
        counts = client.key not in tries["networks"] and now - tries["last"] >= self.options.delay
        if not counts and tries["listed"] >= bool(session.listed):
            return False  # nothing to note
        if counts:
            tries["networks"], tries["last"] = [*tries["networks"], client.key][-POOL_NETWORKS:], now
        tries["listed"] = tries["listed"] or bool(session.listed)
        await self.store.put(key, tries, tries["first"] + self.options.retry_window - now)
        return counts and len(tries["networks"]) >= POOL_NETWORKS and not tries["listed"]

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
        """Return the registered domain of the verified name, unless it is a public suffix or names an address."""
        try:
            name = await session.verified_name()
        except DNSTemporaryError:
            return None
        return self._suffixes.privatesuffix(name) if name and not names_address(name, session.client) else None

    def _network(self, session: Session) -> str:
        """Return the network of the client. The text is part of stored keys, so it must not change."""
        address = session.ip
        version = address.version
        prefix, bits = self._prefixes[version]
        return f"IPv{version} {int(address) >> bits - prefix}/{prefix}"


def constant_part(sender: Address) -> str:
    """Return a sender without what changes in it from one try to the next: see the table above."""
    local = sender.local
    if not local:
        return str(sender)
    if PROBES.fullmatch(local) and local.lower().startswith("double-bounce"):
        return f"double-bounce@{sender.domain}"
    for tag, rest in TAGS:
        if match := tag.match(local):
            local = match.expand(rest) + local[match.end() :]
            break
    extended = local.find("+", 1)
    local = local if extended < 0 else local[:extended]
    return f"{_NUMBER.sub('#', local)}@{sender.domain}"


_NUMBER = re.compile(r"\b\d+\b", re.ASCII)


def _is_probe(sender: Address) -> bool:
    """Return True for the null reverse-path, and for senders that only verify an address."""
    return sender.is_null or PROBES.fullmatch(sender.local) is not None


def names_address(name: str, client: str) -> bool:
    """Return True when a host name contains the address of the host, so that it tells nothing about who uses it.

    At least three octets of an IPv4 address must stand in it one after the other, in either order; two are not enough,
    as large senders number their hosts so. Or the whole address as one number: hexadecimal, or decimal with zeros.
    """
    if ":" in client:
        nibbles = IPv6Address(client.partition("%")[0]).exploded.replace(":", "")
        digits = re.sub(r"[.-]", "", name)
        written = client.partition("%")[0].replace(":", "-")
        return nibbles[16:] in digits or nibbles[::-1] in digits or written in name
    octets = client.split(".")
    numbers = [each.lstrip("0") or "0" for each in re.findall(r"\d+", name)]
    runs = [order[at : at + 3] for order in (octets, octets[::-1]) for at in (0, 1)]
    whole = ("".join(f"{int(octet):02x}" for octet in octets), "".join(octet.zfill(3) for octet in octets))
    return any(_has_run(run, numbers) for run in runs) or any(each in name for each in whole)


def _has_run(run: list[str], parts: list[str]) -> bool:
    """Return True when the elements of ``run`` follow one another in ``parts``."""
    return any(parts[at : at + len(run)] == run for at in range(len(parts) - len(run) + 1))


def _digest(*parts: str) -> str:
    """Return a short key, so that clients cannot store long ones. No part contains a line end, so keys are unique."""
    return blake2b("\n".join(parts).casefold().encode(), digest_size=16).hexdigest()


def _come_back(wait: float) -> Answer:
    return defer(f"greylisted: please try again in {ceil(wait)} seconds", 451, "4.7.1") if wait > 0 else None
