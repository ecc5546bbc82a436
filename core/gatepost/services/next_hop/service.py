"""The ``next_hop`` service, from which delivery plugins get clients of mail servers.

It gives each client the server's clock, host name and recorder, and closes all of them when the server stops.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakSet

from gatepost.events import NULL_RECORDER, Recorder
from gatepost.services.clock import Clock
from gatepost.services.next_hop.client import NextHop, Tls
from gatepost.services.next_hop.syntax import Target


class NextHops:
    """Opens ``NextHop`` clients. ``local_hostname`` is our name in EHLO and LHLO."""

    def __init__(self, clock: Clock, local_hostname: str, recorder: Recorder = NULL_RECORDER) -> None:
        self._clock = clock
        self._local_hostname = local_hostname
        self._recorder = recorder
        self._opened: list[NextHop] = []
        self._branches: WeakSet[NextHops] = WeakSet()

    def open(
        self,
        targets: Sequence[Target],
        *,
        tls: Tls = "opportunistic",
        pool: int = 10,
        messages_per_connection: int = 10,
        connect_timeout: float = 10.0,
        command_timeout: float = 60.0,
        data_timeout: float = 600.0,
    ) -> NextHop:
        """Return a client of ``targets``, tried in order. ``NextHop`` describes the parameters."""
        opened = NextHop(
            targets,
            clock=self._clock,
            local_hostname=self._local_hostname,
            recorder=self._recorder,
            tls=tls,
            pool=pool,
            messages_per_connection=messages_per_connection,
            connect_timeout=connect_timeout,
            command_timeout=command_timeout,
            data_timeout=data_timeout,
        )
        self._opened.append(opened)
        return opened

    def branch(self) -> NextHops:
        """Return a service of the same kind with clients of its own, for a policy that may end before the server."""
        branch = NextHops(self._clock, self._local_hostname, self._recorder)
        self._branches.add(branch)
        return branch

    async def close(self) -> None:
        """Send QUIT on all idle connections, those of branches too, and forget the clients."""
        for branch in tuple(self._branches):
            await branch.close()
        opened, self._opened = self._opened, []
        for next_hop in opened:
            await next_hop.close()
