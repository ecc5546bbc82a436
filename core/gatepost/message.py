"""A message on its way in and out: the intake that reads DATA, the spool that keeps it, and the message plugins see.

The **intake** takes blocks as they come from the socket. Only CRLF.CRLF ends the data; it removes dot-stuffing, makes
every line end canonical, and counts instead of believing. The **spool** keeps up to 512 KiB in memory and more in a
file. The **message** gives its headers (parsed once, when asked for) and its content, and takes header edits that are
applied as it leaves.

Nothing here knows sessions, replies or plugins. RFC 5321 §2.3.8 (line ends), §4.1.1.4 (end of data), §4.5.2
(transparency), §4.5.3.1.6 (text lines), §6.3 (loops); RFC 5322 §2.2 (header fields).
"""

from __future__ import annotations

import email.errors
import email.header
import io
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from gatepost.decisions import (
    BARE_LINE_END,
    HEADERS_TOO_BIG,
    MAIL_LOOP,
    NO_ROOM,
    NUL_IN_MESSAGE,
    TEXT_LINE_TOO_LONG,
    TOO_BIG,
    Reply,
)
from gatepost.errors import SpoolError
from gatepost.session import may_write

if TYPE_CHECKING:
    from gatepost.config import Limits

BLOCK = 256 * 1024
"""Octets read and written at a time."""

_END = b"\r\n.\r\n"
_END_OF_HEADERS = b"\r\n\r\n"
_ANY_LINE_END = re.compile(rb"\r\n|\r|\n")
_FIELD = re.compile(rb"^([!-9;-~]+)[ \t]*:(.*\n?(?:[ \t].*\n?)*)", re.MULTILINE)
"""A field: its name, and its value with the lines that are folded into it (RFC 5322 §2.2, and §4.5 for the blanks)."""
_RECEIVED = re.compile(rb"^received[ \t]*:", re.MULTILINE | re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"(?<=\?=)\s+(?==\?)")
_ENCODED_WORDS = re.compile(r"(?:=\?[^?\s]{1,64}\?[bqBQ]\?[^?\s]{0,1000}\?=){1,100}")
"""Words of RFC 2047 §2, bounded: without a bound the library takes time that grows with the square of the length."""
_FIELD_NAME = re.compile(r"[!-9;-~]+")


class Spool:
    """Where messages wait: memory for small ones, a folder for the rest, and a budget for all of them together.

    ``memory`` is how much of one message stays in memory, ``budget`` how much all of them together may take there,
    ``min_free`` how much the disk must have left; all in octets.
    """

    def __init__(self, folder: Path | None, *, memory: int = 512 * 1024, budget: int = 1 << 28, min_free: int = 0):
        self.folder = folder
        self.memory = memory
        self.budget = budget
        self.min_free = min_free
        self.in_memory = 0

    def has_room(self) -> bool:
        """False when a new message must be refused for now: the memory budget is spent or the disk nearly full."""
        if self.in_memory + self.memory > self.budget:
            return False
        if self.folder is None or not self.min_free:
            return True
        try:
            disk = os.statvfs(self.folder)
        except OSError:
            return False
        return disk.f_bavail * disk.f_frsize >= self.min_free

    def content(self) -> Content:
        """An empty content, to be closed by whoever asked for it."""
        return Content(self)


