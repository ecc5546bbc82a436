"""Say which recipients are ours. Without somebody who says so, nobody gets mail here.

**What it does.** It vouches for mailboxes of our domains and refuses everybody else's. A domain is ours when it stands
in `domains` or in one of `files`, or when a mailbox of it does. A domain of which mailboxes are given has these and
no others; a domain of which none is given has them all, and the next hop knows better (`forward` asks it).

```toml
[plugins.recipients]
domains = ["example.org"]                       # forward asks for its mailboxes
addresses = ["info@example.com", "bob@example.com"]
```

**Why it works.** A foreign recipient is refused while the client waits, so we are no open relay and make no bounces.
The tricks of old relays go the same way: a local part that holds `@`, `%` or `!`, quoted or not, is an order to
send on (`victim%elsewhere.example@ours`), and many a mail server behind us would obey it, since to it we are a
friend. Such a mailbox is taken only if it is given as it stands.

**What it costs.** Two look-ups in sets. Stand it before `greylist`, so that recipients who do not exist never reach
the store.

**When not to use it.** Where all mailboxes are known to a next hop only, name the domains and leave the mailboxes to
`forward`. A client that may relay is not judged for foreign recipients: who vouches for those is another plugin.

**On the wire.** Foreign domain: 550 5.7.1. A trick: 550 5.7.1. No such mailbox in a domain of ours: 550 5.1.1.

**The defaults.** `postmaster` at every domain of ours and the bare `<postmaster>` must be reachable (RFC 5321
§4.5.1). Local parts are compared without case, although §2.4 lets them differ by it: nobody gives `Bob` and `bob`
to two people. Domains are compared as A-labels in lower case; subdomains are domains of their own.

**Files.** UTF-8, one entry a line: `bob@example.org`, or a whole domain as `example.org` or `@example.org`, which
is as if it stood in `domains`. `#` begins a comment. A file is reread within a second when it changes. One that
goes away, or holds a line that cannot be read, or nothing at all, changes nothing but a warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from gatepost import Address, AddressError, Decision, Options, Session, WatchedFile, accept, deny, hookimpl

OURS = accept()
FOREIGN = deny("relaying denied: this domain is not ours", status="5.7.1")
TRICK = deny("relaying denied: we do not send on for others", status="5.7.1")
UNKNOWN = deny("no such mailbox here", status="5.1.1")

_ORDERS_TO_SEND_ON = frozenset("@%!")
_COMMENT = re.compile(r"(?:^|\s)#.*")


def _domain(value: object) -> str:
    """The domain as it is compared: A-labels, lower case; an address literal such as `[192.0.2.1]` too."""
    try:
        return Address.parse(f"postmaster@{value}").domain
    except AddressError:
        raise ValueError(f'expected a domain such as "example.org", found "{value}"') from None


def _mailbox(value: object) -> Address:
    """The mailbox as it is compared."""
    if isinstance(value, Address):
        return _folded(value)
    try:
        address = Address.parse(str(value))
    except AddressError as error:
        raise ValueError(f'expected a mailbox such as "bob@example.org", found "{value}": {error}') from None
    if not address.domain:
        raise ValueError(f'"{value}" has no domain; the bare postmaster is a matter of the option postmaster')
    return _folded(address)


def _folded(address: Address) -> Address:
    return Address(address.local.lower(), address.domain)


@dataclass(frozen=True, slots=True)
class Directory:
    """What one place, the configuration or a file, says is ours."""

    mailboxes: frozenset[tuple[str, str]]
    """Local part and domain of each, as they are compared."""
    listed: frozenset[str]
    """The domains of these mailboxes: they have no others."""
    domains: frozenset[str]
    """All domains that are ours, those included."""

    @classmethod
    def of(cls, domains: Iterable[str], mailboxes: Iterable[Address]) -> Directory:
        """Make one from domains and mailboxes as they are compared."""
        kept = frozenset((mailbox.local, mailbox.domain) for mailbox in mailboxes)
        listed = frozenset(domain for _, domain in kept)
        return cls(kept, listed, listed.union(domains))


def read_directory(text: str) -> Directory:
    """Read a file. Raises `ValueError` with the first line that is wrong, or when there is no entry at all.

    A file that is just being written is empty for a moment; to believe that would refuse everybody's mail.
    """
    domains, mailboxes = set(), set()
    for number, line in enumerate(text.splitlines(), 1):
        entry = _COMMENT.sub("", line).strip()
        try:
            if "@" in entry.removeprefix("@"):
                mailboxes.add(_mailbox(entry))
            elif entry:
                domains.add(_domain(entry.removeprefix("@")))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    if not domains and not mailboxes:
        raise ValueError("there is neither a mailbox nor a domain in it")
    return Directory.of(domains, mailboxes)


def _readable(file: WatchedFile) -> WatchedFile:
    try:
        file.parsed(read_directory)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return file


Domain = Annotated[str, AfterValidator(_domain), WithJsonSchema({"type": "string", "x-kind": "domain"})]
Mailbox = Annotated[
    Address,
    PlainValidator(_mailbox),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "x-kind": "mailbox"}),
]


class RecipientsOptions(Options):
    """Our domains and mailboxes."""

    domains: frozenset[Domain] = frozenset()
    """Our domains. An address literal such as "[192.0.2.1]" is one too, if mail to it is wanted."""
    addresses: frozenset[Mailbox] = frozenset()
    """Mailboxes. Their domains are ours, and have no mailboxes but those given here or in files."""
    files: tuple[Annotated[WatchedFile, AfterValidator(_readable)], ...] = ()
    """Files with mailboxes and domains, one a line, reread when they change."""
    postmaster: bool = True
    """Take mail for the bare postmaster and for postmaster at each of our domains, given or not."""

    @model_validator(mode="after")
    def _not_empty(self) -> RecipientsOptions:
        if not (self.domains or self.addresses or self.files):
            raise ValueError("nobody would be ours: give domains, addresses or files")
        return self


class Recipients:
    """Vouches for our recipients and refuses all others."""

    Options = RecipientsOptions
    grants = "recipients"

    def __init__(self, options: RecipientsOptions) -> None:
        self._own = (Directory.of(options.domains, options.addresses),)
        self._files = options.files
        self._postmaster = options.postmaster

    @hookimpl
    def rcpt(self, session: Session, recipient: Address) -> Decision | None:
        local, domain = recipient.local.lower(), recipient.domain
        is_ours = is_listed = False
        for place in self._places() if self._files else self._own:
            if (local, domain) in place.mailboxes:
                return OURS
            is_ours |= domain in place.domains
            is_listed |= domain in place.listed
        if domain and not is_ours:
            return None if session.may_relay else FOREIGN
        if local == "postmaster" and self._postmaster:
            return OURS
        if not _ORDERS_TO_SEND_ON.isdisjoint(local):
            return TRICK
        return UNKNOWN if is_listed or not domain else OURS

    def _places(self) -> Iterator[Directory]:
        yield from self._own
        for file in self._files:
            yield file.parsed(read_directory)
