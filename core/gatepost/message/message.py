"""A received message, as plugins see it and as it leaves.

Its headers are parsed once, when asked for; its content is read in blocks; header edits are applied as it leaves. It
knows neither how it came in (``intake``) nor where its octets are kept (``spool``).

RFC 5322 §2.2 (header fields), RFC 2047 (encoded words), RFC 6532 (UTF-8 in fields).
"""

from __future__ import annotations

import email.errors
import email.header
import io
import re
from collections.abc import Iterator
from typing import Final

from gatepost.message.spool import BLOCK, Content, ContentReader
from gatepost.write_guard import may_write

END_OF_HEADERS: Final = b"\r\n\r\n"
FIELD: Final = re.compile(rb"^([!-9;-~]+)[ \t]*:(.*\n?(?:[ \t].*\n?)*)", re.MULTILINE)
"""A field: its name, and its value with the lines that are folded into it (RFC 5322 §2.2, and §4.5 for the blanks)."""
_BETWEEN_WORDS: Final = re.compile(r"(?<=\?=)\s+(?==\?)")
_ENCODED_WORDS: Final = re.compile(r"(?:=\?[^?\s]{1,64}\?[bqBQ]\?[^?\s]{0,1000}\?=){1,100}")
"""Words of RFC 2047 §2, bounded: without a bound the library takes time that grows with the square of the length."""
DECODED: Final = 20
"""Runs of encoded words that are decoded in one field; what follows stays as it came."""
_FOLD: Final = re.compile(r"\r?\n[ \t]+")
_FIELD_NAME: Final = re.compile(r"[!-9;-~]+")


class Headers:
    """The header fields of a message, in order. Names are compared without case; values come unfolded and decoded.

    Octets that are no ASCII are read as UTF-8, and what is no UTF-8 either as U+FFFD. Never raises for bad input.
    """

    __slots__ = ("_fields",)

    def __init__(self, block: bytes) -> None:
        self._fields = [(found[1].decode("ascii"), found[2]) for found in FIELD.finditer(block)]

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
    return _ENCODED_WORDS.sub(_decoded_words, _BETWEEN_WORDS.sub("", text), DECODED) if "=?" in text else text


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
        self._prepended = b""
        self._removed: set[tuple[bytes, int | None]] = set()
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
        return io.BufferedReader(ContentReader(self._content), BLOCK)

    def prepend(self, name: str, value: str) -> None:
        """Put a header field in front of the others as the message leaves.

        Raises ``ValueError`` for a name that RFC 5322 §3.6.8 does not allow. Controls in ``value`` become blanks, but
        a line that is folded by CRLF and a blank stays folded.
        """
        if not _FIELD_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header field")
        lines = [printable_utf8(line) for line in _FOLD.split(value)]
        if may_write(f"message.prepend({name!r})"):
            put_first(self, f"{name}: ".encode() + "\r\n\t".join(lines).encode() + b"\r\n")

    def remove(self, name: str, index: int | None = None) -> None:
        """Leave out the fields called ``name`` as the message leaves; only the ``index``-th (from 0) if it is given."""
        if may_write(f"message.remove({name!r})"):
            self._removed.add((name.lower().encode(), index))

    def blocks(self) -> Iterator[bytes]:
        """The message as it leaves, in blocks of at most 256 KiB: header edits applied, CRLF line ends.

        It is not dot-stuffed: who sends it by SMTP does that. Borders of blocks mean nothing.
        """
        if self._prepended:
            yield self._prepended
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
        return self.size + len(self._prepended) + kept

    def _kept_headers(self) -> bytes:
        """The header block without the fields that were removed."""
        block = self._content.read(0, self._header_size)
        counts: dict[bytes, int] = {}

        def kept(field: re.Match[bytes]) -> bytes:
            name = field[1].lower()
            index = counts[name] = counts.get(name, -1) + 1
            return b"" if (name, None) in self._removed or (name, index) in self._removed else field[0]

        return FIELD.sub(kept, block)

    def close(self) -> None:
        """Give the spool's memory and disk back."""
        self._content.close()


def put_first(message: Message, field: bytes) -> None:
    """Put ``field``, written as it is to leave and with its CRLF, in front of the others as ``message`` leaves."""
    message._prepended = field + message._prepended


def printable_utf8(text: str) -> str:
    """``text`` without control characters, for a header field (RFC 6532 allows UTF-8 there)."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)


def _header_size(content: Content) -> int:
    """Octets up to and without the empty line that ends the header block."""
    block = content.read(0, 1 << 21)
    end = block.find(END_OF_HEADERS)
    return 0 if block.startswith(b"\r\n") else end + 2 if end >= 0 else len(block)
