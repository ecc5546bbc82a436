"""Services for loading a policy without running it: they send nothing and keep nothing.

``check`` and ``plugins`` use them, so a policy can be examined on a machine other than its server.
"""

from __future__ import annotations

from gatepost.config import Config
from gatepost.errors import DNSTemporaryError
from gatepost.plugins import Services
from gatepost.services.dns import Resolver
from gatepost.services.host import NullLog
from gatepost.services.next_hop import NextHops
from gatepost.services.store import MemoryBackend
from gatepost.services.virtual_clock import HastyClock


class NoDNS(Resolver):
    """A resolver for which every query is a temporary error."""

    async def query(self, name: str, kind: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Raise DNSTemporaryError."""
        raise DNSTemporaryError(f"{name!r} {kind}: no name server is asked here")


def offline_services(config: Config) -> Services:
    """Return services with which plugins can be loaded, but not run."""
    clock = HastyClock()
    return Services(
        dns=NoDNS(),
        store=MemoryBackend(clock),
        clock=clock,
        next_hop=NextHops(clock, config.hostname),
        log=lambda name: NullLog(),
    )
