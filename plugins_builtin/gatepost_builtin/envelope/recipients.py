"""Accept mail for your domains and mailboxes, and refuse all other recipients.

**What it does.** It vouches for the mailboxes of your domains. Without a plugin that vouches for recipients, gatepost
accepts no mail. A domain is yours if it is listed in `domains` or one of the `files`, or if one of its mailboxes is. A
domain with listed mailboxes has only these. In a domain without listed mailboxes all are accepted, and the next hop
decides (`forward` asks it).

```toml
[plugins.recipients]
domains = ["example.org"]                       # forward asks for its mailboxes
addresses = ["info@example.com", "bob@example.com"]
```

**Why it works.** Other recipients are refused while the client waits, so you are no open relay and send no bounces. The
tricks of old relays are refused as well: a local part with `@`, `%` or `!`, quoted or not, asks to relay the message
(`victim%elsewhere.example@ours`). Many mail servers behind gatepost would do so, because they trust it. Such a mailbox
is only accepted if it is listed literally.

**Plus addresses.** With `bob@example.org` listed, `bob+shop@example.org` is accepted too, as Postfix delivers it:
`delimiter` has the characters that may stand between a mailbox and its extension. Set it to the `recipient_delimiter`
of the mail server behind gatepost (`postconf recipient_delimiter`), or to `""` if that has none. A listed mailbox that
contains such a character, such as `c++@example.org`, is found first. An extension is no way around the relay check:
`bob+victim%elsewhere.example` is refused.

**What it costs.** Two look-ups in sets. Put it before `greylist`, so that recipients that do not exist are not stored.

**When not to use it.** If only a next hop knows the mailboxes, list the domains here and leave the mailboxes to
`forward`. For a client that may relay, recipients in other domains are not refused here; another plugin vouches for
them.

**On the wire.** Other domain: 550 5.7.1. A relay trick: 550 5.7.1. No such mailbox in one of your domains: 550 5.1.1.

**The defaults.** `postmaster` at each of your domains and the bare `<postmaster>` must be reachable (RFC 5321 §4.5.1).
Local parts are compared without case, although §2.4 allows mailboxes that differ only by case: nobody gives `Bob` and
`bob` to two people. Domains are compared as A-labels in lower case. A subdomain is a domain of its own.

**Files.** UTF-8, one entry a line: `bob@example.org`, or a whole domain as `example.org` or `@example.org`, as in
`domains`. `#` begins a comment. **Write a new file beside it, then rename it**: a file that is written in place is
there in halves for a moment. gatepost looks once a second and believes a change when two looks agree; it reads and
parses the file in a thread, while the content before serves. If a file is missing, empty or has an invalid line, its
last valid content stays in force and the log has a warning.

A file that loses more than half of its entries at once, and more than ten, is not believed either: a disk that was full
or an export that broke off would refuse good mail for good. The last content stays in force, and the log has
`list_shrunk`. If the loss is meant, say so with `gatepost reload --accept-shrunk`; a restart takes any content.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, model_validator

from gatepost import Address, Decision, ListFileError, Options, Session, WatchedFile, accept, deny, hookimpl
from gatepost_builtin.list_files import must_parse
from gatepost_builtin.patterns import Domain, Mailbox, parse_domain, parse_mailbox

OURS = accept()
FOREIGN = deny("relaying denied: this domain is not ours", status="5.7.1")
TRICK = deny("relaying denied: we do not send on for others", status="5.7.1")
UNKNOWN = deny("no such mailbox here", status="5.1.1")

_RELAY_SIGNS = frozenset("@%!")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_DELIMITERS = re.compile(r"[#$&'*+/=?^_`{|}~.\-]*")


@dataclass(frozen=True, slots=True)
class Directory:
    """The domains and mailboxes in one source: the configuration or a file."""

    mailboxes: frozenset[tuple[str, str]]
    """Local part and domain of each mailbox, in the form for comparison."""
    listed: frozenset[str]
    """The domains of these mailboxes. They have no other mailboxes."""
    domains: frozenset[str]
    """All domains, including the listed ones."""

    def __len__(self) -> int:
        """Return the number of entries."""
        return len(self.mailboxes) + len(self.domains - self.listed)

    @classmethod
    def of(cls, domains: Iterable[str], mailboxes: Iterable[Address]) -> Directory:
        """Make a directory from domains and mailboxes in the form for comparison."""
        kept = frozenset((mailbox.local, mailbox.domain) for mailbox in mailboxes)
        listed = frozenset(domain for _, domain in kept)
        return cls(kept, listed, listed.union(domains))


def read_directory(text: str) -> Directory:
    """Parse a file. Raises `ListFileError` with every invalid line, and `ValueError` for a file without entries.

    A file is empty for a moment while it is being written, and to accept that would refuse all mail.
    """
    domains, mailboxes, bad = set(), set(), []
    for number, line in enumerate(text.splitlines(), 1):
        entry = _COMMENT.sub("", line).strip()
        try:
            if "@" in entry.removeprefix("@"):
                mailboxes.add(parse_mailbox(entry))
            elif entry:
                domains.add(parse_domain(entry.removeprefix("@")))
        except ValueError as error:
            bad.append((number, str(error)))
    if bad:
        raise ListFileError(bad)
    if not domains and not mailboxes:
        raise ValueError("it contains no mailbox and no domain")
    return Directory.of(domains, mailboxes)


def _may_delimit(text: str) -> str:
    """Return ``text`` if each of its characters may stand between a mailbox and its extension."""
    if _DELIMITERS.fullmatch(text) is None:
        raise ValueError(f'expected punctuation such as "+" or "+-", or "" for no extensions, found "{text}"')
    return text


class RecipientsOptions(Options):
    """Your domains and mailboxes."""

    domains: frozenset[Domain] = frozenset()
    """Your domains. To accept mail to an address literal, list it as well, such as "[192.0.2.1]"."""
    addresses: frozenset[Mailbox] = frozenset()
    """Your mailboxes. Their domains are yours, and have no mailboxes but those listed here or in files."""
    files: tuple[Annotated[WatchedFile, must_parse(read_directory, vouches=True)], ...] = ()
    """Files with mailboxes and domains, one per line, reread when they change."""
    delimiter: Annotated[str, AfterValidator(_may_delimit)] = "+"
    """Characters behind which a mailbox has an extension: bob+shop@ is accepted for bob@. "": no extensions."""
    postmaster: bool = True
    """Accept mail for the bare postmaster and for postmaster at each of your domains, listed or not."""

    @model_validator(mode="after")
    def _not_empty(self) -> RecipientsOptions:
        if not (self.domains or self.addresses or self.files):
            raise ValueError("all recipients would be refused: set domains, addresses or files")
        return self


class Recipients:
    """Vouches for our recipients and refuses the others."""

    Options = RecipientsOptions
    grants = "recipients"

    def __init__(self, options: RecipientsOptions) -> None:
        self._own = (Directory.of(options.domains, options.addresses),)
        self._files = options.files
        self._postmaster = options.postmaster
        # The mailbox before an extension. What begins with a delimiter has none, as in Postfix.
        self._mailbox = re.compile(rf"[^{re.escape(options.delimiter)}]+") if options.delimiter else None

    @hookimpl
    def rcpt(self, session: Session, recipient: Address) -> Decision | None:
        local, domain = recipient.local.lower(), recipient.domain
        is_ours = is_listed = False
        # A mailbox that is listed in any source is ours, so every source is looked at before a recipient is refused.
        for directory in self._directories() if self._files else self._own:
            if (local, domain) in directory.mailboxes:
                return OURS
            is_ours |= domain in directory.domains
            is_listed |= domain in directory.listed
        if domain and not is_ours:
            return None if session.may_relay else FOREIGN
        if local == "postmaster" and self._postmaster:
            return OURS
        if not _RELAY_SIGNS.isdisjoint(local):
            return TRICK
        if domain and not is_listed:
            return OURS
        return OURS if self._has_extension(local, domain) else UNKNOWN

    def _has_extension(self, local: str, domain: str) -> bool:
        """Return True when ``local`` is a mailbox of ours with an extension, such as ``bob+shop``."""
        found = self._mailbox.match(local) if self._mailbox and domain else None
        if found is None or found[0] == local:
            return False
        if found[0] == "postmaster" and self._postmaster:
            return True
        return any((found[0], domain) in directory.mailboxes for directory in self._directories())

    def _directories(self) -> Iterator[Directory]:
        yield from self._own
        for file in self._files:
            yield file.parsed(read_directory, vouches=True)