class Content:
    """The octets of one message: in memory, or in a file without a name once they are too many.

    The file is unlinked as soon as it is made, so a crash leaves nothing behind.
    """

    __slots__ = ("_buffer", "_file", "_spool", "size")

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._buffer = bytearray()
        self._file: BinaryIO | None = None
        self.size = 0

    def write(self, block: bytes) -> None:
        """Append ``block``. Raises ``SpoolError`` when the disk does not take it."""
        self.size += len(block)
        if self._file is None:
            if self._spool.folder is None or self._fits_in_memory(len(block)):
                self._buffer += block
                self._spool.in_memory += len(block)
                return
            self._move_to_file()
        self._to_file(block)

    def _fits_in_memory(self, more: int) -> bool:
        return self.size <= self._spool.memory and self._spool.in_memory + more <= self._spool.budget

    def _move_to_file(self) -> None:
        try:
            self._file = tempfile.TemporaryFile(dir=self._spool.folder, buffering=0)  # noqa: SIM115, closed by close()
        except OSError as error:
            raise SpoolError(f"cannot make a file in {self._spool.folder}: {error.strerror}") from error
        self._to_file(bytes(self._buffer))
        self._spool.in_memory -= len(self._buffer)
        self._buffer = bytearray()

    def _to_file(self, block: bytes) -> None:
        assert self._file is not None
        try:
            rest = memoryview(block)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise SpoolError(f"cannot write to the spool: {error.strerror}") from error

    def read(self, start: int, length: int) -> bytes:
        """At most ``length`` octets from ``start``. Readers do not disturb each other."""
        if self._file is None:
            return bytes(self._buffer[start : start + length])
        try:
            return os.pread(self._file.fileno(), length, start)
        except OSError as error:
            raise SpoolError(f"cannot read from the spool: {error.strerror}") from error

    def close(self) -> None:
        """Give memory and disk back. May be called twice."""
        self._spool.in_memory -= len(self._buffer)
        self._buffer = bytearray()
        if self._file is not None:
            self._file.close()
            self._file = None


class _Reader(io.RawIOBase):
    """A content as a file that can be read and sought."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._content.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        block = self._content.read(self._position, len(buffer))
        buffer[: len(block)] = block
        self._position += len(block)
        return len(block)


class Headers:
    """The header fields of a message, in order. Names are compared without case; values come unfolded and decoded.

    Octets that are no ASCII are read as UTF-8, and what is no UTF-8 either as U+FFFD. Never raises for bad input.
    """

    __slots__ = ("_fields",)

    def __init__(self, block: bytes) -> None:
        self._fields = [(found[1].decode("ascii"), found[2]) for found in _FIELD.finditer(block)]

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of the first field called ``name``."""
        return next(iter(self.get_all(name)), default)

    def get_all(self, name: str) -> list[str]:
        """The values of all fields called ``name``."""
        wanted = name.lower()
        return [_decoded(value) for field, value in self._fields if field.lower() == wanted]

    def __contains__(self, name: str) -> bool:
        wanted = name.lower()
        return any(field.lower() == wanted for field, _ in self._fields)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((field, _decoded(value)) for field, value in self._fields)

    def __len__(self) -> int:
        return len(self._fields)


def _decoded(value: bytes) -> str:
    text = value.replace(b"\r\n", b"").decode("utf-8", "replace").strip()
    return _ENCODED_WORDS.sub(_decoded_words, _BETWEEN_WORDS.sub("", text)) if "=?" in text else text


def _decoded_words(found: re.Match[str]) -> str:
    try:
        return str(email.header.make_header(email.header.decode_header(found[0])))
    except (ValueError, LookupError, email.errors.MessageError):
        return found[0]


