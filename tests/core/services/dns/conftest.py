"""A real DNS server on loopback that a test can make fail in every way, and the resolver that asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gatepost.services.dns.client import DNS
from gatepost.services.virtual_clock import VirtualClock
from tests.core.services.dns.zones import RECORDS
from tests.peers.dns_server import DNSServer


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def server() -> AsyncIterator[DNSServer]:
    async with DNSServer(RECORDS) as server:
        yield server


@pytest.fixture
async def dns(server: DNSServer, clock: VirtualClock) -> AsyncIterator[DNS]:
    resolver = DNS([server.address], clock=clock)
    yield resolver
    await resolver.close()
