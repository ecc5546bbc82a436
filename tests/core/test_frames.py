"""A frame budget: few calls lie between a client's octets and a plugin, so that one can read the way in an evening."""

from __future__ import annotations

import traceback
from itertools import dropwhile

import pytest

from gatepost import Decision, accept, hookimpl
from gatepost.services.clock import SystemClock
from tests.door import live
from tests.policy import Policy

MOST = 8
"""Frames from ``data_received`` to a plugin at RCPT, both counted."""


class Counting:
    """A plain plugin that keeps the way by which it was called, from ``data_received`` on."""

    grants = "recipients"

    def __init__(self) -> None:
        self.way: list[str] = []

    @hookimpl
    def rcpt(self) -> Decision:
        frames = [frame.name for frame in traceback.extract_stack()]
        self.way = list(dropwhile(lambda name: name != "data_received", frames))
        return accept()


@pytest.mark.patches  # compiled code has no frames
async def test_few_frames_lie_between_octets_and_a_plain_plugin_at_rcpt() -> None:
    plugin = Counting()
    async with live(Policy(plugin, clock=SystemClock())) as door:
        wire = await door.hello()
        await wire.envelope()
    assert (plugin.way[0], plugin.way[-1]) == ("data_received", "rcpt")
    assert len(plugin.way) <= MOST, " → ".join(plugin.way)
