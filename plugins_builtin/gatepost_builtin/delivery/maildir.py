"""Store messages in maildirs, where Dovecot, mutt and others find them.

**What it does.** It writes one file for each maildir among the recipients, with a `Return-Path` field (RFC 5321 §4.4)
and a `Delivered-To` field for each recipient that shares this maildir at the top. Line ends are LF, as in the maildirs
of Postfix and Dovecot. A maildir that does not exist is created, for its owner only.

```toml
[plugins.maildir]
path = "/var/mail/{domain}/{local}"
```

**Why it works.** A file appears in `new` by a rename when it is complete and safe on disk. So no reader sees half a
message, and 250 is only sent after that. With several recipients all files are written first; if one of them cannot be
written, none appears. If a rename fails all the same, the client is asked to repeat the message for those recipients
only. If the client is lost while the files are being written, or after 300 seconds on a disk that hangs, none appears
either.

**Hostile local parts.** `{local}` and `{domain}` cannot change the path: all characters but ASCII letters, digits and
`+ - . = _` are written as %XX, and so is a leading dot; a name that is too long ends with a digest. Different
recipients have different names, except that ASCII capitals become lower case, because senders do not care about case.

**What it costs.** Three syncs of the disk for each maildir of a message. They block a thread, but no other client.

**When not to use it.** For mail that needs aliases, quotas or Sieve; pass it to Dovecot by LMTP with `forward`. It
accepts all recipients, so no delivery plugin after it is ever asked. Without a list of addresses in `recipients`,
anybody who sends to a new local part creates a maildir.

**Left-over files.** A crash while writing leaves a file in `tmp`. With a message for that maildir, at most once an
hour, the plugin deletes those of its own files there that are older than 36 hours; files of other programs stay.

**Symbolic links.** The maildir itself may be one. Its `tmp`, `new` and `cur` may not: whoever owns a maildir could lead
the server, which may write more than he may, to any other folder. Mail for such a maildir waits (451).

**On the wire.** 250 with the names of the files; 452 4.3.1 when the disk or a quota is full; 451 4.3.0 for any other
error, which is in the log.

**In the log.** `delivery_failed` (error): a message could not be written, with the reason.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from itertools import count
from pathlib import Path

from pydantic import field_validator

from gatepost import (
    Address,
    Clock,
    Decision,
    Envelope,
    Log,
    Message,
    Options,
    QueueAnswer,
    Server,
    accept,
    defer,
    hookimpl,
)

LONGEST_PART = 200
"""The most octets that represent a local part or a domain in a path. Most file systems allow 255 for a name."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

ABANDONED = 36 * 3600.0
"""Seconds after which a file in ``tmp`` belongs to no delivery any more, as maildir(5) says."""
SWEEP_EVERY = 3600.0
MOST_SWEPT = 10_000
"""Maildirs whose last sweep is remembered."""

_OURS = re.compile(r"\d+\.M\d+P\d+Q\d+\..+")
_UNSAFE = re.compile(rb"^\.|[^a-z0-9+\-.=_]")
_PLACEHOLDER = re.compile(r"\{(local|domain)\}")
_numbers = count()  # one for the process, because two instances may write to the same maildir


class MaildirOptions(Options):
    """The location of the maildirs."""

    path: Path
    """The maildir of a recipient: an absolute path that may contain `{local}` and `{domain}`."""

    @field_validator("path")
    @classmethod
    def _is_clear(cls, path: Path) -> Path:
        if not path.is_absolute():
            raise ValueError("expected an absolute path such as /var/mail/{domain}/{local}")
        if re.search(r"[{}]", _PLACEHOLDER.sub("", str(path))):
            raise ValueError("only {local} and {domain} are allowed in braces")
        if re.search(r"\}[^/@]*\{", str(path)):
            raise ValueError("put / or @ between {local} and {domain}, otherwise two recipients could share a maildir")
        return path


