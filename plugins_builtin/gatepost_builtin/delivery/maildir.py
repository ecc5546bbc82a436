"""Put messages into maildirs, where Dovecot, mutt and others find them.

**What it does.** It writes one file for each maildir among the recipients, with `Return-Path` in front (RFC 5321 §4.4)
and a `Delivered-To` for each recipient that shares this maildir. Line ends are LF, as Postfix and Dovecot keep them. A
maildir that does not exist is made, for its owner only.

```toml
[plugins.maildir]
path = "/var/mail/{domain}/{local}"
```

**Why it works.** A file appears in `new` by one rename when it is whole and safe on disk, so no reader sees half of it,
and 250 is said only after that. With several recipients all files are written first: when one cannot be, none appears.
Should a rename fail all the same, those recipients are asked for again, and only those.

**Hostile local parts.** `{local}` and `{domain}` are never a path: all but ASCII letters, digits and `+ - . = _` is
written as %XX, and so is a dot in front; what is too long ends in a digest. Different recipients stay different by
that, with one exception: ASCII capitals count as small letters, since senders write names as they like.

**What it costs.** Three waits for the disk for each maildir of a message. They block a thread, not the other clients.

**When not to use it.** For mail that wants aliases, quotas or sieve: hand it to Dovecot by LMTP with `forward`. It
takes all recipients, so no delivery plugin behind it is ever reached. Without a list of addresses in `recipients`,
whoever sends to a new local part makes a new maildir. A crash while writing leaves a file in `tmp`; readers of maildirs
remove what is older than 36 hours there.

**On the wire.** 250 with the names of the files; 452 4.3.1 when the disk or the quota is full; 451 4.3.0 for every
other fault, which the log describes.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import suppress
from hashlib import blake2b
from itertools import count
from pathlib import Path

from pydantic import field_validator

from gatepost import Address, Answers, Clock, Decision, Envelope, Log, Message, Options, Server, accept, defer, hookimpl

LONGEST_PART = 200
"""Octets of what stands for a local part or a domain in a path. Most file systems take 255 for a name."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

_UNSAFE = re.compile(rb"^\.|[^a-z0-9+\-.=_]")
_PLACEHOLDER = re.compile(r"\{(local|domain)\}")
_numbers = count()  # of the process: two instances may write into one maildir


class MaildirOptions(Options):
    """Where the maildirs are."""

    path: Path
    """The maildir of a recipient: an absolute path, in which `{local}` and `{domain}` may stand."""

    @field_validator("path")
    @classmethod
    def _is_clear(cls, path: Path) -> Path:
        if not path.is_absolute():
            raise ValueError("expected a path from the root, such as /var/mail/{domain}/{local}")
        if re.search(r"[{}]", _PLACEHOLDER.sub("", str(path))):
            raise ValueError("only {local} and {domain} may stand in braces")
        if re.search(r"\}[^/@]*\{", str(path)):
            raise ValueError("put / or @ between {local} and {domain}, or two recipients could share a maildir")
        return path


