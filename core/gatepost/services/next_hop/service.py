"""The ``next_hop`` service: what a delivery plugin asks for in its constructor to make clients of mail servers.

It gives each client the gate's clock and name, and closes them all when the server stops.
"""

from __future__ import annotations

from collections.abc import Sequence

from gatepost.services.clock import Clock
from gatepost.services.next_hop.client import NextHop, Target, Tls


class NextHops:
    """Makes ``NextHop`` clients. ``local_hostname`` is the name we give in EHLO and LHLO."""

    def __init__(self, clock: Clock, local_hostname: str) -> None:
        self._clock = clock
        self._local_hostname = local_hostname
        self._made: list[NextHop] = []

    def open(
        self,
        targets: Sequence[Target],
        *,
        tls: Tls = "opportunistic",
        pool: int = 10,
        connect_timeout: float = 10.0,
        command_timeout: float = 60.0,
        data_timeout: float = 600.0,
    ) -> NextHop:
        """A client of ``targets``, tried in order. Times are in seconds; ``pool`` is idle connections kept for each."""
        made = NextHop(
            targets,
            clock=self._clock,
            local_hostname=self._local_hostname,
            tls=tls,
            pool=pool,
            connect_timeout=connect_timeout,
            command_timeout=command_timeout,
            data_timeout=data_timeout,
        )
        self._made.append(made)
        return made

    async def close(self) -> None:
        """Say QUIT on all idle connections."""
        for next_hop in self._made:
            await next_hop.close()
