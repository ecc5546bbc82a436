"""Trace fields: the Received field that we add, and forged Authentication-Results that we remove.

RFC 5321 §4.4 (Received), RFC 6531 §4.3 (UTF8SMTP), RFC 8601 §5 (results that claim to be ours).
"""

from __future__ import annotations

import datetime
import email.utils
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from gatepost.message import Message, printable_utf8, put_first
from gatepost.session import Envelope, Session

if TYPE_CHECKING:
    from gatepost.runtime import Runtime

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9.:\[\]_-]")
RESULTS: Final = "Authentication-Results"
SEARCHED: Final = 1000
"""How many characters into the field the authserv-id is looked for."""


def add_received(message: Message, session: Session, envelope: Envelope, runtime: Runtime) -> None:
    """Put our Received field in front. Names that the client gave itself keep only harmless characters."""
    helo = _harmless(session.helo) or "unknown"
    client = f"IPv6:{session.client}" if ":" in session.client else session.client
    protocol = ("UTF8SMTP" if envelope.smtputf8 else "ESMTP") if session.esmtp else "SMTP"
    recipients = envelope.recipients
    # With several recipients the field would show each of them the others, blind copies too (RFC 5321 §7.2).
    only = f"\r\n\tfor <{printable_utf8(str(recipients[0]))}>" if len(recipients) == 1 else ""
    name = _harmless(session.known_name)
    field = (
        f"Received: from {helo} ({name} [{client}])\r\n"
        f"\tby {runtime.hostname} (gatepost) with {protocol} id {envelope.id}{only};\r\n"
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


def forget_forged_results(message: Message, hostname: str) -> None:
    """Remove the Authentication-Results that bear our name: we did not write them (RFC 8601 §5)."""
    for index, value in enumerate(message.headers.get_all(RESULTS)):
        name = _authserv_id(value)
        if name is None or name.rstrip(".").lower() == hostname.lower():  # a hidden name may be ours
            message.remove(RESULTS, index)


def _authserv_id(value: str) -> str | None:
    """Return the authserv-id of these results (RFC 8601 §2.2): the first word outside of comments, which may be nested.

    None when it is not in the first 1,000 characters. A line has no more, and searching the whole of a large header
    block would keep all other clients waiting.
    """
    depth, text, is_whole = 0, "", len(value) <= SEARCHED
    for character in value[:SEARCHED]:
        if character == ";" and not depth:
            is_whole = True
            break
        depth += (character == "(") - (character == ")" and depth > 0)
        text += " " if depth or character == ")" else character
    word = re.search(r"\S+", text)
    if not is_whole and (word is None or word.end() == len(text)):
        return None
    return word[0].strip('"') if word else ""
