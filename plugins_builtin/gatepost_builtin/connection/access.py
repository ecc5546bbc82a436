"""Allow and deny by your own lists: networks, verified names, HELO names, senders, recipients.

**What it does.** An entry of `deny` refuses with its reason. An entry of `allow` makes a client, a message or a
recipient trusted: plugins that look for spam (earlytalker, dnsbl, greylist and others) do not ask about it any more.
Nothing here allows anybody to relay, and nothing vouches for a recipient.

```toml
[plugins.access]
files = ["partners.toml"]       # the same two lists in a file
allow = [
    { network = "192.0.2.0/24", reason = "our branch office" },
    { name = ".example.com", sender = "example.com" },
    { recipient = "abuse@example.org" },
]
deny = [
    { sender = "news@shop.example", reason = "we unsubscribed", until = 2027-01-31 },
    { helo = "ylmf-pc" },
]
```

**Why it works.** You know things that no list on the network knows: who your partners are, who wrote too often.

**How entries match.** All keys of an entry must match. A name is written `mail.example.com` (just this one) or
`.example.com` (all below it, not itself); an address as `user@example.com`, `example.com` (everybody there) or
`.example.com` (everybody in the domains below); the null reverse-path as `<>`. Case never counts.

An entry is judged in the phase in which the last of its keys is known: `network` and `name` at connect, `helo` at HELO,
`sender` at MAIL, `recipient` at RCPT. In each phase allow comes before deny, and the first entry that matches rules the
phase: to allow a network but deny one address in it, write the network without that address. Each phase is judged by
itself: a trusted client is still refused for a sender that is denied.

**What an allow entry trusts.** With a recipient: mail for that recipient. With a sender: this message; since anybody
can write any sender, add a name or a network. Else the whole session. A HELO name, which anybody can say too, counts in
an allow entry only when the client's verified name is equal or belongs to the same organisation.

**What it costs.** About half a microsecond for each entry of the phase, and nothing in a phase that has none, unless a
file may come to have some. An entry with a name has the reverse DNS of each client looked up, once a session, before
its greeting. When DNS does not know at the moment, the entry does not match: a temporary fault neither refuses nor
trusts anybody.

**When not to use it.** For hundreds of thousands of addresses: a DNS list of your own is made for that. Put it first in
the order: trust only helps before the others are asked.

**Entries with an end.** On the day after `until` (UTC) an entry does nothing any more, and the log says so once. A file
that cannot be read or understood any more changes nothing: the last good content stays, and the log says why.

**On the wire.** 550 5.7.1 with the reason; at connect the connection is closed too. If access itself fails, the client
is asked to come back (421 or 451, 4.3.0): to pass would let in whom you have refused.
"""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Sequence
from datetime import UTC, date, datetime
from itertools import chain
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field, ValidationError, model_validator

from gatepost import (
    Address,
    AddressError,
    Answer,
    Clock,
    DNSTemporaryError,
    Envelope,
    Log,
    Network,
    Options,
    Session,
    WatchedFile,
    deny,
    hookimpl,
)
from gatepost_builtin.public_suffixes import public_suffixes

PHASE_OF = {"network": "connect", "name": "connect", "helo": "helo", "sender": "mail", "recipient": "rcpt"}
"""The phase in which each key of an entry is known, in the order of a session."""


ByPhase: TypeAlias = "dict[tuple[str, str], list[Entry]]"
"""Entries by list ("allow", "deny") and by the phase in which they are judged."""


def _domain_pattern(text: str) -> str:
    dot, name = ("." if text.startswith(".") else ""), text.removeprefix(".").removesuffix(".")
    try:
        return dot + Address.parse(f"x@{name}").domain.lower()
    except AddressError:
        raise ValueError("expected a domain such as example.com, or .example.com for all below it") from None


def _address_pattern(text: str) -> str:
    if "@" not in text and text != "<>":
        return _domain_pattern(text)
    try:
        return _comparable(Address.parse(text))
    except AddressError as error:
        raise ValueError(f"expected an address, a domain or <>: {error}") from None


def _comparable(address: Address) -> str:
    return "<>" if address.is_null else str(address).casefold()


