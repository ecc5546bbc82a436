"""The dialogues of a load's clients: messages of 1 KiB on new and on reused connections, or just QUIT.

All octets are prepared before the first connection. Clients send only what the measured work needs, in the order of
RFC 5321 §4.1.4; with pipelining they send MAIL, RCPT and DATA in one piece (RFC 2920 §3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.bench.clients import Client
from tests.bench.loads.session import Dialogue, SessionError, Step

PAYLOAD = 1024
"""Octets of a message's body, as in smtp-source(1)."""

TRIES = 1000
"""Number of times that a greylisted recipient is repeated before it counts as refused."""

_LINE = b"X" * 76 + b"\r\n"
_LINES = (_LINE * (PAYLOAD // len(_LINE) + 1))[: PAYLOAD - 2] + b"\r\n"
MESSAGE = (
    b"From: <sender@client.test>\r\nTo: <user@example.test>\r\nSubject: benchmark\r\n"
    b"Date: Mon, 05 Oct 2026 00:00:00 +0000\r\nMessage-Id: <benchmark@client.test>\r\n\r\n" + _LINES + b".\r\n"
)

GREETING = Step(b"", (b"220",))
DATA = Step(b"DATA\r\n", (b"354",))
CONTENT = Step(MESSAGE, (b"250",))
QUIT = Step(b"QUIT\r\n", (b"221",))


class Lines(NamedTuple):
    """The steps of one client."""

    address: str
    hello: Step
    mail: Step
    recipient: Step
    pipelined: Step


def lines(client: Client) -> Lines:
    """Prepare the steps of a client."""
    mail = b"MAIL FROM:<%b>\r\n" % client.sender.encode()
    recipient = b"RCPT TO:<%b>\r\n" % client.recipient.encode()
    return Lines(
        client.address,
        Step(b"EHLO %b\r\n" % client.sender.rpartition("@")[2].encode(), (b"250",)),
        Step(mail, (b"250",)),
        Step(recipient, (b"250",)),
        Step(mail + recipient + DATA.octets, (b"250", b"250", b"354")),
    )


def messages(own: Lines, envelopes: Iterable[Lines], *, pipelined: bool, accepted: Callable[[], None]) -> Dialogue:
    """Send one message for each envelope. ``accepted`` is called after each accepted message."""
    yield GREETING
    yield own.hello
    for envelope in envelopes:
        if pipelined:
            yield envelope.pipelined
        else:
            yield envelope.mail
            yield envelope.recipient
            yield DATA
        yield CONTENT
        accepted()
    yield QUIT


def patient(own: Lines) -> Dialogue:
    """Send one message as a new client, which repeats a greylisted recipient (451) at once."""
    yield GREETING
    yield own.hello
    yield own.mail
    for _ in range(TRIES):
        (reply,) = yield Step(own.recipient.octets, (b"",))
        if not reply.startswith(b"451"):
            break
    if not reply.startswith(b"250"):
        raise SessionError(f"expected 250 or 451, got {reply!r} after RCPT")
    yield DATA
    yield CONTENT
    yield QUIT


def leaving() -> Dialogue:
    """Await the greeting and leave."""
    yield GREETING
    yield QUIT
