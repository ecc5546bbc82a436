"""A reply as a test sees it: its codes and text, its octets, and the ruling that led to it.

It is parsed from the octets for the client, so that a test checks exactly what a client gets. RFC 5321 §4.2 (replies),
RFC 2034 (enhanced status codes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gatepost.rulings import Ruling

_IDENTIFIER = re.compile(r" \[([0-9a-hjkmnp-tv-z]{10})\]$")
_STATUS = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reply:
    """An SMTP reply."""

    wire: bytes
    """All octets, including line ends and the id of a refusal."""
    code: int
    status: str | None
    """The enhanced status code, such as "5.7.1"; None for replies without one (220, 354, the reply to EHLO)."""
    text: str
    """The text without code, status and the id of a refusal. LF separates the lines of a reply to EHLO."""
    id: str = ""
    """The id of a refusal, which is also that of its record; "" for other replies."""
    closed: bool = False
    """True when the server closes the connection after it. Always False for a reply through a socket."""
    ruling: Ruling | None = field(default=None, repr=False)
    """The ruling that led to it: ``.plugin`` decided, ``.said`` has all decisions. None if no plugin was asked."""
    rulings: tuple[Ruling, ...] = field(default=(), repr=False)
    """All rulings since the last reply, one for each phase."""

    @classmethod
    def read(
        cls,
        wire: bytes,
        *,
        closed: bool = False,
        ruling: Ruling | None = None,
        rulings: tuple[Ruling, ...] = (),
    ) -> Reply:
        """Parse a complete reply. Raises ``ValueError`` when the octets are not a reply."""
        lines = [line[4:] for line in wire.decode("ascii").splitlines()]
        if not (lines and wire[:3].isdigit()):
            raise ValueError(f"not a reply: {wire!r}")
        found = _STATUS.match(lines[0])
        status = found[1] if found else None
        # A long text was folded at blanks. A reply without a status, as to EHLO, is a list of lines.
        text = " ".join(line[len(status) + 1 :] for line in lines) if status else "\n".join(lines)
        named = _IDENTIFIER.search(text)
        text, identifier = (text[: named.start()], named[1]) if named else (text, "")
        return cls(wire, int(wire[:3]), status, text, identifier, closed, ruling, rulings)

    @property
    def accepted(self) -> bool:
        """True for a positive reply: 2xx or 354."""
        return self.code < 400

    def __str__(self) -> str:
        return self.wire.decode("ascii").rstrip("\r\n")
