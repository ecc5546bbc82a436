"""What a plugin may say, and the reply that the client gets for it.

``accept``, ``deny``, ``defer`` and ``points`` make a ``Decision``, a frozen value that is checked where it is made: its
text cannot carry CR, LF, NUL or other control octets to the wire, and its code agrees with its enhanced status.
``Reply`` is one SMTP reply with its octets. Every reply code that gatepost sends is written in this module, once.

It knows nothing of plugins, sessions or sockets.
RFC 5321 §4.2 (replies, 512 octets a line: §4.5.3.1.5), RFC 3463 and RFC 2034 (enhanced status codes, repeated in every
line of a reply; none on 220, 354 and the answer to HELO and EHLO).
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

LINE_LIMIT = 512
"""Octets of a reply line, CRLF included (RFC 5321 §4.5.3.1.5)."""
TEXT_LIMIT = 4000
"""Characters of a decision's text; what is longer is cut, so that a plugin cannot flood a client."""

_SURELY_ONE_LINE = LINE_LIMIT - len("250-5.999.999 \r\n")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_NOT_ASCII = re.compile(r"[^\x20-\x7e]")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)


class Action(Enum):
    """The four things a plugin can say. To say nothing is ``None``."""

    ACCEPT = "accept"
    DENY = "deny"
    DEFER = "defer"
    POINTS = "points"


_DENY, _DEFER = Action.DENY, Action.DEFER  # asked for several times a message: an enum finds its members slowly
_CLASSES = {_DENY: 5, _DEFER: 4}


def printable(text: str) -> str:
    """``text`` as it may stand in a reply: control characters become one blank, what is not ASCII a ``?``."""
    if text.isascii() and text.isprintable():
        return text
    return _NOT_ASCII.sub("?", _CONTROLS.sub(" ", text)).strip()


def check_code(code: int | None, status: str | None, reply_class: int) -> None:
    """Raise ``ValueError`` unless code and enhanced status belong to ``reply_class`` (2, 4 or 5; RFC 3463 §3)."""
    if code is not None and code // 100 != reply_class:
        raise ValueError(f"reply code {code} is not {reply_class}xx")
    if status is not None and not (_STATUS.fullmatch(status) and int(status[0]) == reply_class):
        raise ValueError(f"enhanced status {status!r} is not {reply_class}.x.y")


@dataclass(frozen=True, slots=True)
class Decision:
    """One answer of a plugin. Made by ``accept``, ``deny``, ``defer`` or ``points``, and never changed."""

    action: Action
    text: str = ""
    code: int | None = None
    status: str | None = None
    disconnect: bool = False
    number: float = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", printable(self.text)[:TEXT_LIMIT])
        if self.code is not None or self.status is not None:
            check_code(self.code, self.status, _CLASSES.get(self.action, 2))

    @property
    def refuses(self) -> bool:
        """True for deny and defer."""
        return self.action is _DENY or self.action is _DEFER

    @property
    def permanent(self) -> bool:
        """True for deny."""
        return self.action is Action.DENY

    def __str__(self) -> str:
        if self.action is Action.POINTS:
            return f"points {self.number:+g}: {self.text}"
        numbers = " ".join(str(part) for part in (self.code, self.status) if part)
        return " ".join(part for part in (self.action.value, numbers, self.text) if part)


def accept(text: str = "") -> Decision:
    """Decide this phase in the client's favour; later plugins of the phase are not asked.

    At rcpt, auth and queue it means more and needs a grant: "this recipient is ours", "these credentials are right",
    "I have taken responsibility for this message". At rcpt the others are still asked.
    """
    return Decision(Action.ACCEPT, text)


def deny(text: str, code: int | None = None, status: str | None = None, disconnect: bool = False) -> Decision:
    """Refuse for good, with the phase's own code unless ``code`` (5xx) and ``status`` (5.x.y) are given.

    ``disconnect`` closes after the reply. Raises ``ValueError`` when code or status are of another class.
    """
    return Decision(Action.DENY, text, code, status, disconnect)


