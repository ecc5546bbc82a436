"""Command lines: which are not SMTP at all, which octets a command may contain, and how long a line may be.

It knows no session and no order of commands: see ``conversation``.

RFC 5321 §4.1.2 (syntax), §4.5.3.1.4 (length of a line), RFC 2920 §3.1 (pipelining).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from gatepost import replies
from gatepost.errors import AddressError
from gatepost.replies import Reply

MUST_WAIT: Final = {b"HELO": "helo", b"EHLO": "helo", b"DATA": "data", b"QUIT": "quit"}
"""Commands after which a client must wait for the reply (RFC 2920 §3.1), with their phases."""
NOISE: Final = frozenset({b"NOOP", b"RSET", b"HELO", b"EHLO", b"VRFY"})
"""Commands that bring no mail; a session may give only so many of them before a message."""

_CONTROLS: Final = re.compile(rb"[\x00-\x1f\x7f]")
_HTTP: Final = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"CONNECT", b"PATCH", b"TRACE"})
_HTTP_FIELDS: Final = (b"HOST:", b"USER-AGENT:", b"ACCEPT:", b"CONNECTION:", b"REFERER:", b"CONTENT-LENGTH:")
# To a MAIL line, SIZE adds 26 octets (RFC 1870 §3), BODY 17 (RFC 6152 §2), SMTPUTF8 10 (RFC 6531 §3.4), AUTH 500
# (RFC 4954 §3). An AUTH line may have 12,288 octets (RFC 4954 §4).
_LINE_LIMITS: Final = {b"MAIL": 512 + 26 + 17 + 10 + 500, b"AUTH": 12288}


@lru_cache(maxsize=8)
def keywords(max_size: int) -> tuple[str, ...]:
    """Return the EHLO keywords of the extensions that the core itself offers."""
    return ("PIPELINING", f"SIZE {max_size}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


def is_http(verb: bytes) -> bool:
    """Return True when the client speaks HTTP, such as a browser led to our port. ``verb`` is in upper case.

    A web page can have a browser send commands of SMTP within a request. The session ends at the first line of HTTP,
    before those commands are read.
    """
    return verb in _HTTP or verb.startswith(_HTTP_FIELDS)


def has_controls(line: bytes) -> bool:
    """Return True when ``line`` contains control characters, which no command may."""
    return _CONTROLS.search(line) is not None


def with_blanks(line: bytes) -> bytes:
    """Return ``line`` with a blank for each tab, as some clients separate words.

    Behind a quotation mark tabs stay, and are refused as controls: a blank would make another mailbox of a local part.
    """
    words, mark, rest = line.partition(b'"')
    return words.replace(b"\t", b" ") + mark + rest


def line_limit(verb: bytes) -> int:
    """Return how many octets a line may have, CRLF included (RFC 5321 §4.5.3.1.4). The extensions of MAIL add to it."""
    return _LINE_LIMITS.get(verb.upper(), 512)


def unreadable(argument: str, error: AddressError, smtputf8: bool) -> Reply:
    """Return the reply to a path or parameters that cannot be parsed; 553 when that is for want of SMTPUTF8."""
    return replies.syntax_error(str(error)) if smtputf8 or argument.isascii() else replies.NEEDS_SMTPUTF8