class Message:
    """A received message. Its content is what the client sent, with canonical line ends and without dot-stuffing.

    ``size`` is in octets. Header edits (``prepend``, ``remove``) do not change the content; they are applied as the
    message leaves, in ``blocks()``.
    """

    __slots__ = ("_content", "_header_size", "_headers", "_prepended", "_removed", "eight_bit")

    def __init__(self, content: Content, header_size: int | None = None, eight_bit: bool = False) -> None:
        self._content = content
        self._header_size = _header_size(content) if header_size is None else header_size
        self._headers: Headers | None = None
        self._prepended: list[bytes] = []
        self._removed: list[tuple[bytes, int | None]] = []
        self.eight_bit = eight_bit

    @property
    def size(self) -> int:
        """Octets of the content, as received."""
        return self._content.size

    @property
    def headers(self) -> Headers:
        """The header fields as received, parsed when first asked for."""
        if self._headers is None:
            self._headers = Headers(self._content.read(0, self._header_size))
        return self._headers

    def may_hold(self, name: str) -> bool:
        """False when there is surely no field called ``name``: cheaper than parsing the headers to find out."""
        return name.lower().encode() in self._content.read(0, self._header_size).lower()

    def open(self) -> io.BufferedReader:
        """The content as received, as a binary file of its own position."""
        return io.BufferedReader(_Reader(self._content), BLOCK)

    def prepend(self, name: str, value: str) -> None:
        """Put a header field in front of the others as the message leaves.

        Raises ``ValueError`` for a name that RFC 5322 §3.6.8 does not allow. Controls in ``value`` become blanks, but
        a line that is folded by CRLF and a blank stays folded.
        """
        if not _FIELD_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header field")
        lines = [printable_utf8(line) for line in re.split(r"\r?\n[ \t]+", value)]
        if may_write(f"message.prepend({name!r})"):
            self._prepended.insert(0, f"{name}: ".encode() + "\r\n\t".join(lines).encode() + b"\r\n")

    def remove(self, name: str, index: int | None = None) -> None:
        """Leave out the fields called ``name`` as the message leaves; only the ``index``-th (from 0) if it is given."""
        if may_write(f"message.remove({name!r})"):
            self._removed.append((name.lower().encode(), index))

    def blocks(self) -> Iterator[bytes]:
        """The message as it leaves, in blocks of at most 256 KiB: header edits applied, CRLF line ends.

        It is not dot-stuffed: who sends it by SMTP does that. Borders of blocks mean nothing.
        """
        if self._prepended:
            yield b"".join(self._prepended)
        start = 0
        if self._removed:
            yield self._kept_headers()
            start = self._header_size
        while block := self._content.read(start, BLOCK):
            yield block
            start += len(block)

    @property
    def size_out(self) -> int:
        """Octets of the message as it leaves."""
        kept = len(self._kept_headers()) - self._header_size if self._removed else 0
        return self.size + sum(map(len, self._prepended)) + kept

    def _kept_headers(self) -> bytes:
        """The header block without the fields that were removed."""
        block = self._content.read(0, self._header_size)
        counts: dict[bytes, int] = {}

        def kept(field: re.Match[bytes]) -> bytes:
            name = field[1].lower()
            index = counts[name] = counts.get(name, -1) + 1
            return b"" if (name, None) in self._removed or (name, index) in self._removed else field[0]

        return _FIELD.sub(kept, block)

    def close(self) -> None:
        """Give the spool's memory and disk back."""
        self._content.close()


