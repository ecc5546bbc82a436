"""A listener: the gate, the runtime, the count of connections and the clients that its connections share.

It opens no sockets (see ``server``) and speaks no protocol (see ``pregreet`` and ``smtp``). RFC 5321 §4.5.4.2 permits
limits on connections.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from gatepost.gate import Gate
from gatepost.ip import network_of
from gatepost.runtime import Runtime


class Connections:
    """Counts connections: of all clients together, and of each IPv4 address or IPv6 /64. Loopback is not counted."""

    __slots__ = ("_by_client", "_most", "_most_each", "total")

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._most_each = most_each
        self._by_client: dict[str, int] = {}
        self.total = 0

    def enter(self, client: str) -> bool:
        """Count a connection of ``client``; False if it is one too many. Call ``leave`` at its end in either case."""
        self.total += 1
        key = network_of(client)
        if not key:
            return self.total <= self._most
        # Counted even when it is one too many: it holds a descriptor until it has been told so and is closed.
        count = self._by_client[key] = self._by_client.get(key, 0) + 1
        return self.total <= self._most and count <= self._most_each

    def leave(self, client: str) -> None:
        """Stop counting a connection of ``client``, which has ended."""
        self.total -= 1
        key = network_of(client)
        if key:
            count = self._by_client[key] - 1
            if count:
                self._by_client[key] = count
            else:
                del self._by_client[key]


class Connected(Protocol):
    """A connection that can be told to end."""

    @property
    def gate(self) -> Gate:
        """The policy that the connection began with."""

    def stop(self, now: bool) -> None:
        """Say 421 4.3.2 as soon as no transaction is open, or at once if ``now``: the server stops."""


class Listener:
    """One ``[listen.NAME]``. ``gate`` is replaced by a reload; connections keep the one they began with."""

    __slots__ = ("connected", "connections", "gate", "loop", "name", "runtime", "stopping")

    def __init__(self, name: str, gate: Gate, runtime: Runtime, connections: Connections) -> None:
        self.name = name
        self.loop = asyncio.get_running_loop()
        """Kept here because asking for it makes a system call before Python 3.12."""
        self.gate = gate
        self.runtime = runtime
        self.connections = connections
        self.connected: dict[Connected, None] = {}  # a set would take three times the memory per waiting client
        self.stopping = False

    def stop(self, now: bool = False) -> None:
        """Tell all connections to end, now or between transactions, and turn away new ones."""
        self.stopping = True
        for connection in tuple(self.connected):
            connection.stop(now)
