"""Reading DATA block by block, as it comes from the socket.

Only CRLF.CRLF ends the data. If two servers disagree on that, as those do that take LF.CRLF for the end as well, one of
them finds a second message within the first, with an envelope that the other has never judged (SMTP smuggling). So the
reader also makes every line end canonical, and what leaves us means the same to every server. It removes dot-stuffing
and trusts no announced size: it counts octets, text lines, header fields and hops. A message that breaks a rule is read
to its true end and refused there, so that none of its octets is taken for a command.

A lone CR or LF ends a line of the content, though never the data. Some clients stuff the dots of such lines and others
do not, so a line behind one loses a dot only if it begins with two. CRs directly before LF are one line end with it:
software that writes CRLF for each LF makes CR CR LF of CRLF. At most 64 are, so that no more must be kept to wait for
the LF; those before the last 64 are lone.

The header block ends at the first line that is neither a field nor continues one. If that is no empty line, one is put
in, or the text would be lost among the fields: next hops end the block there too, and above it stands our Received. A
first line of an mbox file (``From a@example.com Tue Dec 1 …``) would end it at once, so it is dropped, and so is a byte
order mark.

It knows no session and no socket. RFC 5321 §2.3.8 (line ends), §4.1.1.4 (end of data), §4.5.2 (transparency),
§4.5.3.1.6 (text lines), §6.3 (loops).
"""

from __future__ import annotations

import re
from io import IncrementalNewlineDecoder
from typing import TYPE_CHECKING, Final

from gatepost.errors import SpoolError
from gatepost.message.message import START, Message
from gatepost.message.spool import Content
from gatepost.replies import (
    BARE_LINE_END,
    HEADERS_TOO_BIG,
    MAIL_LOOP,
    NO_ROOM,
    NUL_IN_MESSAGE,
    TEXT_LINE_TOO_LONG,
    TOO_BIG,
    Reply,
)

if TYPE_CHECKING:
    from gatepost.config import Limits

_END: Final = b"\r\n.\r\n"
_DOT_LINE: Final = b"\r\n."
_RESULTS: Final = b"authentication-results"
_GOES_ON: Final = (b"\r", b"\n", b".")
_BEGUN: Final = re.compile(rb"(?:\r{0,64}\n\.?|\r\.)?\r{0,64}\Z")
"""The end of a block that may begin a line end, a stuffed dot or the end of data."""
_LONGEST_BEGUN: Final = 64 + 2 + 64
_MORE_CRS: Final = tuple([b"\r" * count + b"\r\n" for count in (32, 16, 8, 4, 2, 1)])
"""Line ends with a power of two of CRs too many. Replaced in this order, they take 63 away."""
_LINE_ENDS: Final = IncrementalNewlineDecoder(None, translate=False)
"""Notes the kinds of line end that it meets, in one pass. Counting CRLF, CR and LF would take three times as long."""
_BLANKS: Final = (b" ", b"\t")
_STRAY: Final = re.compile(rb"\n(?![ \t]|[!-9;-~]+[ \t]*:)")
"""The line end before a line that is neither a field nor a continuation. (Matching all the fields takes 14,000
instructions more for a small message.)"""
_FRONT: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?:>*From (?![ \t]*:).*\n){0,10}")
"""Octets that may stand before a header block: a byte order mark, and the first lines of an mbox file.

``From :`` would be a field.
"""
_MAYBE_FRONT: Final = (b"From ", b">", b"\xef\xbb\xbf")


