"""A real door on a free loopback port, over a policy of plugin objects, and a small client that sees every octet."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from gatepost.doors.listener import Connections, Listener
from gatepost.doors.pregreet import Pregreet
from tests.policy import Policy


class Wire:
    """One connection. ``reply()`` gives the next whole reply, ``b""`` at the end of the connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def reply(self) -> bytes:
        """The next reply, all its lines."""
        lines = b""
        async with asyncio.timeout(10):
            while True:
                line = await self.reader.readline()
                lines += line
                if line[3:4] != b"-":
                    return lines

    def send(self, octets: bytes) -> None:
        """Send as it stands."""
        self.writer.write(octets)

    async def say(self, line: bytes) -> bytes:
        """Send a line and hear the reply."""
        self.send(line + b"\r\n")
        return await self.reply()

    async def to_data(self) -> bytes:
        """Greeting, EHLO, MAIL, RCPT, DATA: the reply to DATA."""
        await self.reply()
        for line in (b"EHLO client.example.com", b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>"):
            assert (await self.say(line)).startswith(b"250")
        return await self.say(b"DATA")

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


class LiveDoor:
    """A listener that accepts clients on ``port``."""

    def __init__(self, policy: Policy, listener: Listener, port: int) -> None:
        self.policy = policy
        self.listener = listener
        self.port = port
        self._wires: list[Wire] = []

    async def connect(self, source: str = "127.0.0.1", host: str = "127.0.0.1") -> Wire:
        """A client that comes from the loopback address ``source``."""
        reader, writer = await asyncio.open_connection(host, self.port, local_addr=(source, 0))
        wire = Wire(reader, writer)
        self._wires.append(wire)
        return wire

    async def close(self) -> None:
        """End all connections and wait until the door has noticed."""
        for wire in self._wires:
            await wire.close()
        async with asyncio.timeout(10):
            while self.listener.connected or self.listener.connections.total or self.policy.site.tasks:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def live(policy: Policy, *, most: int = 1000, most_each: int = 50, host: str = "127.0.0.1") -> AsyncIterator[Any]:
    """Serve ``policy``, which was made with ``clock=SystemClock()`` if time is to pass by itself."""
    listener = Listener("smtp", policy.gate, policy.site, Connections(most, most_each))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.bind((host, 0))
    server = await asyncio.get_running_loop().create_server(lambda: Pregreet(listener), sock=made)
    door = LiveDoor(policy, listener, made.getsockname()[1])
    try:
        yield door
    finally:
        server.close()
        await door.close()
