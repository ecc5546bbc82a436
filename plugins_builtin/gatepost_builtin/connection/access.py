"""Allow and deny clients, senders and recipients by your own lists.

**What it does.** A `deny` entry refuses with its reason. An `allow` entry makes a client, a message or a recipient
trusted, and plugins that look for spam (earlytalker, dnsbl, greylist and others) skip it. An entry never permits
relaying and never vouches for a recipient.

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

**Why it works.** You know what no list on the network knows: who your partners are, and who has written too often.

**How entries match.** All keys of an entry must match. A name is `mail.example.com` (exactly this name) or
`.example.com` (all names below it, not itself). An address is `user@example.com`, `example.com` (all addresses in this
domain) or `.example.com` (all addresses in the domains below it), and the null reverse-path is `<>`. Case is ignored.

An entry is evaluated in the phase in which the last of its keys is known: `network` and `name` at connect, `helo` at
HELO, `sender` at MAIL, `recipient` at RCPT. In each phase `allow` comes before `deny`, and the first entry that matches
decides the phase. So to allow a network except one address, list the networks around that address. Phases are
independent: a trusted client is still refused for a sender that is denied.

**What an allow entry trusts.** With a recipient: mail to that recipient. With a sender: this message; as anybody can
forge a sender, add a name or a network. Otherwise the whole session. A HELO name can be forged too, so in an `allow`
entry it only counts if the client's verified name is the same or belongs to the same organisation.

**What it costs.** About half a microsecond for each entry of a phase, and nothing for phases without entries, unless
there are files, which may get some at any time. With a `name` in an entry, the reverse DNS of each client is looked up
once a session, before the greeting. While DNS fails, such an entry does not match, so a temporary error neither refuses
nor trusts anybody.

**When not to use it.** For hundreds of thousands of addresses; run a DNS list of your own instead. Put it first in the
order, because trust only affects the plugins after it.

**Entries that expire.** From the day after `until` (UTC) an entry has no effect, and the log says so once. If a file
can no longer be read or parsed, its last valid content stays in force, and the log gives the reason.

**In the record.** `gatepost explain` shows which entry matched, whether it allows or denies: its keys, its reason, and
the file and line where it stands. The log has the reason of an entry that trusts as `trusted`; without that, no entry
matched.

**On the wire.** 550 5.7.1 with the reason; at connect the connection is closed as well. If access itself fails, the
client is asked to try again later (421 or 451, 4.3.0): to pass would let in clients that you refuse.

**In the log.** `entry_expired` (warning): an entry whose last day is over would have matched. `client_name_unknown`
(info): DNS failed, so an entry with a `name` did not match.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from datetime import UTC, date, datetime
from itertools import chain
from typing import Annotated, TypeAlias

from pydantic import Field, model_validator

from gatepost import (
    Address,
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
    parse_toml,
)
from gatepost_builtin.list_files import must_parse
from gatepost_builtin.patterns import DomainPattern, MailboxPattern, matches_address, matches_domain
from gatepost_builtin.public_suffixes import public_suffixes

PHASE_OF = {"network": "connect", "name": "connect", "helo": "helo", "sender": "mail", "recipient": "rcpt"}
"""The phase in which each key of an entry becomes known, in the order of a session."""

ByPhase: TypeAlias = "dict[tuple[str, str], list[Entry]]"
"""Entries by list ("allow", "deny") and by the phase in which they are evaluated."""
Placed: TypeAlias = "tuple[str, Entry, str]"
"""An entry after its list, and before its file: "" for the configuration's own."""


class Entry(Options):
    """An entry: at least one of the first five keys, all of which must match."""

    network: Network | None = None
    """The address or network of the client."""

    name: DomainPattern | None = None
    """The verified name of the client, or `.example.com` for all names below it."""

    helo: DomainPattern | None = None
    """The name that the client sends with HELO or EHLO, or `.example.com` for all names below it."""

    sender: MailboxPattern | None = None
    """An address, a domain, `.example.com` for the domains below it, or `<>`."""

    recipient: MailboxPattern | None = None
    """An address, a domain, or `.example.com` for the domains below it."""

    reason: str = ""
    """The text of the refusal, or the reason for the trust in the record."""

    until: Annotated[date, Field(strict=True)] | None = None
    """The last day on which the entry has an effect (UTC), such as 2027-01-31."""

    @model_validator(mode="after")
    def _names_something(self) -> Entry:
        if not self.keys:
            raise ValueError(f"an entry needs at least one of {', '.join(PHASE_OF)}")
        return self

    @property
    def keys(self) -> list[str]:
        """The keys that are compared, in the order of a session."""
        return [key for key in PHASE_OF if getattr(self, key) is not None]

    def told(self, file: str) -> str:
        """Return the keys that are compared, where the entry stands, and its reason, for the record."""
        keys = ", ".join(f"{key} {getattr(self, key)}" for key in self.keys)
        place = ", ".join(part for part in (file, self.written_at) if part)
        return "".join((keys, place and f" ({place})", self.reason and f": {self.reason}"))

    @property
    def why(self) -> str:
        """The reason, or the keys that are compared if there is none."""
        return self.reason or ", ".join(f"{key} {getattr(self, key)}" for key in self.keys)

    def fits(self, session: Session, envelope: Envelope | None, recipient: Address | None) -> bool:
        """Return True when all keys match that are known without DNS."""
        return (
            (self.network is None or session.ip in self.network)
            and (self.helo is None or matches_domain(self.helo, _helo(session)))
            and (self.sender is None or (envelope is not None and matches_address(self.sender, envelope.sender)))
            and (self.recipient is None or (recipient is not None and matches_address(self.recipient, recipient)))
        )


