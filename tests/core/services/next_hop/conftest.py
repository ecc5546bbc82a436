"""Fixtures of the services' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatepost.services.next_hop import NextHop, Target
from gatepost.services.virtual_clock import VirtualClock
from gatepost.testing.recording import GateEvents
from tests.core.services.next_hop.delivering import OpenNextHop


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def recorder() -> GateEvents:
    return GateEvents()


@pytest.fixture
async def open_next_hop(clock: VirtualClock, recorder: GateEvents) -> AsyncIterator[OpenNextHop]:
    """Return a function of URLs and options that makes a next hop, which is closed after the test."""
    opened: list[NextHop] = []

    def open_(*urls: str, **options: Any) -> NextHop:
        targets = [Target.parse(url) for url in urls]
        opened.append(NextHop(targets, clock=clock, local_hostname="gate.example", recorder=recorder, **options))
        return opened[-1]

    yield open_
    for next_hop in opened:
        await next_hop.close()
