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

It knows no session and no socket. RFC 5321 §2.3.8 (line ends), §4.1.1.4 (end of data), §4.5.2 (transparency),
§4.5.3.1.6 (text lines), §6.3 (loops).
"""

from __future__ import annotations

import re
from io import IncrementalNewlineDecoder
from typing import TYPE_CHECKING, Final

from gatepost.errors import SpoolError
from gatepost.message.message import FIELD, Message
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
_END_OF_HEADERS: Final = b"\r\n\r\n"
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
_RECEIVED: Final = re.compile(rb"^received[ \t]*:", re.MULTILINE | re.IGNORECASE)


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
            self._take(lines)
        if end < 0:
            self._carry = data[whole:]
            return None
        if not self.headers_done and self.reply is None:  # a message without an empty line is all header
            try:
                self._count_fields()
            except SpoolError:  # the fields are read back from the spool
                self.refuse(NO_ROOM)
        return data[end + len(_END) :]

    def _take(self, data: bytes) -> None:
        """Make the line ends of ``data`` canonical, check it and keep it.

        It has no stuffed dots behind CRLF, and does not end within a line end or before a dot that may be stuffed.
        """
        if not self.started:
            self.started = True
            data = data[2:]
            if data.startswith((b" ", b"\t")):  # or it would continue the field that we put in front of it
                data = b"\r\n" + data
        # Also for a message that is refused already: a smuggler's must be known as such, to close the connection.
        if data.find(b"\0") >= 0:
            self.refuse(NUL_IN_MESSAGE)
        data = self._canonical(data)
        if self._discarding:
            return
        try:
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
        if not self.headers_done:
            self._check_headers(data)
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

    def _check_headers(self, data: bytes) -> None:
        """Look for the end of the header block, which two blocks may share; count its octets, fields and hops."""
        before = self._content.size
        # The last three octets before this block: the end of the headers may have begun there.
        seen = self._content.read(max(0, before - len(_END_OF_HEADERS) + 1), before) if before else b""
        end = (seen + data).find(_END_OF_HEADERS)
        if before == 0 and data.startswith(b"\r\n"):
            self.header_size, self.headers_done = 0, True
        else:
            self.headers_done = end >= 0
            self.header_size = before - len(seen) + end + 2 if self.headers_done else before + len(data)
        if self.header_size > self._limits.header_size:
            self.refuse(HEADERS_TOO_BIG)
        if self.headers_done or self.reply is not None:
            self._count_fields(data)

    def _count_fields(self, data: bytes = b"") -> None:
        """Count the fields and hops of the header block: what the spool has of it, and ``data``, which it gets next."""
        kept = self._content.read(0, self.header_size) if self._content.size else b""
        head = (kept + data)[: self.header_size]
        self.headers_done = True
        # There are at most as many fields as lines, and as many hops as the word "received": mostly few enough, so that
        # the slower expressions need not be run.
        limits = self._limits
        if head.count(b"\n") >= limits.header_fields and len(FIELD.findall(head)) > limits.header_fields:
            self.refuse(HEADERS_TOO_BIG)
        lower = head.lower()
        self.names_results = lower.find(_RESULTS) >= 0
        if lower.count(b"received") > limits.received < len(_RECEIVED.findall(head)):
            self.refuse(MAIL_LOOP)

    def refuse(self, reply: Reply) -> None:
        """Refuse the message with ``reply``, spoken at the end of data.

        The first refusal stays, unless a later one also closes the connection.
        """
        if self.reply is None or (reply.close and not self.reply.close):
            self.reply = reply

    def message(self) -> Message:
        """Return the message, once the data is over or its header block is here."""
        return Message(self._content, self.header_size, self.eight_bit)

    def discard(self) -> None:
        """Release what the spool has kept, and throw the rest away as it comes."""
        self._discarding = True
        self._content.close()


def _unfinished(data: bytes) -> int:
    """Return how many octets at the end of ``data`` may begin a line end, a stuffed dot or the end of data."""
    if not data.endswith(_GOES_ON):  # most blocks of large messages
        return 0
    begun = _BEGUN.search(data, max(0, len(data) - _LONGEST_BEGUN))
    return len(data) - begun.start() if begun is not None else 0
