"""Looking at a policy without running it: services that reach nobody and keep nothing.

``check`` and ``plugins`` load with them, so a policy can be looked at on a machine where its server does not run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatepost.errors import DNSTemporaryError
from gatepost.plugins import Services
from gatepost.services.dns import Resolver
from gatepost.services.host import NullLog
from gatepost.services.next_hop import NextHops
from gatepost.services.store import MemoryBackend
from gatepost.services.virtual_clock import HastyClock

if TYPE_CHECKING:
    from gatepost.config import Config


class NoDNS(Resolver):
    """A resolver that knows nothing, and says so."""

    async def query(self, name: str, kind: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Raise DNSTemporaryError."""
        raise DNSTemporaryError(f"{name!r} {kind}: nobody is asked here")


def services(config: Config) -> Services:
    """Services that are good for loading plugins, and for nothing else."""
    clock = HastyClock()
    return Services(
        dns=NoDNS(),
        store=MemoryBackend(clock),
        clock=clock,
        next_hop=NextHops(clock, config.hostname),
        log=lambda name: NullLog(),
    )
