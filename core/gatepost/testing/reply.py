"""A reply as a test sees it: its numbers and text, the octets it is made of, and the ruling that led to it.

It is read back from the octets that go to the client, so that a test checks what a client would see. RFC 5321 §4.2
(replies), RFC 2034 (enhanced status codes).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from gatepost.rulings import Ruling

_IDENTIFIER = re.compile(r" \[([0-9a-hjkmnp-tv-z]{10})\]$")
_STATUS = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: |$)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reply:
    """One SMTP reply."""

    wire: bytes
    """All its octets, line ends and the id of a refusal included."""
    code: int
    status: str | None
    """The enhanced status code, such as "5.7.1"; None where a reply has none (220, 354, the answer to EHLO)."""
    text: str
    """Its text without code, status and the id of a refusal. The lines of an answer to EHLO are parted by LF."""
    id: str = ""
    """The id of a refusal, under which its record is kept; "" when there is none."""
    closed: bool = False
    """Whether the gate closes the connection after it. Not known of a reply that came through a socket: False."""
    ruling: Ruling | None = field(default=None, repr=False)
    """The ruling that led to it: ``.plugin`` decided, ``.said`` is what each plugin said. None: nobody was asked."""
    rulings: tuple[Ruling, ...] = field(default=(), repr=False)
    """Every ruling since the reply before, one for each phase that was asked."""

    @classmethod
    def read(
        cls,
        wire: bytes,
        *,
        closed: bool = False,
        ruling: Ruling | None = None,
        rulings: tuple[Ruling, ...] = (),
    ) -> Reply:
        """Read a whole reply. Raises ``ValueError`` when the octets are none."""
        lines = [line[4:] for line in wire.decode("ascii").splitlines()]
        if not (lines and wire[:3].isdigit()):
            raise ValueError(f"this is no reply: {wire!r}")
        found = _STATUS.match(lines[0])
        status = found[1] if found else None
        # A long text is folded into lines at its blanks; the lines of EHLO are lines.
        text = " ".join(line[len(status) + 1 :] for line in lines) if status else "\n".join(lines)
        named = _IDENTIFIER.search(text)
        text, identifier = (text[: named.start()], named[1]) if named else (text, "")
        return cls(wire, int(wire[:3]), status, text, identifier, closed, ruling, rulings)

    @property
    def accepted(self) -> bool:
        """Whether this is a positive answer: 2xx or 354."""
        return self.code < 400

    def __str__(self) -> str:
        return self.wire.decode("ascii").rstrip("\r\n")