def defer(text: str, code: int | None = None, status: str | None = None, disconnect: bool = False) -> Decision:
    """Refuse for now, with the phase's own code unless ``code`` (4xx) and ``status`` (4.x.y) are given.

    ``disconnect`` closes after the reply, which is then 421 in every phase. Raises ``ValueError`` as ``deny`` does.
    """
    return Decision(Action.DEFER, text, code, status, disconnect)


def points(number: float, reason: str) -> Decision:
    """Give evidence instead of a verdict: ``number`` points against the client, negative ones for it.

    The next plugin is asked. The same reason of the same plugin counts once in its scope. Nought points leave
    ``reason`` in the record and change nothing.
    """
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number or abs(number) > 1e6:
        raise ValueError(f"points must be a number, not {number!r}")
    return Decision(Action.POINTS, reason, number=number)


@dataclass(slots=True, unsafe_hash=True)
class Reply:
    """One SMTP reply: a code, its lines, and whether the connection is closed after it.

    ``wire`` holds its octets. A text too long for one line becomes several. It is never changed once it is made (not
    frozen, which would make it twice as slow to make).
    """

    code: int
    text: str | tuple[str, ...] = ""
    status: str | None = None
    close: bool = False
    wire: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        prefix = f"{self.status} " if self.status else ""
        if isinstance(self.text, str) and len(self.text) < _SURELY_ONE_LINE:
            self.wire = f"{self.code} {prefix}{printable(self.text)}\r\n".encode("ascii")
            return
        lines = self.lines(LINE_LIMIT - len("250-\r\n") - len(prefix))
        separators = ["-"] * (len(lines) - 1) + [" "]
        text = "".join(f"{self.code}{mark}{prefix}{line}\r\n" for mark, line in zip(separators, lines, strict=True))
        self.wire = text.encode("ascii")

    def lines(self, width: int = LINE_LIMIT) -> list[str]:
        """The text, cut into lines of at most ``width`` characters."""
        texts = (self.text,) if isinstance(self.text, str) else self.text
        return [line for text in texts for line in (_fold(printable(text), width))]


def _fold(text: str, width: int) -> list[str]:
    return [text] if len(text) <= width else textwrap.wrap(text, width) or [""]


@dataclass(frozen=True, slots=True)
class PhaseCodes:
    """The codes with which a phase says deny and defer when the plugin names none of its own."""

    deny: tuple[int, str] = (550, "5.7.1")
    defer: tuple[int, str] = (450, "4.7.1")


