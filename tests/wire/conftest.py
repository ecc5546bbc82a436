"""Fixtures of the wire tests: each test that talks to a door runs on asyncio's own loop and on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop

from gatepost import NextHops
from gatepost_builtin.delivery.forward import Forward, ForwardOptions
from tests.door import Deaf
from tests.peers.mail_server import MailServer
from tests.policy import Policy


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops that every async test of this folder runs on."""
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def forward_to() -> AsyncIterator[Callable[..., Forward]]:
    """Return a function of a mail server, and options, that makes the plugin that forwards to it."""
    next_hops = NextHops(Policy().clock, "gate.example")

    def make(server: MailServer, **options: Any) -> Forward:
        return Forward(ForwardOptions(to=server.url, **options), next_hops, Deaf())

    yield make
    await next_hops.close()