class DataReader:
    """Reads one message. Give each block to ``feed``.

    ``feed`` returns None until it has met the end of data, and then the octets that follow it. From then on ``reply``
    is the refusal to speak, or None, and ``message()`` the message. A refused message is thrown away as it comes.
    ``headers_done`` turns True when the header block is here; ``names_results`` then tells whether the text
    ``Authentication-Results`` occurs in it.
    """

    __slots__ = (
        "_carry",
        "_content",
        "_discarding",
        "_held",
        "_limits",
        "_line",
        "_reject",
        "eight_bit",
        "header_size",
        "headers_done",
        "names_results",
        "reply",
        "size",
        "started",
    )

    def __init__(self, content: Content, limits: Limits, *, reject: bool) -> None:
        self._content = content
        self._limits = limits
        self._reject = reject
        # The CRLF of the DATA command counts as the start of the first line (RFC 5321 §4.1.1.4).
        self._carry = b"\r\n"
        self._held = b""
        """The start of a header line whose rest has not come. Only a whole line tells whether it is a field."""
        self.started = False
        self._line = 0
        self._discarding = False
        self.headers_done = self.names_results = False
        self.header_size = 0
        self.eight_bit = False
        self.size = 0
        self.reply: Reply | None = None

    def feed(self, block: bytes) -> bytes | None:
        """Take a block. Return None while the data goes on, else the octets that follow its end."""
        self.size += len(block)
        data = self._carry + block if self._carry else block  # compiled code would copy the block to add it to nothing
        # Most blocks of large messages hold no dot, and the search for a single octet is the fastest. ("in" is slower:
        # it first tries to take the octet for a number.)
        dot_line = data.find(_DOT_LINE) if data.find(b".") >= 0 else -1
        end = data.find(_END, dot_line) if dot_line >= 0 else -1
        # The CRLF before the final dot still belongs to the message. Octets that may begin more than
        # they show are carried over to the next block, so that it does not matter where the blocks are cut.
        whole = end + 2 if end >= 0 else len(data) - _unfinished(data)
        lines = data[:whole]
        if dot_line != end:  # a line begins with a dot and is not the final one: undo the dot-stuffing (§4.5.2)
            lines = lines.replace(_DOT_LINE, b"\r\n")
        if lines:
            self._take(lines, end >= 0)
        if end < 0:
            self._carry = data[whole:]
            return None
        return data[end + len(_END) :]

    def _take(self, data: bytes, is_last: bool) -> None:
        """Make the line ends of ``data`` canonical, check it and keep it.

        It has no stuffed dots behind CRLF, and does not end within a line end or before a dot that may be stuffed.
        """
        if not self.started:
            self.started = True
            data = data[2:]
        # Also for a message that is refused already: a smuggler's must be known as such, to close the connection.
        if data.find(b"\0") >= 0:
            self.refuse(NUL_IN_MESSAGE)
        data = self._canonical(data)
        if self._discarding:
            return
        try:
            if not self.headers_done:
                data = self._take_headers(data, is_last)
            self._check(data)
            if self.reply is None:
                self._content.write(data)
        except SpoolError:
            self.refuse(NO_ROOM)
        if self.reply is not None:
            self.discard()

    def _canonical(self, data: bytes) -> bytes:
        """Return ``data`` with CRLF for every line end, and one dot of two behind a lone CR or LF.

        Note line ends that are not CRLF, and 8-bit octets.
        """
        text = data.decode("latin-1")
        if not text.isascii():  # a str knows this without a search; bytes would be searched
            self.eight_bit = True
        _LINE_ENDS.reset()
        _LINE_ENDS.decode(text, True)
        if _LINE_ENDS.newlines in (None, "\r\n"):
            return data
        if self._reject:
            self.refuse(BARE_LINE_END)
        # In steps: a regular expression takes 70 ms for a block of nothing but line ends, and all clients wait. NUL
        # stands for the line ends that are done with, because a message that contains it is refused anyway.
        if data.find(b"\r\r\n") >= 0:
            for end in _MORE_CRS:
                data = data.replace(end, b"\r\n")
        data = data.replace(b"\r\n", b"\0").replace(b"\r", b"\n").replace(b"\n..", b"\n.")
        return data.replace(b"\n", b"\0").replace(b"\0", b"\r\n")

    def _check(self, data: bytes) -> None:
        limits = self._limits
        if self._content.size + len(data) > limits.max_size:
            self.refuse(TOO_BIG)
        if self._line + len(data) > limits.line_length:
            self._check_lines(data)
        # Octets of the text line that the next block goes on with.
        last = data.rfind(b"\n")
        self._line = self._line + len(data) if last < 0 else len(data) - last - 1

    def _check_lines(self, data: bytes) -> None:
        """Refuse a text line over the limit, CRLF included."""
        # Step from the last line end within the limit to the next such one: lines in between need no look.
        limit = self._limits.line_length
        start = -self._line
        while start + limit < len(data):
            end = data.rfind(b"\n", max(start, 0), start + limit)
            if end < 0:
                self.refuse(TEXT_LINE_TOO_LONG)
                return
            start = end + 1

    def _take_headers(self, data: bytes, is_last: bool) -> bytes:
        """Look for the end of the header block, and return what the spool is to get: whole lines while it goes on."""
        if self._held:
            data, self._held = self._held + data, b""
        whole = data.rfind(b"\n") + 1
        if not self.header_size and data.startswith(_MAYBE_FRONT):
            dropped = _front_size(data, whole)
            if dropped == whole > 0 and not is_last:
                self._held = data
                return b""
            if dropped < whole:
                data = data[dropped:]
                whole -= dropped
        end = _fields_size(data, whole, begins=not self.header_size)
        self.header_size += end
        if self.header_size > self._limits.header_size:
            self.refuse(HEADERS_TOO_BIG)
        elif end < whole or is_last:
            self.headers_done = True
            self._count_fields(data)
            if end < whole and not data.startswith(b"\r\n", end):
                data = data[:end] + b"\r\n" + data[end:]
        elif whole < len(data):
            self._held, data = data[whole:], data[:whole]
            if len(self._held) > self._limits.line_length:
                self.refuse(TEXT_LINE_TOO_LONG)
        return data

    def _count_fields(self, data: bytes) -> None:
        """Count the fields and hops of the header block: what the spool has of it, and ``data``, which it gets next."""
        kept = self._content.read(0, self.header_size) if self._content.size else b""
        head = (kept + data)[: self.header_size]
        # There are at most as many fields as lines, and as many hops as the word "received": mostly few enough, so that
        # nothing else need be counted.
        limits, lines = self._limits, head.count(b"\n")
        if lines > limits.header_fields < lines - head.count(b"\n ") - head.count(b"\n\t"):
            self.refuse(HEADERS_TOO_BIG)
            return
        lower = head.lower()
        self.names_results = lower.find(_RESULTS) >= 0
        if lower.count(b"received") > limits.received:
            behind = (b"\n" + lower).split(b"\nreceived")[1:]
            if len([rest for rest in behind if rest.lstrip(b" \t").startswith(b":")]) > limits.received:
                self.refuse(MAIL_LOOP)

    def refuse(self, reply: Reply) -> None:
        """Refuse the message with ``reply``, spoken at the end of data.

        The first refusal stays, unless a later one also closes the connection.
        """
        if self.reply is None or (reply.close and not self.reply.close):
            self.reply = reply

    def message(self, smtputf8: bool = False) -> Message:
        """Return the message, once the data is over or its header block is here.

        ``smtputf8``: plugins may write UTF-8 into its header.
        """
        return Message(self._content, self.header_size, self.eight_bit, smtputf8)

    def discard(self) -> None:
        """Release what the spool has kept, and throw the rest away as it comes."""
        self._discarding = True
        self._content.close()


