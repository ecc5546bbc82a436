"""Trace fields: the Received field that we add, and forged Authentication-Results that we remove.

RFC 5321 §4.4 (Received), RFC 6531 §4.3 (UTF8SMTP), RFC 8601 §5 (results that claim to be ours).
"""

from __future__ import annotations

import datetime
import email.utils
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from gatepost.message import Message, leave_out, printable_utf8, put_first
from gatepost.session import Envelope, Session

if TYPE_CHECKING:
    from gatepost.runtime import Runtime

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9.:\[\]_-]")
RESULTS: Final = "Authentication-Results"
SEARCHED: Final = 1000
"""How many octets into the field the authserv-id is looked for. A line has no more."""
_TOKEN: Final = re.compile(r"[();]|[^\s();]+")
_MOST_TOKENS: Final = 50
"""Parts of comments before the authserv-id. A header may have 1,000 fields, and all clients wait."""


def add_received(message: Message, session: Session, envelope: Envelope, runtime: Runtime) -> None:
    """Put our Received field in front. Names that the client gave itself keep only harmless characters."""
    helo = _harmless(session._helo) or "unknown"
    client = f"IPv6:{session._client}" if ":" in session._client else session._client
    protocol = ("UTF8SMTP" if envelope._smtputf8 else "ESMTP") if session._esmtp else "SMTP"
    recipients = envelope._recipients
    # With several recipients the field would show each of them the others, blind copies too (RFC 5321 §7.2).
    only = f"\r\n\tfor <{printable_utf8(str(recipients[0]))}>" if len(recipients) == 1 else ""
    name = _harmless(session.known_name)
    field = (
        f"Received: from {helo} ({name} [{client}])\r\n"
        f"\tby {runtime.hostname} (gatepost) with {protocol} id {envelope._id}{only};\r\n"
        f"\t{_date(int(runtime.clock.now()))}\r\n"
    )
    put_first(message, field.encode())


@lru_cache(maxsize=256)
def _harmless(name: str) -> str:
    """Return a name that a client gave itself, as it may stand in a header field."""
    return _UNSAFE.sub("?", name)[:255]


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """Return a second since the epoch in the form of RFC 5322 §3.3. Many messages come in the same second."""
    return email.utils.format_datetime(datetime.datetime.fromtimestamp(second, datetime.UTC))


def forget_forged_results(message: Message, runtime: Runtime) -> None:
    """Remove the Authentication-Results that bear our name or one of ``trusted_results`` (RFC 8601 §5).

    Neither we nor a server behind us has written them: the message comes from a client.
    """
    names = runtime.trusted_results | {runtime.hostname.lower()}
    leave_out(message, RESULTS, unwanted=lambda value: _is_forged(value, names))


def _is_forged(value: bytes, names: frozenset[str]) -> bool:
    name = _authserv_id(value)
    return name is None or name.rstrip(".").lower() in names  # a hidden name may be ours


def _authserv_id(value: bytes) -> str | None:
    """Return the authserv-id of these results (RFC 8601 §2.2): the first word outside of comments, which may be nested.

    None when it is hidden: far into the field, behind comments of many parts or with quoted characters, or as an
    encoded word, which some might decode.
    """
    depth = 0
    text = value[:SEARCHED].decode("utf-8", "replace")
    for count, token in enumerate(_TOKEN.finditer(text)):
        part = token[0]
        if count == _MOST_TOKENS or "\\" in part:
            return None
        if part == "(":
            depth += 1
        elif part == ")":
            depth -= depth > 0
        elif depth == 0:
            is_cut = token.end() == len(text) and len(value) > SEARCHED
            return None if is_cut or "=?" in part else part.strip('";')
    return "" if len(value) <= SEARCHED else None