def _fits_domain(pattern: str, domain: str) -> bool:
    return domain.endswith(pattern) if pattern.startswith(".") else domain == pattern


def _fits_address(pattern: str, address: Address) -> bool:
    domain = address.domain.lower()
    if "@" in pattern or pattern == "<>":
        return pattern.endswith(domain) and _comparable(address) == pattern
    return _fits_domain(pattern, domain)


Domain = Annotated[str, AfterValidator(_domain_pattern)]
Mailboxes = Annotated[str, AfterValidator(_address_pattern)]


class Entry(Options):
    """One entry: at least one of the first five keys, all of which must match."""

    network: Network | None = None
    """The client's address or network."""

    name: Domain | None = None
    """The client's verified name, or `.example.com` for all below it."""

    helo: Domain | None = None
    """The name that it gives with HELO or EHLO, or `.example.com` for all below it."""

    sender: Mailboxes | None = None
    """An address, a domain, `.example.com` for the domains below it, or `<>`."""

    recipient: Mailboxes | None = None
    """An address, a domain, or `.example.com` for the domains below it."""

    reason: str = ""
    """For the refusal, or for the record of why something is trusted."""

    until: Annotated[date, Field(strict=True)] | None = None
    """The last day on which the entry counts (UTC), such as 2027-01-31."""

    @model_validator(mode="after")
    def _names_something(self) -> Entry:
        if not self.keys:
            raise ValueError(f"an entry needs at least one of {', '.join(PHASE_OF)}")
        return self

    @property
    def keys(self) -> list[str]:
        """The keys that it compares, in the order of a session."""
        return [key for key in PHASE_OF if getattr(self, key) is not None]

    @property
    def why(self) -> str:
        """The reason, or else what it compares."""
        return self.reason or ", ".join(f"{key} {getattr(self, key)}" for key in self.keys)

    def fits(self, session: Session, envelope: Envelope | None, recipient: Address | None) -> bool:
        """True when all that is known without DNS matches."""
        return (
            (self.network is None or session.ip in self.network)
            and (self.helo is None or _fits_domain(self.helo, _helo(session)))
            and (self.sender is None or (envelope is not None and _fits_address(self.sender, envelope.sender)))
            and (self.recipient is None or (recipient is not None and _fits_address(self.recipient, recipient)))
        )


def _helo(session: Session) -> str:
    return session.helo.lower().removesuffix(".")


class Lists(Options):
    """What a file holds, and the plugin's own table besides its files."""

    allow: tuple[Entry, ...] = ()
    """Whom to trust."""

    deny: tuple[Entry, ...] = ()
    """Whom to refuse."""


def _by_phase(lists: Lists) -> ByPhase:
    judged: ByPhase = {(kind, phase): [] for kind in ("allow", "deny") for phase in PHASE_OF.values()}
    for kind, entries in (("allow", lists.allow), ("deny", lists.deny)):
        for entry in entries:
            judged[kind, PHASE_OF[entry.keys[-1]]].append(entry)
    return judged


def _entries(places: Sequence[ByPhase], phase: str) -> list[tuple[str, Entry]]:
    return [(kind, entry) for kind in ("allow", "deny") for lists in places for entry in lists[kind, phase]]


def _read(text: str) -> ByPhase:
    """The lists of a file. Raises ``ValueError`` with a sentence."""
    try:
        return _by_phase(Lists.model_validate(tomllib.loads(text)))
    except ValidationError as error:
        found = (f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors())
        raise ValueError("; ".join(found)) from None


def _readable(file: WatchedFile) -> WatchedFile:
    try:
        file.parsed(_read)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return file


class AccessOptions(Lists):
    """The lists, here and in files."""

    files: tuple[Annotated[WatchedFile, AfterValidator(_readable)], ...] = ()
    """TOML files with `allow` and `deny` as here (`[[allow]]` tables read well), reread when they change."""