def _front_size(data: bytes, whole: int) -> int:
    """Return how many octets that precede a header ``data`` begins with; 0 if text follows: they are text then.

    ``whole`` is where its last whole line ends. When that is returned, the next line will tell.
    """
    front = _FRONT.match(data, 0, whole)
    end = front.end() if front is not None else 0  # it always matches, if only nothing
    follows = end == whole or data.startswith(b"\r\n", end) or START.match(data, end, whole) is not None
    return end if follows else 0


def _fields_size(data: bytes, whole: int, begins: bool) -> int:
    """Return how many octets of header lines ``data`` begins with, up to ``whole``. ``begins``: the header too."""
    # At the top a folded line would continue the field that we put in front of it.
    if START.match(data, 0, whole) is None and (begins or not data.startswith(_BLANKS)):
        return 0
    stray = _STRAY.search(data, 0, whole)  # the end of the last line counts as one
    return stray.end() if stray is not None else 0


def _unfinished(data: bytes) -> int:
    """Return how many octets at the end of ``data`` may begin a line end, a stuffed dot or the end of data."""
    if not data.endswith(_GOES_ON):  # most blocks of large messages
        return 0
    begun = _BEGUN.search(data, max(0, len(data) - _LONGEST_BEGUN))
    return len(data) - begun.start() if begun is not None else 0
