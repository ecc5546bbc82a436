"""Encoded words: text beyond ASCII in a header field that may hold only ASCII.

Decoding is for what strangers send: the codecs are a list, since a stranger could name a slow one, and the time grows
with the size of the text only. Encoding is for what plugins write. RFC 2047; RFC 2231 §5 (language of a word).

It knows no message and no fields: a field is a text here.
"""

from __future__ import annotations

import binascii
import re
from typing import Final

_WORD: Final = re.compile(r"=\?([^?\s]{1,64})\?([bqBQ])\?([^?\s]*)\?=")

_CODECS: Final = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    **{f"iso-8859-{part}": f"iso8859-{part}" for part in range(1, 17) if part != 12},
    **{f"windows-{page}": f"cp{page}" for page in (874, *range(1250, 1259))},
    **{f"cp{page}": f"cp{page}" for page in range(1250, 1259)},
    "tis-620": "cp874",
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
    "ibm866": "cp866",
    "cp866": "cp866",
    "iso-2022-jp": "iso2022-jp",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "euc-jp": "euc-jp",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5",
    "big5-hkscs": "big5hkscs",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "iso-2022-kr": "iso2022-kr",
}
"""The charsets that mail really has, in lower case, with Python's names. Supersets where clients say one for another.
Others are left out on purpose: Python also has punycode, whose time grows with the square of the text, and UTF-7."""


def decode(text: str) -> str:
    """Return ``text`` with its encoded words decoded. Words of unknown charsets stay as they are.

    What a charset does not know becomes U+FFFD.
    """
    decoded: list[str] = []
    pending: list[bytes] = []  # the words of one charset are joined: some split a character over two of them
    codec, end = "", 0
    for word in _WORD.finditer(text):
        between, end = text[end : word.start()], word.end()
        next_codec = _CODECS.get(word[1].partition("*")[0].lower(), "")
        octets = _octets(word[2], word[3]) if next_codec else None
        # RFC 2047 §6.2: blanks between two encoded words are not shown, so that a word may be split over lines.
        follows = bool(pending) and octets is not None and (not between or between.isspace())
        if pending and not (follows and next_codec == codec):
            decoded.append(b"".join(pending).decode(codec, "replace"))
            pending = []
        if not follows:
            decoded.append(between)
        if octets is None:
            decoded.append(word[0])
        else:
            codec = next_codec
            pending.append(octets)
    if pending:
        decoded.append(b"".join(pending).decode(codec, "replace"))
    decoded.append(text[end:])
    return "".join(decoded)


def _octets(encoding: str, text: str) -> bytes | None:
    """Return the octets of an encoded word; None if they cannot be made out."""
    encoded = text.encode("utf-8", "replace")
    if encoding in "qQ":
        return binascii.a2b_qp(encoded, header=True)
    try:
        return binascii.a2b_base64(encoded + b"=" * (-len(encoded) % 4))  # some leave the padding out
    except binascii.Error:
        return None


# Encoding.

_BETWEEN: Final = re.compile(r"([ \t]+)")
_BETWEEN_ADDRESSES: Final = re.compile(r'("(?:[^"\\]|\\.)*"|[ \t(),:;<>\[\]]+)')
"""Separators of the words in a field of addresses: specials, which must stay, and quoted strings."""
_ADDRESSES: Final = frozenset({"from", "sender", "reply-to", "to", "cc", "bcc"})
"""The fields of addresses, also with ``resent-`` in front."""
_LINE: Final = 76
"""The longest line with an encoded word (RFC 2047 §2)."""
_FRAME: Final = len("=?utf-8?q??=")
_LEAST: Final = 32
"""Columns without which an encoded word is not begun on a line, if the line can be folded."""
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
"""Octets that stand for themselves in the Q encoding, also in names of people (RFC 2047 §5 (3))."""


def encode(name: str, field: str) -> str:
    """Return ``field``, a whole field ``name: value``, with encoded words for all that is beyond ASCII.

    Folds stay, and others come to lines that become too long.
    """
    has_addresses = name.lower().removeprefix("resent-") in _ADDRESSES
    lines = field.split("\r\n")
    return "\r\n".join([line if line.isascii() else _encode_line(line, has_addresses) for line in lines])


def _encode_line(line: str, has_addresses: bool) -> str:
    pieces = (_BETWEEN_ADDRESSES if has_addresses else _BETWEEN).split(line)  # words, and what is between them
    done: list[str] = []
    column = at = 0
    while at < len(pieces):
        piece, at = pieces[at], at + 1
        if piece.isascii():
            done.append(piece)
            column += len(piece)
            continue
        if not at % 2:  # an encoded word must not stand within quotation marks, and needs none (RFC 2047 §5)
            piece = re.sub(r"\\(.)", r"\1", piece[1:-1])
        # Blanks between two encoded words are not shown, so that words in a row are encoded together.
        while at % 2 and at + 1 < len(pieces) and pieces[at].isspace() and not pieces[at + 1].isascii():
            piece += pieces[at] + pieces[at + 1]
            at += 2
        column = _append_words(done, column, piece)
    return "".join(done)


def _append_words(done: list[str], column: int, text: str) -> int:
    """Append the encoded words of ``text`` to a line that has ``column`` columns. Return its columns then."""
    octets = text.encode("utf-8", "replace")
    if _LINE - column < _LEAST and len(done) > 2 and done[-1].isspace():
        column = len(done[-1])
        done[-1] = "\r\n" + done[-1]
    room = max(_LINE - column, _LEAST) - _FRAME
    if 3 * len(octets) <= room:  # the Q encoding can be read without a decoder
        done.append(f"=?utf-8?q?{_quoted_printable(octets)}?=")
        return column + len(done[-1])
    start = 0
    while start < len(octets):
        end = start + room // 4 * 3
        while end < len(octets) and octets[end] & 0xC0 == 0x80:  # not within a character
            end -= 1
        if start:
            done.append("\r\n ")
            column = 1
        done.append(f"=?utf-8?b?{binascii.b2a_base64(octets[start:end], newline=False).decode()}?=")
        column += len(done[-1])
        start, room = end, _LINE - 1 - _FRAME
    return column


def _quoted_printable(octets: bytes) -> str:
    return "".join(
        [chr(octet) if octet in _PLAIN else "_" if octet == ord(" ") else f"={octet:02X}" for octet in octets]
    )
