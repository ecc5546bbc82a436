"""What a command line may look like, before anybody is asked about what it says.

Lines that are no SMTP, octets that no command holds, how long a line may be, and the parameters of MAIL. It knows no
session and no order of commands: see ``conversation``.

RFC 5321 §4.1.2 (syntax), §4.5.3.1.4 (length of a line); RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8),
RFC 2920 §3.1 (who may pipeline what).
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
"""Commands that bring no mail."""

_CONTROLS: Final = re.compile(rb"[\x00-\x1f\x7f]")
_HTTP: Final = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"CONNECT", b"PATCH", b"TRACE"})
_HTTP_FIELDS: Final = (b"HOST:", b"USER-AGENT:", b"ACCEPT:", b"CONNECTION:", b"REFERER:", b"CONTENT-LENGTH:")
# SIZE adds 26 octets (RFC 1870 §3), BODY 17 (RFC 6152 §2), SMTPUTF8 10 (RFC 6531 §3.4), AUTH 500 (RFC 4954 §3).
_LINE_LIMITS: Final = {b"MAIL": 512 + 26 + 17 + 10 + 500, b"AUTH": 12288}


@lru_cache(maxsize=8)
def keywords(max_size: int) -> tuple[str, ...]:
    """The EHLO keywords of what the core itself can do."""
    return ("PIPELINING", f"SIZE {max_size}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


def is_http(verb: bytes) -> bool:
    """True when a browser, or whoever is led by one, speaks to us. ``verb`` is in upper case."""
    return verb in _HTTP or verb.startswith(_HTTP_FIELDS)


def has_controls(line: bytes) -> bool:
    """True when there are control characters in ``line``, which no command holds."""
    return _CONTROLS.search(line) is not None


def line_limit(verb: bytes) -> int:
    """Octets a line may have, CRLF included (RFC 5321 §4.5.3.1.4). MAIL grows with what its extensions add."""
    return _LINE_LIMITS.get(verb.upper(), 512)


def unreadable(argument: str, error: AddressError, smtputf8: bool) -> Reply:
    """A path or parameters that cannot be read; with octets beyond ASCII, because nobody announced them."""
    return replies.syntax_error(str(error)) if smtputf8 or argument.isascii() else replies.NEEDS_SMTPUTF8
