"""A real gate on a free port of this machine, and a small client that sees every octet.

For what needs bytes: who talks before the greeting, pipelining, line ends. It is the door of production over a policy
of the kit, so everything behind it is scripted and time is virtual here too: whenever a client waits for a reply and
nothing else happens, the clock jumps.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from gatepost.config import SocketAddress
from gatepost.doors import Connections, Listener, Pregreet
from gatepost.server import listen
from gatepost.testing.client import MESSAGE
from gatepost.testing.clock import wait_for
from gatepost.testing.policy import Policy
from gatepost.testing.reply import Reply

T = TypeVar("T")

HOST = "127.0.0.1"
QUIET = 0.01
"""Real seconds in which no octet may arrive before virtual time goes on."""


class Wire:
    """One connection to a ``Server``."""

    def __init__(self, policy: Policy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._policy = policy
        self._reader = reader
        self._writer = writer

    def send(self, octets: bytes) -> None:
        """Send octets as they stand."""
        self._writer.write(octets)

    async def say(self, line: str | bytes) -> Reply:
        """Send a command line, given without its line end, and hear the reply."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return await self.reply()

    async def reply(self) -> Reply:
        """The next whole reply. Raises ``ConnectionError`` when the gate has closed the connection."""
        octets = await self.octets()
        if not octets:
            raise ConnectionResetError("the gate has closed the connection")
        return Reply.read(octets)

    async def replies(self, count: int) -> list[Reply]:
        """The next ``count`` replies."""
        return [await self.reply() for _ in range(count)]

    async def octets(self) -> bytes:
        """The octets of the next reply, all its lines; b"" at the end of the connection."""
        return await self._wait_for(self._next())

    async def rest(self) -> bytes:
        """Everything until the gate closes the connection."""
        return await self._wait_for(self._reader.read())

    async def message(self, content: bytes = MESSAGE) -> Reply:
        """DATA and a message whose last line has its end and which needs no dot-stuffing: the reply to the dot."""
        reply = await self.say("DATA")
        if reply.code != 354:
            return reply
        self.send(content + b".\r\n")
        return await self.reply()

    async def settle(self) -> None:
        """Give the gate time to take what was sent; no virtual time passes."""
        await asyncio.sleep(QUIET)

    def half_close(self) -> None:
        """Say that no more will be sent; replies can still be heard."""
        self._writer.write_eof()

    async def close(self) -> None:
        """Leave."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _next(self) -> bytes:
        lines = b""
        while True:
            line = await self._reader.readline()
            lines += line
            if line[3:4] != b"-":
                return lines

    async def _wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await wait_for(work, self._policy.clock, pause=QUIET)
        finally:
            self._policy.dns.check()


class Server:
    """A gate that listens while the ``async with`` block runs: ``async with server(…) as live``.

    The arguments are those of ``Policy``. ``clients`` is how many may be connected. With TOML, ``listener`` is the one
    whose order is asked. Fails at the end when an exception was left to the loop.
    """

    def __init__(self, *plugins: Any, listener: str = "smtp", clients: int = 1000, **settings: Any) -> None:
        self.policy = Policy(*plugins, **settings)
        """The policy, with ``clock``, ``dns``, ``store``, ``next_hop``, ``records``, ``events`` and ``log``."""
        self.port = 0
        gate = self.policy.loaded.gates.get(listener, self.policy.gate)
        self._listener = Listener(listener, gate, self.policy.runtime, Connections(clients, clients))
        self._wires: list[Wire] = []
        self._failures: list[dict[str, Any]] = []
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        await self.policy.start()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: self._failures.append(context))
        made = listen(SocketAddress(HOST, 0))
        self.port = made.getsockname()[1]
        self._server = await loop.create_server(lambda: Pregreet(self._listener), sock=made)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for wire in self._wires:
            await wire.close()
        await wait_for(self._left(), self.policy.clock, pause=QUIET)
        await self.policy.close()
        asyncio.get_running_loop().set_exception_handler(None)
        if error is None:
            assert not self._failures, f"an exception was left to the loop: {self._failures[0]}"

    async def connect(self, source: str = HOST, *, early: bytes = b"") -> Wire:
        """A client from a loopback address (127.0.0.0/8). ``early`` is sent before the gate has accepted it."""
        # The protocol is named so that the loop sets TCP_NODELAY: an octet that waits for an acknowledgement would
        # be outrun by virtual time.
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        made.bind((source, 0))
        made.connect((HOST, self.port))  # does not wait: the backlog takes it
        made.sendall(early)
        made.setblocking(False)
        wire = Wire(self.policy, *await asyncio.open_connection(sock=made))
        self._wires.append(wire)
        return wire

    async def _left(self) -> None:
        """Wait until all sessions have ended, wholly."""
        listener = self._listener
        while listener.connected or listener.connections.total or self.policy.runtime.is_busy:  # noqa: ASYNC110, no event
            await asyncio.sleep(0.001)