PHASE_CODES: dict[str, PhaseCodes] = {
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


NOT_VOUCHED = defer("nobody here answers for this recipient")
"""No plugin vouched for a recipient: never an open relay, and temporary, since it is our configuration's fault."""
NOBODY_TOOK_IT = defer("nobody took the message, try again later")
"""No plugin took responsibility for a recipient of the message."""


def refusal(phase: str, decision: Decision, identifier: str) -> Reply:
    """The reply for a deny or defer of ``phase``; ``identifier`` is the id of its record, shown at the end."""
    codes = PHASE_CODES[phase]
    code, status = codes.deny if decision.permanent else codes.defer
    if decision.disconnect and not decision.permanent:
        code, status = 421, "4.7.0"
    else:
        code = decision.code or code
    status = f"{code // 100}{(decision.status or status)[1:]}"  # starttls says 454 to a deny too
    text = decision.text or ("refused" if decision.permanent else "try again later")
    return Reply(code, f"{text} [{identifier}]", status, decision.disconnect or phase == "connect")


# Replies of the core itself, by name. Where a text depends on the case, a function makes it.

OK = Reply(250, "OK", "2.0.0")
SENDER_OK = Reply(250, "sender OK", "2.1.0")
RECIPIENT_OK = Reply(250, "recipient OK", "2.1.5")
START_DATA = Reply(354, "end data with <CR><LF>.<CR><LF>")
BYE = Reply(221, "bye", "2.0.0", close=True)
HELP = Reply(214, "HELO EHLO MAIL RCPT DATA RSET NOOP VRFY HELP QUIT", "2.0.0")
CANNOT_VERIFY = Reply(252, "cannot verify, send mail and see", "2.1.5")
NO_EXPN = Reply(502, "EXPN is not available", "5.5.1")

LINE_TOO_LONG = Reply(500, "line too long", "5.5.2")
NO_NEWLINE = Reply(421, "line without end", "4.5.2", close=True)
UNKNOWN_COMMAND = Reply(500, "command not recognized", "5.5.1")
TOO_MANY_UNKNOWN = Reply(421, "too many unknown commands", "4.7.0", close=True)
NOT_SMTP = Reply(421, "this is a mail server", "4.7.0", close=True)
TOO_MUCH_NOISE = Reply(421, "too many commands without mail", "4.7.0", close=True)
TOO_MANY_REFUSALS = Reply(421, "too many refused commands", "4.7.0", close=True)
TOO_MANY_CONNECTIONS = Reply(421, "too many connections", "4.7.0", close=True)
BAD_OCTETS = Reply(501, "control characters in command", "5.5.2")
NEED_HELO = Reply(503, "send HELO or EHLO first", "5.5.1")
NEED_MAIL = Reply(503, "send MAIL first", "5.5.1")
NEED_RCPT = Reply(503, "send RCPT first", "5.5.1")
NESTED_MAIL = Reply(503, "sender already given", "5.5.1")
NEEDS_HOSTNAME = Reply(501, "hostname required", "5.5.4")
NO_ARGUMENT = Reply(501, "no argument allowed", "5.5.4")
NEEDS_ARGUMENT = Reply(501, "argument required", "5.5.4")
NEEDS_SMTPUTF8 = Reply(553, "address needs SMTPUTF8", "5.6.7")
BAD_SIZE = Reply(501, "SIZE is not a number of octets", "5.5.4")
BAD_BODY = Reply(501, "BODY is neither 7BIT nor 8BITMIME", "5.5.4")
UNKNOWN_PARAMETER = Reply(555, "parameter not recognized", "5.5.4")
TOO_BIG = Reply(552, "message too big", "5.3.4")
TOO_MANY_RECIPIENTS = Reply(452, "too many recipients", "4.5.3")
NO_ROOM = Reply(452, "no room for mail at the moment", "4.3.1")

HEADERS_TOO_BIG = Reply(552, "headers too big", "5.3.4")
MAIL_LOOP = Reply(554, "too many Received headers, this mail loops", "5.4.6")
TEXT_LINE_TOO_LONG = Reply(554, "text line too long", "5.6.0")
BARE_LINE_END = Reply(550, "bare CR or LF in message", "5.6.0", close=True)
NUL_IN_MESSAGE = Reply(550, "NUL in message", "5.6.0", close=True)

IDLE = Reply(421, "idle too long", "4.4.2", close=True)
DATA_TOO_SLOW = Reply(421, "data too slow", "4.4.2", close=True)
SESSION_TOO_LONG = Reply(421, "session too long", "4.4.2", close=True)
STOPPING = Reply(421, "service stopping, try again later", "4.3.2", close=True)


@lru_cache(maxsize=64)
def greeting(text: str) -> Reply:
    """The banner (RFC 5321 §4.2: no enhanced status on 220)."""
    return Reply(220, text)


@lru_cache(maxsize=64)
def hello(hostname: str, keywords: tuple[str, ...] = ()) -> Reply:
    """The answer to HELO, or with ``keywords`` to EHLO (RFC 5321 §4.1.1.1)."""
    return Reply(250, (hostname, *keywords))


def syntax_error(text: str) -> Reply:
    """A path or parameter that cannot be read."""
    return Reply(501, text, "5.5.4")


def internal_error(identifier: str, *, close: bool = False) -> Reply:
    """Our own fault: always temporary, and never with the exception's text."""
    return Reply(421 if close else 451, f"local error, try again later [{identifier}]", "4.3.0", close)


def identified(reply: Reply, identifier: str) -> Reply:
    """A refusal of the core's own, with the id of its record at the end."""
    return Reply(reply.code, f"{reply.text} [{identifier}]", reply.status, reply.close)


def queued(text: str) -> Reply:
    """The message is in durable hands."""
    return Reply(250, text, "2.0.0")
