"""The replies to clients: every reply code that gatepost sends is written here, once.

``Reply`` is an SMTP reply with its octets. ``refusal`` makes one from a plugin's deny or defer.

This module does not know plugins, sessions or sockets.
RFC 5321 §4.2 (replies, 512 octets a line: §4.5.3.1.5), RFC 3463 and RFC 2034 (enhanced status codes, repeated in every
line of a reply, but not in 220, 354 and the reply to HELO and EHLO).
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gatepost.decisions import Decision, printable

LINE_LIMIT: Final = 512
"""Octets of a reply line, CRLF included (RFC 5321 §4.5.3.1.5)."""

# ``printable`` makes no text longer, so the length of a text as it is tells that it fits one line.
_SURELY_ONE_LINE: Final = LINE_LIMIT - len("250-5.999.999 \r\n")


class Reply:
    """One SMTP reply: a code, its lines, and whether the connection is closed after it.

    ``wire`` is the reply as octets. A text that is too long for one line is split. ``id`` is the id at the end of a
    refusal, under which its record or our fault is found; "" when there is none. A reply must not be changed. It is
    not a frozen dataclass, because mypyc would not compile the constructor of one.
    """

    __slots__ = ("close", "code", "id", "status", "text", "wire")

    def __init__(
        self,
        code: int,
        text: str | tuple[str, ...] = "",
        status: str | None = None,
        close: bool = False,
        identifier: str = "",
    ) -> None:
        self.code = code
        self.text = text
        self.status = status
        self.close = close
        self.id = identifier
        prefix = f"{status} " if status else ""
        if isinstance(text, str) and len(text) < _SURELY_ONE_LINE:
            self.wire = f"{code} {prefix}{printable(text)}\r\n".encode("ascii")
            return
        # A text that may need several lines, such as the reply to EHLO or a long reason of a plugin.
        lines = self.lines(LINE_LIMIT - len("250-\r\n") - len(prefix))
        separators = ["-"] * (len(lines) - 1) + [" "]
        whole = "".join(f"{code}{mark}{prefix}{line}\r\n" for mark, line in zip(separators, lines, strict=True))
        self.wire = whole.encode("ascii")

    def __repr__(self) -> str:
        return f"Reply({self.wire!r}, close={self.close})"

    def lines(self, width: int = LINE_LIMIT) -> list[str]:
        """Return the text as printable lines of at most ``width`` characters."""
        texts = (self.text,) if isinstance(self.text, str) else self.text
        lines: list[str] = []
        for text in map(printable, texts):
            lines += [text] if len(text) <= width else textwrap.wrap(text, width) or [""]
        return lines


@dataclass(frozen=True, slots=True)
class PhaseCodes:
    """The reply codes of a phase for deny and defer, when the plugin does not choose its own."""

    deny: tuple[int, str] = (550, "5.7.1")
    defer: tuple[int, str] = (450, "4.7.1")


PHASE_CODES: Final[dict[str, PhaseCodes]] = {
    "connect": PhaseCodes((554, "5.7.1"), (421, "4.7.0")),
    "helo": PhaseCodes(),
    "starttls": PhaseCodes((454, "4.7.0"), (454, "4.7.0")),
    "auth": PhaseCodes((535, "5.7.8"), (454, "4.7.0")),
    "mail": PhaseCodes(),
    "rcpt": PhaseCodes(),
    "data": PhaseCodes((554, "5.7.1"), (451, "4.7.1")),
    "headers": PhaseCodes((550, "5.7.1"), (451, "4.7.1")),
    "message": PhaseCodes((550, "5.7.1"), (451, "4.7.1")),
    "queue": PhaseCodes((554, "5.7.1"), (451, "4.3.0")),
    "vrfy": PhaseCodes((550, "5.7.1"), (450, "4.7.1")),
    "help": PhaseCodes((502, "5.7.1"), (450, "4.7.1")),
    "noop": PhaseCodes((500, "5.7.1"), (450, "4.7.1")),
    "unknown_command": PhaseCodes((500, "5.5.1"), (450, "4.7.1")),
}


def refusal(phase: str, decision: Decision, identifier: str) -> Reply:
    """Return the reply to a deny or defer in ``phase``. ``identifier`` is the id of its record, shown at the end."""
    codes = PHASE_CODES[phase]
    code, status = codes.deny if decision.permanent else codes.defer
    if decision.disconnect and not decision.permanent:
        # 421 is the only temporary code that announces the end of the connection (RFC 5321 §3.8).
        code, status = 421, "4.7.0"
    else:
        code = decision.code or code
    status = f"{code // 100}{(decision.status or status)[1:]}"  # the code decides: starttls has 454 for a deny as well
    text = decision.text or ("refused" if decision.permanent else "try again later")
    # RFC 5321 §3.1 would have us wait for the QUIT of a client that is refused at connect. We close, as postscreen and
    # Haraka do.
    return Reply(code, f"{text} [{identifier}]", status, decision.disconnect or phase == "connect", identifier)


# The replies of the core. Functions make those with a variable text.

OK: Final = Reply(250, "OK", "2.0.0")
SENDER_OK: Final = Reply(250, "sender OK", "2.1.0")
RECIPIENT_OK: Final = Reply(250, "recipient OK", "2.1.5")
START_DATA: Final = Reply(354, "end data with <CR><LF>.<CR><LF>")
BYE: Final = Reply(221, "bye", "2.0.0", close=True)
HELP: Final = Reply(214, "HELO EHLO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT", "2.0.0")
CANNOT_VERIFY: Final = Reply(252, "cannot verify, send mail and see", "2.1.5")
NO_EXPN: Final = Reply(502, "EXPN is not available", "5.5.1")

LINE_TOO_LONG: Final = Reply(500, "line too long", "5.5.2")
NO_NEWLINE: Final = Reply(421, "line without end", "4.5.2", close=True)
UNKNOWN_COMMAND: Final = Reply(500, "command not recognized", "5.5.1")
TOO_MANY_UNKNOWN: Final = Reply(421, "too many unknown commands", "4.7.0", close=True)
NOT_SMTP: Final = Reply(421, "this is a mail server", "4.7.0", close=True)
TOO_MUCH_NOISE: Final = Reply(421, "too many commands without mail", "4.7.0", close=True)
TOO_MANY_REFUSALS: Final = Reply(421, "too many refused commands", "4.7.0", close=True)
TOO_MANY_CONNECTIONS: Final = Reply(421, "too many connections", "4.7.0", close=True)
BAD_OCTETS: Final = Reply(501, "control characters in command", "5.5.2")
NOT_UTF8: Final = Reply(501, "octets in command are neither ASCII nor UTF-8", "5.5.2")
NEED_HELO: Final = Reply(503, "send HELO or EHLO first", "5.5.1")
NEED_MAIL: Final = Reply(503, "send MAIL first", "5.5.1")
NEED_RCPT: Final = Reply(503, "send RCPT first", "5.5.1")
NESTED_MAIL: Final = Reply(503, "sender already given", "5.5.1")
NEEDS_HOSTNAME: Final = Reply(501, "hostname required", "5.5.4")
NO_ARGUMENT: Final = Reply(501, "no argument allowed", "5.5.4")
NEEDS_ARGUMENT: Final = Reply(501, "argument required", "5.5.4")
NEEDS_SMTPUTF8: Final = Reply(553, "address needs SMTPUTF8", "5.6.7")
BAD_SIZE: Final = Reply(501, "SIZE is not a number of octets", "5.5.4")
BAD_BODY: Final = Reply(501, "BODY is neither 7BIT nor 8BITMIME", "5.5.4")
UNKNOWN_PARAMETER: Final = Reply(555, "parameter not recognized", "5.5.4")
TOO_BIG: Final = Reply(552, "message too big", "5.3.4")
TOO_MANY_RECIPIENTS: Final = Reply(452, "too many recipients", "4.5.3")
COMES_ALONE: Final = Reply(452, "send to this recipient in a transaction of its own", "4.5.3")
SENT_AHEAD: Final = Reply(421, "no room for what you send ahead, try again later", "4.3.1", close=True)
NO_ROOM: Final = Reply(452, "no room for mail at the moment", "4.3.1")

HEADERS_TOO_BIG: Final = Reply(552, "headers too big", "5.3.4")
MAIL_LOOP: Final = Reply(554, "too many Received headers, this mail loops", "5.4.6")
TEXT_LINE_TOO_LONG: Final = Reply(554, "text line too long", "5.6.0")
BARE_LINE_END: Final = Reply(550, "bare CR or LF in message", "5.6.0", close=True)
NUL_IN_MESSAGE: Final = Reply(550, "NUL in message", "5.6.0", close=True)

IDLE: Final = Reply(421, "idle too long", "4.4.2", close=True)
DATA_TOO_SLOW: Final = Reply(421, "data too slow", "4.4.2", close=True)
SESSION_TOO_LONG: Final = Reply(421, "session too long", "4.4.2", close=True)
STOPPING: Final = Reply(421, "service stopping, try again later", "4.3.2", close=True)


@lru_cache(maxsize=64)
def greeting(text: str) -> Reply:
    """Return the greeting (RFC 5321 §4.2: 220 has no enhanced status code)."""
    return Reply(220, text)


@lru_cache(maxsize=64)
def hello(hostname: str, keywords: tuple[str, ...] = ()) -> Reply:
    """Return the reply to HELO, or with ``keywords`` to EHLO (RFC 5321 §4.1.1.1)."""
    return Reply(250, (hostname, *keywords))


def syntax_error(text: str) -> Reply:
    """Return the reply to a path or parameter that cannot be parsed."""
    return Reply(501, text, "5.5.4")


def internal_error(identifier: str, *, close: bool = False) -> Reply:
    """Return the reply to a fault of ours: always temporary, and never with the text of an exception."""
    return Reply(421 if close else 451, f"local error, try again later [{identifier}]", "4.3.0", close, identifier)


def identified(reply: Reply, identifier: str) -> Reply:
    """Return a refusal of the core with the id of its record at the end."""
    return Reply(reply.code, f"{reply.text} [{identifier}]", reply.status, reply.close, identifier)


def queued(text: str) -> Reply:
    """Return the reply to a message for which a plugin has taken responsibility."""
    return Reply(250, text, "2.0.0")
