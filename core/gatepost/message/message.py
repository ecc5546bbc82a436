"""A received message, as plugins see it and as it leaves.

Its headers are parsed once, on first use, and edited in place; its content is read in blocks. It knows neither how it
came in (``data``) nor where its octets are kept (``spool``).

RFC 5322 §2.2 (header fields), RFC 2047 (encoded words), RFC 6532 (UTF-8 in fields).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import Final

from gatepost.errors import SpoolError
from gatepost.message import encoded_words
from gatepost.message.spool import BLOCK, Content, ContentReader
from gatepost.write_guard import may_write

FIELD: Final = re.compile(rb"^([!-9;-~]+)[ \t]*:(.*\n?(?:[ \t].*\n?)*)", re.MULTILINE)
"""A field: its name, and its value with folded lines (RFC 5322 §2.2). Blanks before the colon are obsolete (§4.5)."""
START: Final = re.compile(rb"[!-9;-~]+[ \t]*:")
"""The start of a field: its name and the colon."""
DECODED: Final = 128 * 1024
"""Characters of a message's header in which encoded words are looked for, all fields together; it takes 15 ms at most.
Words behind them stay as they came."""
_NAME: Final = re.compile(r"[!-9;-~]+")
_FOLD: Final = re.compile(r"\r?\n([ \t]+)")
_HARMFUL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Controls except TAB, what some take for a line end, and what is no UTF-8."""


class _Field:
    """A header field. ``line`` is all of it without its line end, and with NUL for the CRLF of each fold."""

    __slots__ = ("key", "line", "name", "value")

    def __init__(self, line: bytes) -> None:
        name = line.partition(b":")[0].rstrip(b" \t").decode("latin-1") if START.match(line) else ""
        self.line = line
        self.name = name
        self.key = name.lower()
        self.value: str | None = None
        """The decoded value, once somebody has asked for it."""


def _fields(block: bytes) -> list[_Field]:
    # No message contains NUL, so it can stand for folds. That takes 2 ms for a header of 1 MiB that is nothing but
    # folds, and an expression takes 20.
    lines = block.replace(b"\r\n ", b"\0 ").replace(b"\r\n\t", b"\0\t").split(b"\r\n")
    return [_Field(line) for line in lines if line]


