"""A received message, as plugins see it and as it leaves.

Its headers are parsed once, on first use; its content is read in blocks; header edits are applied as it leaves. It
knows neither how it came in (``data``) nor where its octets are kept (``spool``).

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

FIELD: Final = re.compile(rb"^([!-9;-~]+)[ \t]*:(.*\n?(?:[ \t].*\n?)*)", re.MULTILINE)
"""A field: its name, and its value with folded lines (RFC 5322 §2.2). Blanks before the colon are obsolete (§4.5)."""
_BETWEEN_WORDS: Final = re.compile(r"(?<=\?=)\s+(?==\?)")
_ENCODED_WORDS: Final = re.compile(r"(?:=\?[^?\s]{1,64}\?[bqBQ]\?[^?\s]{0,1000}\?=){1,100}")
"""Runs of encoded words (RFC 2047 §2), bounded: the time of the library's decoder grows with the square of a run."""
DECODED: Final = 20
"""The number of runs of encoded words that are decoded in one field; later ones stay as they came."""
_FOLD: Final = re.compile(r"\r?\n[ \t]+")
_FIELD_NAME: Final = re.compile(r"[!-9;-~]+")


class Headers:
    """The header fields of a message, in order. Names are compared without case; values are unfolded and decoded.

    Octets beyond ASCII are read as UTF-8, and invalid UTF-8 as U+FFFD. No input raises an exception.
    """

    __slots__ = ("_fields",)

    def __init__(self, block: bytes) -> None:
        self._fields = [(found[1].decode("ascii"), found[2]) for found in FIELD.finditer(block)]

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the value of the first field called ``name``, or ``default``."""
        return next(iter(self.get_all(name)), default)

    def get_all(self, name: str) -> list[str]:
        """Return the values of all fields called ``name``."""
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
    # RFC 2047 §6.2: blanks between two encoded words are not shown, so that a word may be split over lines.
    return _ENCODED_WORDS.sub(_decoded_words, _BETWEEN_WORDS.sub("", text), DECODED) if "=?" in text else text


def _decoded_words(found: re.Match[str]) -> str:
    try:
        return str(email.header.make_header(email.header.decode_header(found[0])))
    except (ValueError, LookupError, email.errors.MessageError):
        return found[0]


class Message:
    """A received message. Its content is as the client sent it, with canonical line ends and without dot-stuffing.

    ``size`` is in octets; ``eight_bit`` is True when some octet is beyond ASCII. Header edits (``prepend``, ``remove``)
    do not change the content; they are applied as the message leaves, in ``blocks()``.
    """

    __slots__ = ("_content", "_header_size", "_headers", "_prepended", "_removed", "eight_bit")

    def __init__(self, content: Content, header_size: int, eight_bit: bool = False) -> None:
        self._content = content
        self._header_size = header_size
        self._headers: Headers | None = None
        self._prepended = b""
        self._removed: set[tuple[bytes, int | None]] = set()
        self.eight_bit = eight_bit

    @property
    def size(self) -> int:
        """The size of the content as received, in octets."""
        return self._content.size

    @property
    def headers(self) -> Headers:
        """The header fields as received, parsed on first use."""
        if self._headers is None:
            self._headers = Headers(self._content.read(0, self._header_size))
        return self._headers

    def open(self) -> io.BufferedReader:
        """Return the content as received, as a binary file with a position of its own."""
        return io.BufferedReader(ContentReader(self._content), BLOCK)

    def prepend(self, name: str, value: str) -> None:
        """Put a header field in front of the others as the message leaves.

        Control characters in ``value`` become blanks, but a line that is folded by CRLF and a blank stays folded.
        Raises ``ValueError`` for a name that RFC 5322 §3.6.8 does not allow.
        """
        if not _FIELD_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header field")
        # Fold anew what was folded, and leave no other line end: it would begin a field, or the body.
        lines = [printable_utf8(line) for line in _FOLD.split(value)]
        if may_write(f"message.prepend({name!r})"):
            put_first(self, f"{name}: ".encode() + "\r\n\t".join(lines).encode() + b"\r\n")

    def remove(self, name: str, index: int | None = None) -> None:
        """Leave out the fields called ``name`` as the message leaves; only the one at ``index`` (from 0) if given."""
        if may_write(f"message.remove({name!r})"):
            self._removed.add((name.lower().encode(), index))

    def blocks(self) -> Iterator[bytes]:
        """The message as it leaves, in blocks of at most 256 KiB: header edits applied, CRLF line ends.

        It is not dot-stuffed; the code that sends it over SMTP does that. Where the blocks are cut has no meaning.
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
        """The size of the message as it leaves, in octets."""
        kept = len(self._kept_headers()) - self._header_size if self._removed else 0
        return self.size + len(self._prepended) + kept

    def _kept_headers(self) -> bytes:
        """Return the header block without the fields that were removed."""
        block = self._content.read(0, self._header_size)
        counts: dict[bytes, int] = {}

        def kept(field: re.Match[bytes]) -> bytes:
            name = field[1].lower()
            index = counts[name] = counts.get(name, -1) + 1
            return b"" if (name, None) in self._removed or (name, index) in self._removed else field[0]

        return FIELD.sub(kept, block)

    def close(self) -> None:
        """Release the spool's memory and disk."""
        self._content.close()


def put_first(message: Message, field: bytes) -> None:
    """Put ``field``, complete with its CRLF, in front of the other fields as ``message`` leaves."""
    message._prepended = field + message._prepended


def printable_utf8(text: str) -> str:
    """Return ``text`` without control characters, for a header field (RFC 6532 allows UTF-8 there)."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else " " for character in text)
