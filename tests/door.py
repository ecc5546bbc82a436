"""A real door on a free loopback port, over a policy of plugin objects, and a small client that sees every octet."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from gatepost import Decision, Message, Session, accept, hookimpl
from gatepost.config import SocketAddress
from gatepost.doors.listener import Connections, Listener
from gatepost.doors.pregreet import Pregreet
from gatepost.server.system import listen
from tests.patience import PATIENCE
from tests.policy import MESSAGE, Policy


async def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition()`` holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110, what is waited for raises no event
            await asyncio.sleep(0.001)


class Keeping:
    """A delivery plugin that takes every message and keeps it: ``contents`` as received, ``sent`` as it leaves."""

    grants = "delivery"

    def __init__(self) -> None:
        self.contents: list[bytes] = []
        self.sent: list[bytes] = []

    @hookimpl
    def queue(self, message: Message) -> Decision:
        with message.open() as content:
            self.contents.append(content.read())
        self.sent.append(b"".join(message.blocks()))
        return accept("kept")


def unread(client: Any) -> int:
    """Return the number of octets of a greeted client that the door keeps and has not worked on yet."""
    return len(client._input) - client._position


class Deaf:
    """A log that nobody reads."""

    def info(self, event: str, **facts: object) -> None:
        """Forget it."""

    warning = error = info


class Wire:
    """One connection. ``reply()`` gives the next whole reply, ``b""`` at the end of the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reply(self) -> bytes:
        """The next reply, all its lines."""
        lines = b""
        async with asyncio.timeout(PATIENCE):
            while True:
                line = await self.reader.readline()
                lines += line
                if line[3:4] != b"-":
                    return lines

    async def replies(self, count: int) -> list[bytes]:
        """The next ``count`` replies."""
        return [await self.reply() for _ in range(count)]

    def send(self, octets: bytes) -> None:
        """Send as it stands."""
        self.writer.write(octets)

    async def say(self, line: bytes) -> bytes:
        """Send a line and hear the reply."""
        self.send(line + b"\r\n")
        return await self.reply()

    async def hello(self) -> None:
        """Greeting and EHLO."""
        assert (await self.reply()).startswith(b"220 ")
        assert (await self.say(b"EHLO client.example.com")).startswith(b"250-")

    async def envelope(self, sender: bytes = b"<a@example.com>", recipient: bytes = b"<b@example.org>") -> None:
        """MAIL and RCPT. ``sender`` may have parameters behind it."""
        for line in (b"MAIL FROM:" + sender, b"RCPT TO:" + recipient):
            assert (await self.say(line)).startswith(b"250 ")

    async def to_data(self) -> bytes:
        """Greeting, EHLO, MAIL, RCPT, DATA: the reply to DATA."""
        await self.hello()
        await self.envelope()
        return await self.say(b"DATA")

    async def message(self, content: bytes = MESSAGE) -> bytes:
        """DATA and a message that needs no dot-stuffing and ends with its line: the reply to the final dot."""
        assert (await self.say(b"DATA")).startswith(b"354 ")
        self.send(content + b".\r\n")
        return await self.reply()

    def half_close(self) -> None:
        """Say that no more will be sent; replies can still be heard."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Vanish: a reset instead of an orderly end."""
        made = self._transport.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def stop_reading(self) -> None:
        """Leave replies where they are; ``go_on_reading`` ends it."""
        self._transport.pause_reading()

    def go_on_reading(self) -> None:
        """Read again."""
        self._transport.resume_reading()

    @property
    def _transport(self) -> Any:
        return self.writer.transport

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class LiveDoor:
    """A listener that accepts clients on ``port``."""

    def __init__(self, policy: Policy, listener: Listener, port: int) -> None:
        self.policy = policy
        self.listener = listener
        self.port = port
        self._wires: list[Wire] = []

    @property
    def clients(self) -> list[Any]:
        """The protocol objects of all clients that are connected."""
        return list(self.listener.connected)

    @property
    def client(self) -> Any:
        """The protocol object of the only client that is connected."""
        (connected,) = self.clients
        return connected

    async def connect(
        self, source: str = "127.0.0.1", host: str = "127.0.0.1", *, early: bytes = b"", room: int = 0
    ) -> Wire:
        """A client that comes from the loopback address ``source``.

        ``early`` is there before the server has accepted the connection. ``room``: how many octets of replies the
        client's side of the connection holds, about, while nobody reads them.
        """
        made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        if room:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        made.bind((source, 0))
        made.connect((host, self.port))  # does not wait: the backlog takes it
        made.sendall(early)
        made.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=made)
        wire = Wire(reader, writer)
        self._wires.append(wire)
        return wire

    async def hello(self) -> Wire:
        """A client that has been greeted and has said EHLO."""
        wire = await self.connect()
        await wire.hello()
        return wire

    async def buffered(self, octets: int) -> None:
        """Wait until ``octets`` octets of commands of the one client wait here to be worked on."""
        await until(lambda: unread(self.client) == octets)

    async def received(self, octets: int) -> None:
        """Wait until the one client's message has ``octets`` octets here."""
        transaction = self.client.conversation.transaction
        await until(lambda: transaction.reader and transaction.reader.size >= octets)

    async def left(self) -> None:
        """Wait until all sessions have ended, wholly."""
        await until(
            lambda: not (self.listener.connected or self.listener.connections.total or self.policy.runtime.is_busy)
        )

    async def close(self) -> None:
        """End all connections and wait until the door has noticed."""
        for wire in self._wires:
            await wire.close()
        await self.left()


@asynccontextmanager
async def live(
    policy: Policy, *, most: int = 1000, most_each: int = 50, host: str = "127.0.0.1"
) -> AsyncIterator[LiveDoor]:
    """Serve ``policy``, which was made with ``clock=SystemClock()`` if time is to pass by itself.

    Fails at the end when an exception was left to the loop.
    """
    listener = Listener("smtp", policy.gate, policy.runtime, Connections(most, most_each))
    made = listen(SocketAddress(host, 0))
    loop = asyncio.get_running_loop()
    left_to_the_loop: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: left_to_the_loop.append(context))
    server = await loop.create_server(lambda: Pregreet(listener), sock=made)
    door = LiveDoor(policy, listener, made.getsockname()[1])
    try:
        yield door
    finally:
        server.close()
        await door.close()
        loop.set_exception_handler(None)
    assert not left_to_the_loop


def sessions() -> int:
    """Return the number of them in this process, including those that other tests have left."""
    return sum(type(each) is Session for each in gc.get_objects())