class Access:
    """Judges the entries of each phase, allow before deny."""

    Options = AccessOptions
    on_error = "defer"
    trusts = True

    def __init__(self, options: AccessOptions, clock: Clock, log: Log) -> None:
        self.clock = clock
        self.log = log
        self._own = _by_phase(options)
        self._own_entries = {phase: _entries([self._own], phase) for phase in PHASE_OF.values()}
        self._files = options.files
        self._suffixes = public_suffixes()
        self._reported: set[Entry] = set()

    @property
    def phases(self) -> frozenset[str] | None:
        """Those that have entries. A file may come to have some of any."""
        if self._files:
            return None
        return frozenset(("startup", *[phase for phase, entries in self._own_entries.items() if entries]))

    @hookimpl
    def startup(self) -> None:
        for lists in self._lists():
            for entry in chain.from_iterable(lists.values()):
                self._in_force(entry)

    @hookimpl
    def connect(self, session: Session) -> Answer | Awaitable[Answer]:
        return self._rule("connect", session)

    @hookimpl
    def helo(self, session: Session) -> Answer | Awaitable[Answer]:
        return self._rule("helo", session)

    @hookimpl
    def mail(self, session: Session, envelope: Envelope) -> Answer | Awaitable[Answer]:
        return self._rule("mail", session, envelope)

    @hookimpl
    def rcpt(self, session: Session, envelope: Envelope, recipient: Address) -> Answer | Awaitable[Answer]:
        return self._rule("rcpt", session, envelope, recipient)

    def _rule(
        self, phase: str, session: Session, envelope: Envelope | None = None, recipient: Address | None = None
    ) -> Awaitable[Answer] | None:
        """Judge a phase's entries from the first that fits, as far as that is known without DNS. Mostly none does."""
        entries = _entries(self._lists(), phase) if self._files else self._own_entries[phase]
        for place, (_, entry) in enumerate(entries):
            if entry.fits(session, envelope, recipient):
                return self._judge(entries[place:], session, envelope, recipient)
        return None

    async def _judge(
        self,
        entries: Sequence[tuple[str, Entry]],
        session: Session,
        envelope: Envelope | None,
        recipient: Address | None,
    ) -> Answer:
        """Let the first entry that matches rule the phase: trust, or refuse."""
        for kind, entry in entries:
            if entry.fits(session, envelope, recipient) and await self._holds(entry, kind, session):
                if kind == "deny":
                    return deny(entry.reason or "refused by our access list", 550, "5.7.1")
                if envelope is None:
                    session.trust(entry.why, entry.until)
                else:
                    envelope.trust(entry.why, recipient)
                return None
        return None

    def _lists(self) -> list[ByPhase]:
        return [self._own, *(file.parsed(_read) for file in self._files)]

    async def _holds(self, entry: Entry, kind: str, session: Session) -> bool:
        """True when an entry that fits is in force, and what DNS knows of the client matches it too."""
        if not self._in_force(entry):
            return False
        helo_must_agree = kind == "allow" and entry.helo is not None
        if entry.name is None and not helo_must_agree:
            return True
        name = await self._name(session)
        if name is None or (entry.name is not None and not _fits_domain(entry.name, name)):
            return False
        return not helo_must_agree or self._are_one(_helo(session), name)

    def _in_force(self, entry: Entry) -> bool:
        """False after the entry's last day, which is reported once."""
        if entry.until is None or datetime.fromtimestamp(self.clock.now(), UTC).date() <= entry.until:
            return True
        if entry not in self._reported:
            self._reported.add(entry)
            self.log.warning("entry_expired", entry=entry.why, until=entry.until.isoformat())
        return False

    async def _name(self, session: Session) -> str | None:
        """The client's verified name; None when it has none and when DNS does not know now."""
        notes = session.notes(self)
        if "name" not in notes:
            try:
                notes["name"] = await session.verified_name()
            except DNSTemporaryError as error:
                notes["name"] = None
                self.log.info("client_name_unknown", client=session.client, error=str(error))
        name: str | None = notes["name"]
        return name

    def _are_one(self, helo: str, name: str) -> bool:
        """Equal, or names of one organisation."""
        organisation = self._suffixes.privatesuffix(name)
        return helo == name or (organisation is not None and organisation == self._suffixes.privatesuffix(helo))
