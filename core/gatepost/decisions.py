"""The decisions of plugins.

``accept``, ``deny``, ``defer`` and ``points`` make a ``Decision``, a frozen value that is checked when it is made: its
text cannot carry CR, LF, NUL or other control octets to the wire, and its code agrees with its enhanced status code.
``replies`` turns it into a reply.

This module does not know plugins, sessions or sockets. RFC 5321 §4.2 (reply codes), RFC 3463 (enhanced status codes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

TEXT_LIMIT = 4000
"""The most characters in the text of a decision. The rest is cut off, so that a plugin cannot flood a client."""

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
_NOT_ASCII = re.compile(r"[^\x20-\x7e]")
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)


class Action(Enum):
    """The four kinds of decision. A plugin that has nothing to say returns ``None``."""

    ACCEPT = "accept"
    DENY = "deny"
    DEFER = "defer"
    POINTS = "points"


# Read several times per message; attribute access on an Enum class is slow.
_DENY, _DEFER = Action.DENY, Action.DEFER
_CLASSES = {_DENY: 5, _DEFER: 4}


def printable(text: str) -> str:
    """Return ``text`` fit for a reply: ASCII, each run of control characters as one blank, other characters as ``?``.

    Every medium needs a function of its own, because the harm that a text can do is different:

    * a reply: this one. Clients may read ASCII only, and a line end would begin another reply.
    * a header field: ``message.printable_utf8``. UTF-8 is allowed there (RFC 6532). Names in a Received field lose all
      characters that do not occur in host names as well (``conversation.trace_fields``).
    * a terminal and a log: ``telemetry.escaped`` and ``json_line``. Administrators must see what was sent, so
      characters are escaped and not replaced. ``gatepost config`` writes TOML, which has escapes of its own.
    * DNS records: ``services.dns.message``. Plugins compare them, in the form of RFC 1035 §5.1.
    * an answer of the next hop: ``services.next_hop.syntax.Answer``, for a log and a reply at the same time.
    """
    if text.isascii() and text.isprintable():
        return text
    return _NOT_ASCII.sub("?", _CONTROLS.sub(" ", text)).strip()


def check_code(code: int | None, status: str | None, reply_class: int) -> None:
    """Raise ``ValueError`` unless code and enhanced status code belong to ``reply_class`` (2, 4 or 5; RFC 3463 §3)."""
    if code is not None and code // 100 != reply_class:
        other = {(5, 4): "; use defer", (4, 5): "; use deny"}.get((reply_class, code // 100), "")
        raise ValueError(f"reply code {code} is not {reply_class}xx{other}")
    if status is not None and not (_STATUS.fullmatch(status) and int(status[0]) == reply_class):
        raise ValueError(f"enhanced status {status!r} is not {reply_class}.x.y")


@dataclass(frozen=True, slots=True)
class Decision:
    """The decision of a plugin, made by ``accept``, ``deny``, ``defer`` or ``points``."""

    action: Action
    text: str = ""
    code: int | None = None
    status: str | None = None
    disconnect: bool = False
    number: float = 0
    refuses: bool = field(init=False, repr=False, compare=False)
    """True for a deny or a defer."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", printable(self.text)[:TEXT_LIMIT])
        object.__setattr__(self, "refuses", self.action is _DENY or self.action is _DEFER)
        if self.code is not None or self.status is not None:
            check_code(self.code, self.status, _CLASSES.get(self.action, 2))

    @property
    def permanent(self) -> bool:
        """True for a deny."""
        return self.action is _DENY

    def __str__(self) -> str:
        if self.action is Action.POINTS:
            return f"points {self.number:+g}: {self.text}"
        numbers = " ".join(str(part) for part in (self.code, self.status) if part)
        return " ".join(part for part in (self.action.value, numbers, self.text) if part)


def accept(text: str = "") -> Decision:
    """Decide this phase in the client's favour; the plugins after this one are not asked in this phase.

    At rcpt, auth and queue it means more, and the plugin needs a grant: "this recipient is ours", "these credentials
    are valid", "I have taken responsibility for this message". At rcpt the other plugins are still asked.
    """
    return Decision(Action.ACCEPT, text)


def deny(text: str, code: int | None = None, status: str | None = None, disconnect: bool = False) -> Decision:
    """Refuse permanently, with the phase's own code unless ``code`` (5xx) and ``status`` (5.x.y) are given.

    ``disconnect`` closes the connection after the reply. Raises ``ValueError`` when code or status are of another
    class.
    """
    return Decision(Action.DENY, text, code, status, disconnect)


def defer(text: str, code: int | None = None, status: str | None = None, disconnect: bool = False) -> Decision:
    """Refuse temporarily, with the phase's own code unless ``code`` (4xx) and ``status`` (4.x.y) are given.

    ``disconnect`` closes the connection after the reply, which is then 421 in every phase. Raises ``ValueError`` as
    ``deny`` does.
    """
    return Decision(Action.DEFER, text, code, status, disconnect)


def points(number: float, reason: str) -> Decision:
    """Give evidence instead of a ruling: ``number`` points against the client, or for it when negative.

    The plugins after this one are asked as well. The same reason of the same plugin counts once in its scope. With zero
    points, ``reason`` is recorded and nothing else happens.
    """
    # NaN, the only number that differs from itself, would make a sum that no limit ever meets; infinity one
    # that no other evidence can outweigh.
    if isinstance(number, bool) or not isinstance(number, int | float) or number != number or abs(number) > 1e6:
        raise ValueError(f"points must be a number, not {number!r}")
    return Decision(Action.POINTS, reason, number=number)


NOT_VOUCHED = defer("nobody here answers for this recipient")
"""No plugin vouched for a recipient. Refused, never an open relay; temporarily, as our configuration is at fault."""
CLIENT_LEFT = defer("the client left before the message was handed over", 451, "4.4.2")
"""The client was lost before the point of no return of the handover. Nobody hears it; the record has it."""
NOBODY_TOOK_IT = defer("nobody took the message, try again later")
"""No plugin took responsibility for a recipient of the message."""