class Maildir:
    """Accepts all recipients. The path determines which of them share a maildir."""

    Options = MaildirOptions
    grants = "delivery"
    takes_everything = True
    commits = True

    def __init__(self, options: MaildirOptions, clock: Clock, log: Log) -> None:
        self.options = options
        self.clock = clock
        self.log = log
        self._our_domain = "localhost"
        self._swept: dict[Path, float] = {}

    @hookimpl
    def startup(self, server: Server) -> None:
        self._our_domain = server.hostname

    @hookimpl(blocking=True)
    def queue(self, envelope: Envelope, message: Message) -> QueueAnswer:
        copies = [
            Copy(folder, recipients, self._unique_name()) for folder, recipients in self._folders(envelope).items()
        ]
        try:
            for copy in copies:
                copy.write(envelope.sender, message)
                self._sweep(copy)
            envelope.commit()  # from here on readers may see it
            return self._hand_in(copies)
        except OSError as error:
            return self._refusal(error)
        finally:
            for copy in copies:
                copy.clean_up()

    def _sweep(self, copy: Copy) -> None:
        """Delete files that a crash has left in ``tmp``. A failure is none of the message's."""
        now = self.clock.now()
        if abs(now - self._swept.get(copy.folder, 0.0)) < SWEEP_EVERY:
            return
        if len(self._swept) >= MOST_SWEPT:
            self._swept.clear()
        self._swept[copy.folder] = now
        with suppress(OSError):
            copy.sweep()

    def _hand_in(self, copies: list[Copy]) -> QueueAnswer:
        """Move all files to ``new``, then sync the folders. A failure affects the recipients of that maildir only."""
        refused: dict[Address, Decision] = {}
        for step in (Copy.appear, Copy.sync):
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
        """Return the maildirs of the pending recipients, with the recipients of each."""
        folders: dict[Path, list[Address]] = {}
        for recipient in envelope.pending:
            folders.setdefault(self._folder(recipient), []).append(recipient)
        return folders

    def _folder(self, recipient: Address) -> Path:
        parts = {"local": recipient.local, "domain": recipient.domain or self._our_domain}
        return Path(_PLACEHOLDER.sub(lambda found: safe_part(parts[found[1]]), str(self.options.path)))

    def _unique_name(self) -> str:
        """Return a name that no other delivery ever uses: time, process, number, host, as Courier and Dovecot do."""
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
        """Write the message to ``tmp`` and sync it. Raises ``OSError``."""
        for part in ("tmp", "new", "cur"):
            make_folder(self.folder / part)
            if (self.folder / part).is_symlink():
                raise OSError(errno.ELOOP, "it is a symbolic link", str(self.folder / part))
        with opened(self._temporary.parent) as folder:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            descriptor = os.open(self.name, flags, 0o600, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as file:
            delivered_to = "".join(f"Delivered-To: {recipient}\n" for recipient in self.recipients)
            file.write(f"Return-Path: <{sender}>\n{delivered_to}".encode())
            for block in message.blocks():
                file.write(block.replace(b"\r", b""))  # all line ends are CRLF, and there is no other CR
            file.flush()
            os.fsync(file.fileno())

    def sweep(self) -> None:
        """Delete abandoned files of this plugin from ``tmp``. Raises ``OSError``.

        Their age is the difference to the file just written there: the clock of a file server may not be ours.
        """
        written = self._temporary.stat().st_mtime
        with os.scandir(self._temporary.parent) as files:
            for file in files:
                if _OURS.fullmatch(file.name) and written - file.stat(follow_symlinks=False).st_mtime > ABANDONED:
                    os.unlink(file.path)

    def appear(self) -> None:
        """Move the file to ``new``, where readers find it. Raises ``OSError``."""
        with opened(self._final.parent) as folder:
            os.rename(self._temporary, self.name, dst_dir_fd=folder)

    def sync(self) -> None:
        """Sync the folders, so that the move survives a power failure. Raises ``OSError``."""
        sync_folder(self._final.parent)
        sync_folder(self._temporary.parent)

    def withdraw(self) -> None:
        """Remove a file from ``new`` that may not be safe, because the client will send the message again."""
        with suppress(OSError):
            self._final.unlink()

    def clean_up(self) -> None:
        """Remove the file from ``tmp`` if it is still there."""
        with suppress(OSError):
            self._temporary.unlink()


def safe_part(text: str) -> str:
    """Return ``text`` as a part of a path: never empty, hidden, ``..`` or too long, and unique for each text."""
    octets = text.encode("utf-8", "surrogatepass").lower()  # lower() of bytes changes ASCII letters only
    escaped = _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], octets).decode("ascii") or "%"
    if len(escaped) <= LONGEST_PART:
        return escaped
    digest = blake2b(octets, digest_size=16).hexdigest()
    return f"{escaped[: LONGEST_PART - len(digest) - 2]}%-{digest}"


def make_folder(folder: Path) -> None:
    """Create a folder, for its owner only, and its parents, so that they survive a power failure."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(0o700, exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Wait until changes to the names in ``folder`` are safe on disk."""
    with opened(folder, follow=True) as descriptor:
        os.fsync(descriptor)


@contextmanager
def opened(folder: Path, *, follow: bool = False) -> Iterator[int]:
    """Open a folder that is no symbolic link, not even one that has taken its place a moment ago."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | (0 if follow else os.O_NOFOLLOW))
    try:
        yield descriptor
    finally:
        os.close(descriptor)