def _helo(session: Session) -> str:
    return session.helo.lower().removesuffix(".")


class Lists(Options):
    """The two lists, in the options of the plugin and in its files."""

    allow: tuple[Entry, ...] = ()
    """Clients, messages and recipients to trust."""

    deny: tuple[Entry, ...] = ()
    """Clients, messages and recipients to refuse."""


def _by_phase(lists: Lists) -> ByPhase:
    """Sort entries by phase, so that a phase without entries costs nothing."""
    judged: ByPhase = {(kind, phase): [] for kind in ("allow", "deny") for phase in PHASE_OF.values()}
    for kind, entries in (("allow", lists.allow), ("deny", lists.deny)):
        for entry in entries:
            judged[kind, PHASE_OF[entry.keys[-1]]].append(entry)
    return judged


def _entries(places: Sequence[tuple[str, ByPhase]], phase: str) -> list[Placed]:
    """Return the entries of a phase, those of ``allow`` first, so that the first one that matches decides."""
    kinds = ("allow", "deny")
    return [(kind, entry, file) for kind in kinds for file, lists in places for entry in lists[kind, phase]]


def _read(text: str) -> ByPhase:
    """Return the entries of a file. Raises ``ListFileError`` with every mistake."""
    return _by_phase(parse_toml(text, Lists))


class AccessOptions(Lists):
    """The lists, in the configuration and in files."""

    files: tuple[Annotated[WatchedFile, must_parse(_read)], ...] = ()
    """TOML files with `allow` and `deny` as here (`[[allow]]` tables are easy to read), reread when they change."""


class Access:
    """Evaluates the entries of each phase, allow before deny."""

    Options = AccessOptions
    on_error = "defer"
    trusts = True

    def __init__(self, options: AccessOptions, clock: Clock, log: Log) -> None:
        self.clock = clock
        self.log = log
        self._own = _by_phase(options)
        # Without files the entries of a phase are always the same, so they are put together only once.
        self._own_entries = {phase: _entries([("", self._own)], phase) for phase in PHASE_OF.values()}
        self._files = options.files
        self._suffixes = public_suffixes()
        self._reported: set[tuple[str, date]] = set()

    @property
    def phases(self) -> frozenset[str] | None:
        """The phases that have entries; None, so all, if there are files, which may get entries for any phase."""
        if self._files:
            return None
        return frozenset(("startup", *[phase for phase, entries in self._own_entries.items() if entries]))

    @hookimpl
    def startup(self) -> None:
        for _, lists in self._lists():
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
        """Evaluate the entries of a phase from the first on that fits without DNS. Usually none does.

        So that most clients need no coroutine, ``_judge`` continues only where an entry fits.
        """
        entries = _entries(self._lists(), phase) if self._files else self._own_entries[phase]
        for place, (_, entry, _) in enumerate(entries):
            if entry.fits(session, envelope, recipient):
                return self._judge(entries[place:], session, envelope, recipient)
        return None

    async def _judge(
        self,
        entries: Sequence[Placed],
        session: Session,
        envelope: Envelope | None,
        recipient: Address | None,
    ) -> Answer:
        """Let the first entry that matches decide the phase."""
        for kind, entry, file in entries:
            if entry.fits(session, envelope, recipient) and await self._holds(entry, kind, session):
                session.remark(f"{kind} entry {entry.told(file)}")
                if kind == "deny":
                    return deny(entry.reason or "refused by our access list", 550, "5.7.1")
                if envelope is None:
                    session.trust(entry.why, entry.until)
                else:
                    envelope.trust(entry.why, recipient)
                return None
        return None

    def _lists(self) -> list[tuple[str, ByPhase]]:
        """Return the entries of each file under its path, first those of the configuration under ""."""
        return [("", self._own), *((str(file.path), file.parsed(_read)) for file in self._files)]

    async def _holds(self, entry: Entry, kind: str, session: Session) -> bool:
        """Return True when an entry that fits is in force, and the verified name of the client matches as well."""
        if not self._in_force(entry):
            return False
        helo_must_agree = kind == "allow" and entry.helo is not None
        if entry.name is None and not helo_must_agree:
            return True
        name = await self._name(session)
        if name is None or (entry.name is not None and not matches_domain(entry.name, name)):
            return False
        return not helo_must_agree or self._are_one(_helo(session), name)

    def _in_force(self, entry: Entry) -> bool:
        """Return False after the last day of an entry, and report that once."""
        if entry.until is None or datetime.fromtimestamp(self.clock.now(), UTC).date() <= entry.until:
            return True
        if (entry.why, entry.until) not in self._reported:
            self._reported.add((entry.why, entry.until))
            self.log.warning("entry_expired", entry=entry.why, until=entry.until.isoformat())
        return False

    async def _name(self, session: Session) -> str | None:
        """Return the verified name of the client; None when it has none or DNS fails."""
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
        """Return True when two names are equal or belong to one organisation."""
        organisation = self._suffixes.privatesuffix(name)
        return helo == name or (organisation is not None and organisation == self._suffixes.privatesuffix(helo))
