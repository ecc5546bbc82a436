"""The syntax of the session with a next hop: targets, answers, dot-stuffing, XFORWARD.

An ``Answer`` is a reply of the next hop to us. It has a name of its own, because ``replies.Reply`` is ours to a client.

There is no I/O and no clock here; ``connection`` has both. RFC 5321 §4.2 (replies) and §4.5.2
(dot-stuffing); RFC 2034 (enhanced status codes); RFC 3461 §4 (xtext); Postfix's XFORWARD_README.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from gatepost.ip import SocketAddress

MAX_COMMAND = 510
"""Octets of a command line without its CRLF (RFC 5321 §4.5.3.1.4: 512 with it)."""

Protocol = Literal["smtp", "lmtp"]

DEFAULT_PORTS: dict[Protocol, int] = {"smtp": 25, "lmtp": 24}

# RFC 5321 §4.2: Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF
REPLY_LINE = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL)

# RFC 2034 §4: status-code ::= class "." subject "." detail, before the text and in every line
ENHANCED_STATUS = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: +|$)")

CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# RFC 3461 §4: xchar, what stands for itself in xtext
_XCHARS = re.compile(r"[!-*,-<>-~]*")

_SHORT = 100
"""Octets of a reply that is worth remembering."""


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a next hop: ``host`` and ``port``, or the ``path`` of a Unix socket (then host is empty).

    Unlike ``ip.SocketAddress`` it has a protocol, and ``host`` may be a name.
    """

    protocol: Protocol
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``smtp://host:port``, ``lmtp://host:port`` or ``lmtp:///path/to/socket``; ports default to 25 and 24.

        Raises ValueError with a sentence that tells what is wrong and what is allowed.
        """
        try:
            return cls._of(text)
        except ValueError as error:
            forms = "smtp://host:port, lmtp://host:port or lmtp:///path/to/socket"
            raise ValueError(f"{text!r} is no next hop: {error}; write {forms}") from None

    @classmethod
    def _of(cls, text: str) -> Target:
        if " " in text or CONTROL.search(text):
            raise ValueError("it holds a blank or a control character")
        parts = urlsplit(text)
        if parts.scheme not in DEFAULT_PORTS or "://" not in text:
            raise ValueError("it does not begin with smtp:// or lmtp://")
        protocol = parts.scheme
        if parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("it has more than a host and a port, or a path")
        if not parts.hostname:
            if parts.netloc or protocol == "smtp" or parts.path in ("", "/"):
                raise ValueError("the host is missing")
            return cls(protocol, path=parts.path)
        if parts.path or parts.port == 0:
            raise ValueError("a path may not follow a host" if parts.path else "port 0 cannot be connected to")
        parts.hostname.encode("idna")
        return cls(protocol, parts.hostname, parts.port or DEFAULT_PORTS[protocol])

    def __str__(self) -> str:
        return f"{self.protocol}://{self.path or SocketAddress(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a next hop: ``code``, enhanced ``status`` or None, and the ``text`` of all lines joined.

    The text is ASCII without control characters, so it can be logged and passed on as it is. Characters outside ASCII
    are escaped, not replaced as ``decisions.printable`` does: an administrator may have to read them.
    """

    code: int
    status: str | None
    text: str

    @classmethod
    def of(cls, code: int, lines: Sequence[str]) -> Answer:
        """Make an answer from the text of its lines. A status that contradicts the code stays part of the text."""
        status, texts = None, []
        for line in lines:
            found = ENHANCED_STATUS.match(line)
            if found and found[1][0] == str(code)[0]:
                status = found[1]
                line = line[found.end() :]
            texts.append(line)
        text = CONTROL.sub(" ", " ".join(texts)).encode("ascii", "backslashreplace").decode("ascii")
        return cls(code, status, text.strip())

    @property
    def is_positive(self) -> bool:
        """True when the command was carried out (2xx)."""
        return 200 <= self.code < 300

    @property
    def is_temporary(self) -> bool:
        """True for a temporary refusal (4xx)."""
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        """True for a permanent refusal (5xx)."""
        return 500 <= self.code < 600

    def __str__(self) -> str:
        return " ".join(part for part in (str(self.code), self.status, self.text) if part)


def take_reply(received: bytearray) -> Answer | None:
    """Remove the first reply from ``received`` and return it, or None if incomplete. Raises ValueError if malformed."""
    end = received.find(b"\n")
    if 0 <= end <= _SHORT and received[3:4] != b"-":
        line = bytes(received[:end])
        del received[: end + 1]
        return _answer_of(line)
    lines: list[str] = []
    start = 0
    while end >= 0:
        code, is_last, text = _reply_line(bytes(received[start:end]))
        lines.append(text)
        start = end + 1
        if is_last:
            del received[:start]
            return Answer.of(code, lines)
        end = received.find(b"\n", start)
    return None


@lru_cache(maxsize=64)
def _answer_of(line: bytes) -> Answer:
    """Return the reply that is one short line: most are, and most are the same as for the message before."""
    code, _, text = _reply_line(line)
    return Answer.of(code, [text])


def _reply_line(line: bytes) -> tuple[int, bool, str]:
    """Return code and text of one line of a reply, and whether it is the last. Raises ValueError if malformed."""
    found = REPLY_LINE.fullmatch(line.removesuffix(b"\r"))
    if found is None:
        raise ValueError(f"it answered what is no SMTP reply: {line[:80]!r}")
    return int(found[1]), found[2] != b"-", (found[3] or b"").decode("utf-8", "surrogateescape")


class DotStuffing:
    """Dot-stuffing across block boundaries (RFC 5321 §4.5.2). The content must have CRLF line ends."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        # Content begins at the start of a line, as if a line had just ended.
        self._tail = b"\r\n"

    def feed(self, block: bytes) -> bytes:
        """Return the block dot-stuffed."""
        joined = self._tail + block
        kept = len(self._tail)
        self._tail = joined[-2:]
        return joined.replace(b"\r\n.", b"\r\n..")[kept:]

    def end(self) -> bytes:
        """Return the final dot, after a line end if the content did not end with one."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"


def xforward_lines(attributes: Mapping[str, str]) -> Iterator[str]:
    """Return the attributes as XFORWARD commands, each short enough for a command line."""
    line = "XFORWARD"
    for name, value in attributes.items():
        if name == "ADDR" and ":" in value and not value.upper().startswith("IPV6:"):
            value = f"IPV6:{value}"
        part = f" {name}={_xtext(value or '[UNAVAILABLE]')}"
        if len(line) + len(part) > MAX_COMMAND and line != "XFORWARD":
            yield line
            line = "XFORWARD"
        line += part
    if attributes:
        yield line


def _xtext(text: str) -> str:
    """Return ``text`` as xtext: "+", "=" and all but printable ASCII as "+" and two hex digits (RFC 3461 §4)."""
    if _XCHARS.fullmatch(text):
        return text
    return "".join(
        chr(octet) if 33 <= octet <= 126 and octet not in b"+=" else f"+{octet:02X}" for octet in text.encode()
    )