class Headers:
    """The header fields of a message, in order. Names are compared without case; values are unfolded and decoded.

    Octets beyond ASCII are read as UTF-8, and invalid UTF-8 as U+FFFD. Encoded words are decoded if their charset is
    one of those that mail really has, and if the header has not too many of them. No input raises an exception.
    """

    __slots__ = ("_fields", "_left")

    def __init__(self, block: bytes) -> None:
        self._fields = _fields(block)
        self._left = DECODED

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of the first field called ``name``, or ``default``."""
        wanted = name.lower()
        for field in self._fields:
            if field.key == wanted:
                return self._decoded(field)
        return default

    def get_all(self, name: str) -> list[str]:
        """Return the values of all fields called ``name``."""
        wanted = name.lower()
        return [self._decoded(field) for field in self._fields if field.key == wanted]

    def __contains__(self, name: str) -> bool:
        wanted = name.lower()
        return any(field.key == wanted for field in self._fields)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((field.name, self._decoded(field)) for field in self._fields if field.name)

    def __len__(self) -> int:
        return len([field for field in self._fields if field.name])

    def _decoded(self, field: _Field) -> str:
        if field.value is None:
            value = _unfolded(field).decode("utf-8", "replace").strip()
            if self._left > 0 and "=?" in value:
                searched = value[: self._left]
                self._left -= len(searched)
                value = encoded_words.decode(searched) + value[len(searched) :]
            field.value = value
        return field.value


class Message:
    """A received message. Its content is as the client sent it, with canonical line ends and without dot-stuffing.

    ``size`` is in octets; ``eight_bit`` is True when some octet is beyond ASCII. Edits of the header (``prepend``,
    ``replace``, ``remove``) are made in the order of the calls, each on the header as the others have left it.
    ``headers`` and ``blocks()`` show the message with all edits so far; ``open()`` and ``size`` are the content as
    received.
    """

    __slots__ = ("_content", "_edited", "_front", "_header_size", "_headers", "_smtputf8", "eight_bit")

    def __init__(self, content: Content, header_size: int, eight_bit: bool = False, smtputf8: bool = False) -> None:
        self._content = content
        self._header_size = header_size
        self._headers: Headers | None = None
        self._front = b""
        """The fields that were put in front of the header."""
        self._edited: bytes | None = None
        """The header in place of that in ``_content``, once a field was removed."""
        self._smtputf8 = smtputf8
        self.eight_bit = eight_bit

    @property
    def size(self) -> int:
        """The size of the content as received, in octets."""
        return self._content.size

    @property
    def headers(self) -> Headers:
        """The header fields as they would leave now, our trace fields and edits included; parsed on first use."""
        if self._headers is None:
            self._headers = Headers(self._front + self._content.read(0, self._header_size))
        return self._headers

    def open(self) -> io.BufferedReader:
        """Return the content as received, as a binary file with a position of its own."""
        return io.BufferedReader(ContentReader(self._content), BLOCK)

    def prepend(self, name: str, value: str) -> None:
        """Put a header field in front of the others.

        What is beyond ASCII becomes encoded words, unless the client has asked for SMTPUTF8. Control characters become
        blanks, but lines that are folded by CRLF and blanks stay as they are. Raises ``ValueError`` for a name that RFC
        5322 §3.6.8 does not allow.
        """
        field = _field_of(name, value, self._smtputf8)
        if may_write(f"message.prepend({name!r})"):
            put_first(self, field)

    def replace(self, name: str, value: str) -> None:
        """Remove the fields called ``name``, and put one with ``value`` in front, as ``prepend`` does.

        For a field that nobody else may write: what the client has sent under its name goes.
        """
        field = _field_of(name, value, self._smtputf8)
        if may_write(f"message.replace({name!r})"):
            leave_out(self, name)
            put_first(self, field)

    def remove(self, name: str, index: int | None = None) -> None:
        """Remove the fields called ``name``; only the one at ``index`` (from 0) of those that are left, if given."""
        if may_write(f"message.remove({name!r})"):
            leave_out(self, name, index)

    def blocks(self) -> Iterator[bytes]:
        """The message as it leaves, in blocks of at most 256 KiB: header edits applied, CRLF line ends.

        It is not dot-stuffed; the code that sends it over SMTP does that. Where the blocks are cut has no meaning.
        Raises ``SpoolError`` when the spool no longer has all of it, as in a plugin's thread that goes on after its
        time was over: a message that ended early would look like a whole one.
        """
        front, start = self._front, 0
        if self._edited is not None:
            front, start = front + self._edited, self._header_size
        for at in range(0, len(front), BLOCK):
            yield front[at : at + BLOCK]
        while block := self._content.read(start, BLOCK):
            yield block
            start += len(block)
        if start < self.size:
            raise SpoolError("the message is no longer in the spool")

    @property
    def size_out(self) -> int:
        """The size of the message as it leaves, in octets."""
        edited = 0 if self._edited is None else len(self._edited) - self._header_size
        return self.size + len(self._front) + edited

    def close(self) -> None:
        """Release the spool's memory and disk."""
        self._content.close()


def put_first(message: Message, field: bytes) -> None:
    """Put ``field``, complete with its CRLF, in front of the other fields of ``message``."""
    message._front = field + message._front
    if not field.isascii():
        message.eight_bit = True
    headers = message._headers
    if headers is not None:
        headers._fields = _fields(field) + headers._fields  # a new list: a plugin may be looking through the old one


def leave_out(
    message: Message, name: str, index: int | None = None, unwanted: Callable[[bytes], bool] | None = None
) -> None:
    """Remove the fields called ``name``: all, the one at ``index``, or those whose value, unfolded, is ``unwanted``."""
    headers, key, count = message.headers, name.lower(), -1
    kept: list[_Field] = []
    for field in headers._fields:
        if field.key == key:
            count += 1
            if index in (None, count) and (unwanted is None or unwanted(_unfolded(field))):
                continue
        kept.append(field)
    if len(kept) < len(headers._fields):
        headers._fields = kept
        message._front = b""
        message._edited = b"".join([field.line.replace(b"\0", b"\r\n") + b"\r\n" for field in kept])


def _unfolded(field: _Field) -> bytes:
    return field.line.partition(b":")[2].replace(b"\0", b"")


def _field_of(name: str, value: str, smtputf8: bool) -> bytes:
    """Return the octets of a header field. Raises ``ValueError`` for a bad name."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a header field")
    # Lines, with the blanks that fold them between. No other line end is left: it would begin a field, or the body.
    first, *rest = [_HARMFUL.sub(" ", part) for part in _FOLD.split(value.rstrip("\r\n"))]
    text = f"{name}: {first}"
    for blanks, line in zip(rest[::2], rest[1::2], strict=True):
        if line.strip():  # some would take a line of blanks for the end of the header
            text += f"\r\n{blanks}{line}"
    if not smtputf8 and not text.isascii():
        text = encoded_words.encode(name, text)
    return text.encode() + b"\r\n"


def printable_utf8(text: str) -> str:
    """Return ``text`` without control characters, for a header field (RFC 6532 allows UTF-8 there)."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)
