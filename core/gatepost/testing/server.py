"""A real SMTP server on a free port of this machine, and a small client that sees every octet.

Use it to test octets: clients that talk before the greeting, pipelining, line ends. It has the real door over a policy
of the kit, so everything behind the door is scripted, and time is virtual: while a client waits for a reply and nothing
else happens, the clock jumps.
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
from gatepost.testing.outside import outside
from gatepost.testing.policy import Policy
from gatepost.testing.reply import Reply

T = TypeVar("T")

HOST = "127.0.0.1"
QUIET = 0.01
"""Real seconds without any octet before virtual time moves on."""


class Wire:
    """A connection to a ``Server``."""

    def __init__(self, policy: Policy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._policy = policy
        self._reader = reader
        self._writer = writer

    def send(self, octets: bytes) -> None:
        """Send octets unchanged."""
        self._writer.write(octets)

    async def say(self, line: str | bytes) -> Reply:
        """Send a command line, given without its line end, and return the reply."""
        self.send((line.encode() if isinstance(line, str) else line) + b"\r\n")
        return await self.reply()

    async def reply(self) -> Reply:
        """Return the next complete reply. Raises ``ConnectionError`` when the server has closed the connection."""
        octets = await self.octets()
        if not octets:
            raise ConnectionResetError("the server has closed the connection")
        return Reply.read(octets)

    async def replies(self, count: int) -> list[Reply]:
        """Return the next ``count`` replies."""
        return [await self.reply() for _ in range(count)]

    async def octets(self) -> bytes:
        """Return the octets of the next reply, all its lines; b"" at the end of the connection."""
        return await self._wait_for(self._next())

    async def rest(self) -> bytes:
        """Return all octets until the server closes the connection."""
        return await self._wait_for(self._reader.read())

    async def message(self, content: bytes = MESSAGE) -> Reply:
        """Send DATA and a message that ends with CRLF and needs no dot-stuffing; return the reply to the final dot."""
        reply = await self.say("DATA")
        if reply.code != 354:
            return reply
        self.send(content + b".\r\n")
        return await self.reply()

    async def settle(self) -> None:
        """Give the server time to read what was sent, without moving virtual time."""
        await asyncio.sleep(QUIET)

    def half_close(self) -> None:
        """End the sending direction; replies can still be read."""
        self._writer.write_eof()

    async def close(self) -> None:
        """Close the connection."""
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
            self._policy.check()


class Server:
    """A server that listens while the ``async with`` block runs: ``async with server(…) as live``.

    The arguments are those of ``Policy``. ``clients`` is the limit on connections. With TOML, ``listener`` may have an
    order of its own. Fails at the end if the event loop had to handle an exception.
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
        opened = listen(SocketAddress(HOST, 0))
        self.port = opened.getsockname()[1]
        outside().own_ports.add(self.port)
        self._server = await loop.create_server(lambda: Pregreet(self._listener), sock=opened)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The order matters: sessions must have ended before ``shutdown`` runs, as in a real server.
        self._server.close()
        for wire in self._wires:
            await wire.close()
        await wait_for(self._left(), self.policy.clock, pause=QUIET)
        await self.policy.close()
        asyncio.get_running_loop().set_exception_handler(None)
        if error is None:
            assert not self._failures, f"an exception reached the event loop: {self._failures[0]}"

    async def connect(self, source: str = HOST, *, early: bytes = b"") -> Wire:
        """Connect from a loopback address (127.0.0.0/8). ``early`` is sent before the server has accepted."""
        # With IPPROTO_TCP the loop sets TCP_NODELAY. Otherwise an octet might wait for an acknowledgement while virtual
        # time moves on.
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        opened.bind((source, 0))
        opened.connect((HOST, self.port))  # does not block, because the backlog accepts it
        opened.sendall(early)
        opened.setblocking(False)
        wire = Wire(self.policy, *await asyncio.open_connection(sock=opened))
        self._wires.append(wire)
        return wire

    async def _left(self) -> None:
        """Wait until all sessions have ended completely."""
        listener = self._listener
        while listener.connected or listener.connections.total or self.policy.runtime.is_busy:  # noqa: ASYNC110, no event
            await asyncio.sleep(0.001)
