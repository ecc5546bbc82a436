"""Ports of loopback for servers that must be told their port before they start.

A port that was free a moment ago may be taken when the server binds it: the system gives free ports to every outgoing
connection and to every socket bound to port 0. So ports come from below the range that the system gives away (Linux:
from 32768), and each is reserved for as long as it is needed, also while its server is stopped.

TCP: a bound socket that never listens holds the port. It was bound exclusively and permits sharing only afterwards, so
it keeps everybody out but servers that set SO_REUSEADDR, as servers do. UDP has no such socket, since two sockets that
share a port would share its datagrams; there, the TCP port of the same number keeps other tests out.
"""

from __future__ import annotations

import errno
import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

PORTS = range(20_000, 32_768)


def loopback() -> list[str]:
    """Return the loopback addresses of this machine: 127.0.0.1 and, if it has IPv6, ::1."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return ["127.0.0.1"]
    return ["127.0.0.1", "::1"]


@contextmanager
def reserved_port(hosts: Sequence[str] = ("127.0.0.1",)) -> Iterator[int]:
    """Reserve a port that is free on all ``hosts``, for TCP and for UDP, until the block is left."""
    while True:
        port = random.choice(PORTS)
        with ExitStack() as held:
            try:
                for host in hosts:
                    _hold(host, port, held)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
            yield port
            return


def _hold(host: str, port: int, held: ExitStack) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((host, port))
    holder = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
    holder.bind((host, port))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # not before: two tests would share the port
