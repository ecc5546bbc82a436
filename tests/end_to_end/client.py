"""An SMTP client that uses real sockets and keeps every reply it receives. It knows nothing of gatepost."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from tests.door import Wire
from tests.patience import PATIENCE

SENDER = "a@example.org"


class Client:
    """One connection. ``heard`` lists all replies in order, the greeting first."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.heard: list[bytes] = []

    async def reply(self) -> bytes:
        """Return the next reply, or ``b""`` at the end of the connection."""
        self.heard.append(await self.wire.reply())
        return self.heard[-1]

    async def say(self, line: str) -> bytes:
        """Send a line and return the reply."""
        self.wire.send(f"{line}\r\n".encode())
        return await self.reply()

    async def greet(self, name: str = "client.example.org") -> bytes:
        """Await the greeting and send EHLO. Returns its reply, or the refusal that came in place of a greeting."""
        banner = await self.reply()
        return await self.say(f"EHLO {name}") if banner.startswith(b"220") else banner

    async def envelope(self, recipients: Iterable[str], sender: str = SENDER) -> list[bytes]:
        """Send MAIL, and RCPT for each recipient. Returns the replies to RCPT."""
        assert (await self.say(f"MAIL FROM:<{sender}>")).startswith(b"250"), self.heard
        return [await self.say(f"RCPT TO:<{recipient}>") for recipient in recipients]

    async def content(self, content: bytes) -> bytes:
        """Send DATA and the content, which must need no dot-stuffing. Returns the last reply."""
        go_ahead = await self.say("DATA")
        if not go_ahead.startswith(b"354"):
            return go_ahead
        self.wire.send(content + b".\r\n")
        return await self.reply()

    async def transaction(self, recipient: str, content: bytes, sender: str = SENDER) -> bytes:
        """Send MAIL, RCPT, DATA and the content. Returns the last reply, or the first one that refuses."""
        for line in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>"):
            reply = await self.say(line)
            if not reply.startswith(b"250"):
                return reply
        return await self.content(content)


@asynccontextmanager
async def connected(port: int, *, source: str = "127.0.0.1", host: str = "127.0.0.1") -> AsyncIterator[Client]:
    """Connect a client that comes from the loopback address ``source``."""
    wire = Wire(*await asyncio.open_connection(host, port, local_addr=(source, 0)))
    try:
        yield Client(wire)
    finally:
        await wire.close()


async def send(port: int, recipient: str, content: bytes, *, sender: str = SENDER, source: str = "127.0.0.1") -> bytes:
    """Send one message over a new connection. Returns the last reply, or the first one that refuses."""
    async with connected(port, source=source) as client:
        reply = await client.greet()
        return await client.transaction(recipient, content, sender) if reply.startswith(b"250") else reply


async def send_until_not(refusal: bytes, port: int, recipient: str, content: bytes) -> bytes:
    """Send again as long as the reply begins with ``refusal``. Returns the first reply that does not."""
    async with asyncio.timeout(PATIENCE):
        while True:
            reply = await send(port, recipient, content)
            if not reply.startswith(refusal):
                return reply
            await asyncio.sleep(0.05)


def message(identifier: str) -> bytes:
    """Return a small message with this Message-ID."""
    return (
        f"From: {SENDER}\r\nTo: b@example.test\r\nSubject: hello\r\nMessage-ID: {identifier}\r\n\r\nHello.\r\n".encode()
    )


def record_of(reply: bytes) -> str:
    """Return the id of the record, which a refusal has at the end of its last line."""
    found = re.search(rb"\[([0-9a-z]{10})\]\r\n\Z", reply)
    assert found is not None, reply
    return found[1].decode()
