"""Reloads end at the memory of the first: nothing of a replaced policy stays, whatever its plugins hold."""

from __future__ import annotations

import asyncio
import sys
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from gatepost import config as configuration
from gatepost.server import server as module
from gatepost.server.server import Server
from tests.end_to_end.client import connected
from tests.patience import PATIENCE

MINE = """
from gatepost import Options, hookimpl

class Held:
    pass

class Mine:
    class Options(Options):
        fails: bool = False

    def __init__(self, options):
        self.options = options
        self.itself = self
        self.much = [Held() for _ in range(100)]

    @hookimpl
    def startup(self):
        if self.options.fails:
            raise ValueError("not today")

    @hookimpl
    def helo(self): ...
"""
POLICY = """
[log]
level = "error"
[listen.smtp]
bind = ["127.0.0.1:0"]
[store]
url = "memory:"
[plugins]
order = ["mine", "recipients", "discard"]
[plugins.recipients]
files = ["list"]
[plugins.mine]
use = "mine.py"
"""


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Server]:
    """Serve as the command does, which also settles the garbage collector."""
    (folder / "list").write_text("".join(f"user{number}@example.org\n" for number in range(100)))
    (folder / "mine.py").write_text(MINE)
    path = folder / "gatepost.toml"
    path.write_text(f'state_dir = "{folder}/state"\n{POLICY}')
    server = Server(configuration.load_config(path, {}), path, {})
    await server.start()
    serving = asyncio.create_task(server.serve())
    await asyncio.sleep(0)
    try:
        yield server
    finally:
        server.stop()
        await serving


def held_by(server: Server) -> list[weakref.ref[Any]]:
    """Return weak references to what the newest policy holds: plugins, a class and objects of a plugin's own."""
    instances = server._policies[-1][0].instances
    mine = instances["mine"].plugin
    held = [instance.plugin for instance in instances.values()]
    return [weakref.ref(each) for each in (*held, type(mine), type(mine).Options, mine.much[0])]


def alive(references: list[weakref.ref[Any]]) -> int:
    return sum(reference() is not None for reference in references)


async def test_reloads_end_at_the_memory_of_the_first(tmp_path: Path) -> None:
    count = settings().max_examples // 2 - 10  # 50 reloads in all; with scripts/test --long 500
    async with serving(tmp_path) as server:
        replaced = held_by(server)  # the policy of the start, which the garbage collector was told to pass over
        for _ in range(10):
            await server.reload()
        await asyncio.sleep(0)  # memory is given back in the loop's next turn
        first = sys.getallocatedblocks()
        for _ in range(count):
            replaced += held_by(server)
            await server.reload()
        await asyncio.sleep(0)
        assert len(server._policies) == 1
        assert alive(replaced) == 0
        assert sys.getallocatedblocks() - first < count * 50  # one policy takes about 10,000


async def test_a_policy_that_cannot_start_leaves_nothing_behind(tmp_path: Path) -> None:
    async with serving(tmp_path) as server:
        path = tmp_path / "gatepost.toml"
        path.write_text(path.read_text() + "fails = true\n")
        for _ in range(5):
            await server.reload()
        await asyncio.sleep(0)
        assert len(server._policies) == 1


@pytest.mark.patches
async def test_a_policy_that_a_session_uses_is_given_back_soon_after_its_last_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_FOR_UNUSED", 0.01)
    async with serving(tmp_path) as server:
        replaced = held_by(server)
        async with connected(server.addresses["smtp"][0][1]) as client:
            assert (await client.greet()).startswith(b"250")
            await server.reload()
            assert alive(replaced) == len(replaced)
            assert (await client.say("NOOP")).startswith(b"250")
        ended = asyncio.get_running_loop().time() + PATIENCE
        while alive(replaced) and asyncio.get_running_loop().time() < ended:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert alive(replaced) == 0