class Maildir:
    """Takes every recipient, a maildir each or as many to one as the path says."""

    Options = MaildirOptions
    grants = "delivery"
    takes_everything = True

    def __init__(self, options: MaildirOptions, clock: Clock, log: Log) -> None:
        self.options = options
        self.clock = clock
        self.log = log
        self._our_domain = "localhost"

    @hookimpl
    def startup(self, server: Server) -> None:
        self._our_domain = server.hostname

    @hookimpl(blocking=True)
    def queue(self, envelope: Envelope, message: Message) -> Answers:
        copies = [
            Copy(folder, recipients, self._unique_name()) for folder, recipients in self._folders(envelope).items()
        ]
        try:
            for copy in copies:
                copy.write(envelope.sender, message)
            return self._hand_in(copies)
        except OSError as error:
            return self._refusal(error)
        finally:
            for copy in copies:
                copy.clean_up()

    def _hand_in(self, copies: list[Copy]) -> Answers:
        """Let all files appear, then make that last. Whoever fails is answered for alone."""
        refused: dict[Address, Decision] = {}
        for step in (Copy.appear, Copy.last):
            for copy in copies:
                try:
                    step(copy)
                except OSError as error:
                    copy.withdraw()
                    refused |= dict.fromkeys(copy.recipients, self._refusal(error))
        return {recipient: accept(copy.name) for copy in copies for recipient in copy.recipients} | refused

    def _refusal(self, error: OSError) -> Decision:
        self.log.error("delivery_failed", error=str(error))
        if error.errno in FULL:
            return defer("no room for this message at the moment", 452, "4.3.1")
        return defer("cannot deliver now, try again later", 451, "4.3.0")

    def _folders(self, envelope: Envelope) -> dict[Path, list[Address]]:
        """The maildirs of those who wait for an answer, with the recipients of each."""
        folders: dict[Path, list[Address]] = {}
        for recipient in envelope.pending:
            folders.setdefault(self._folder(recipient), []).append(recipient)
        return folders

    def _folder(self, recipient: Address) -> Path:
        parts = {"local": recipient.local, "domain": recipient.domain or self._our_domain}
        return Path(_PLACEHOLDER.sub(lambda found: safe_part(parts[found[1]]), str(self.options.path)))

    def _unique_name(self) -> str:
        """A name that no other delivery ever uses: time, process, number, host (as Courier and Dovecot write it)."""
        seconds, fraction = divmod(self.clock.now(), 1)
        host = safe_part(socket.gethostname())
        return f"{seconds:.0f}.M{int(fraction * 1e6)}P{os.getpid()}Q{next(_numbers)}.{host}"


class Copy:
    """One message on its way into one maildir."""

    def __init__(self, folder: Path, recipients: list[Address], name: str) -> None:
        self.folder = folder
        self.recipients = recipients
        self.name = name
        self._temporary = folder / "tmp" / name
        self._final = folder / "new" / name

    def write(self, sender: Address, message: Message) -> None:
        """Write the message to ``tmp``, safe on disk. Raises ``OSError``."""
        for part in ("tmp", "new", "cur"):
            make_folder(self.folder / part)
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            delivered_to = "".join(f"Delivered-To: {recipient}\n" for recipient in self.recipients)
            file.write(f"Return-Path: <{sender}>\n{delivered_to}".encode())
            for block in message.blocks():
                file.write(block.replace(b"\r", b""))  # a message has canonical line ends: every CR is one of CRLF
            file.flush()
            os.fsync(file.fileno())

    def appear(self) -> None:
        """Move the file to ``new``, where readers look. Raises ``OSError``."""
        os.rename(self._temporary, self._final)

    def last(self) -> None:
        """Make the move safe on disk. Raises ``OSError``."""
        sync_folder(self._final.parent)
        sync_folder(self._temporary.parent)

    def withdraw(self) -> None:
        """Take back a file that is perhaps not safe: it will be sent again."""
        with suppress(OSError):
            self._final.unlink()

    def clean_up(self) -> None:
        """Leave nothing in ``tmp``."""
        with suppress(OSError):
            self._temporary.unlink()


def safe_part(text: str) -> str:
    """``text`` as a part of a path: never empty, hidden, ``..`` or too long, and different for different texts."""
    octets = text.encode("utf-8", "surrogatepass").lower()  # of ASCII only
    escaped = _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], octets).decode("ascii") or "%"
    if len(escaped) <= LONGEST_PART:
        return escaped
    digest = blake2b(octets, digest_size=16).hexdigest()
    return f"{escaped[: LONGEST_PART - len(digest) - 2]}%-{digest}"


def make_folder(folder: Path) -> None:
    """Make a folder for its owner only, and its parents, so that a power cut does not take them back."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(0o700, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Wait until what was created, moved or removed in ``folder`` is safe on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