def printable_utf8(text: str) -> str:
    """``text`` without control characters, for a header field (RFC 6532 allows UTF-8 there)."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)


def _header_size(content: Content) -> int:
    """Octets up to and without the empty line that ends the header block."""
    block = content.read(0, 1 << 21)
    end = block.find(_END_OF_HEADERS)
    return 0 if block.startswith(b"\r\n") else end + 2 if end >= 0 else len(block)


class Intake:
    """Reads DATA block by block. Feed it; it says when the end has come.

    After ``feed`` returned something else than None the data is over: the octets behind it are the answer, ``reply``
    is the refusal to speak (None when all is well), and ``message`` the message. A refused message is read to its true
    end and thrown away. ``headers_done`` turns True when the header block is here.
    """

    __slots__ = (
        "_carry",
        "_content",
        "_discarding",
        "_head",
        "_limits",
        "_line",
        "_reject",
        "eight_bit",
        "header_size",
        "headers_done",
        "reply",
        "size",
        "started",
    )

    def __init__(self, content: Content, limits: Limits, *, reject: bool) -> None:
        self._content = content
        self._limits = limits
        self._reject = reject
        # The CRLF of the DATA command counts as the start of the first line (RFC 5321 §4.1.1.4).
        self._carry = b"\r\n"
        self.started = False
        self._line = 0
        self._head = bytearray()
        self._discarding = False
        self.headers_done = False
        self.header_size = 0
        self.eight_bit = False
        self.size = 0
        self.reply: Reply | None = None

    def feed(self, block: bytes) -> bytes | None:
        """Take a block. Returns None while data goes on, else the octets that follow the end of data."""
        self.size += len(block)
        data = self._carry + block
        end = data.find(_END)
        if end >= 0:
            self._take(data[: end + 2])
            self._finish()
            return data[end + len(_END) :]
        keep = _unfinished(data)
        self._carry = data[len(data) - keep :]
        self._take(data[: len(data) - keep])
        return None

    def _take(self, data: bytes) -> None:
        """Make ``data``, which ends at no half line end, canonical and keep it."""
        if not data:
            return
        if b"\r\n." in data:
            data = data.replace(b"\r\n.", b"\r\n")
        if not self.started:
            data = data[2:]
            self.started = True
            if data.startswith((b" ", b"\t")):  # it would be folded into the field that we put in front of it
                data = b"\r\n" + data
        data = self._canonical(data)
        if b"\0" in data:
            self.refuse(NUL_IN_MESSAGE)
        if self._discarding:
            return
        self._check(data)
        if self.reply is not None:
            self.discard()
            return
        try:
            self._content.write(data)
        except SpoolError:
            self.refuse(NO_ROOM)
            self.discard()

    def _canonical(self, data: bytes) -> bytes:
        """``data`` with CRLF for every line end; remembers what may not pass (wire.md, line ends)."""
        pairs = data.count(b"\r\n")
        if data.count(b"\n") != pairs or data.count(b"\r") != pairs:
            if self._reject:
                self.refuse(BARE_LINE_END)
            return _ANY_LINE_END.sub(b"\r\n", data)
        return data

    def _check(self, data: bytes) -> None:
        limits = self._limits
        if self._content.size + len(data) > limits.max_size:
            self.refuse(TOO_BIG)
        if not self.eight_bit and not data.isascii():
            self.eight_bit = True
        if not self.headers_done:
            self._check_headers(data)
        if self._line + len(data) > limits.line_length:
            self._check_lines(data)
        else:
            last = data.rfind(b"\n")
            self._line = self._line + len(data) if last < 0 else len(data) - last - 1

    def _check_lines(self, data: bytes) -> None:
        """Refuse a text line over the limit, CRLF included, stepping from line end to line end."""
        limit = self._limits.line_length
        start = -self._line
        while start + limit < len(data):
            end = data.rfind(b"\n", max(start, 0), start + limit)
            if end < 0:
                self.refuse(TEXT_LINE_TOO_LONG)
                return
            start = end + 1
        last = data.rfind(b"\n")
        self._line = self._line + len(data) if last < 0 else len(data) - last - 1

    def _check_headers(self, data: bytes) -> None:
        """Find the end of the header block; count its octets, fields and hops."""
        seen = max(0, len(self._head) - len(_END_OF_HEADERS))
        self._head += data
        if self._head.startswith(b"\r\n"):
            self.header_size, self.headers_done = 0, True
        else:
            end = self._head.find(_END_OF_HEADERS, seen)
            self.headers_done = end >= 0
            self.header_size = end + 2 if self.headers_done else len(self._head)
        if self.header_size > self._limits.header_size:
            self.refuse(HEADERS_TOO_BIG)
        if self.headers_done or self.reply is not None:
            self._count_fields()

    def _count_fields(self) -> None:
        head = self._head[: self.header_size]
        self._head = bytearray()
        self.headers_done = True
        if len(_FIELD.findall(head)) > self._limits.header_fields:
            self.refuse(HEADERS_TOO_BIG)
        if len(_RECEIVED.findall(head)) > self._limits.received:
            self.refuse(MAIL_LOOP)

    def _finish(self) -> None:
        """A message without an empty line is all header."""
        if not self.headers_done and self.reply is None:
            self._count_fields()

    def refuse(self, reply: Reply) -> None:
        """Refuse the message with ``reply``, spoken at the end of data.

        The first refusal stays, unless a later one also closes the connection.
        """
        if self.reply is None or (reply.close and not self.reply.close):
            self.reply = reply

    def message(self) -> Message:
        """The message, once the data is over or its header block is here."""
        return Message(self._content, self.header_size, self.eight_bit)

    def discard(self) -> None:
        """Give the spool back what was kept, and throw the rest away as it comes."""
        self._discarding = True
        self._content.close()


def _unfinished(data: bytes) -> int:
    """How many octets at the end of ``data`` may be part of a line end, a dot-stuffed line or the end of data."""
    for length in (4, 3, 2, 1):
        if _END.startswith(data[-length:]) and len(data) >= length:
            return length
    return 0
