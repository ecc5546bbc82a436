"""The repeated jobs of a replaced policy end with it, also while a session still uses its plugins."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gatepost import config as configuration
from gatepost.server.server import Server

PLUGIN = """
from gatepost import hookimpl

class Repeats:
    @hookimpl
    def startup(self, server):
        server.every(3600, self.job)

    async def job(self):
        pass
"""


def jobs() -> list[asyncio.Task[object]]:
    """Return the plugin's repeated jobs that wait for their next time."""
    repeated = [task for task in asyncio.all_tasks() if "_repeat" in repr(task.get_coro())]
    return [task for task in repeated if any(frame.f_locals["seconds"] == 3600 for frame in task.get_stack())]


async def test_jobs_of_a_replaced_policy_end_at_the_reload(tmp_path: Path) -> None:
    (tmp_path / "repeats.py").write_text(PLUGIN)
    path = tmp_path / "gatepost.toml"
    path.write_text(
        f'state_dir = "{tmp_path}/state"\n[listen.smtp]\nbind = ["127.0.0.1:0"]\n[store]\nurl = "memory:"\n'
        '[plugins]\norder = ["repeats", "discard"]\n[plugins.repeats]\nuse = "repeats.py"\n'
    )
    server = Server(configuration.load_config(path, {}), path, {})
    try:
        await server.start()
        (first,) = jobs()
        (address,) = server.addresses["smtp"]
        reader, writer = await asyncio.open_connection(*address)  # a session that still uses the old policy
        await reader.readline()
        await server.reload()
        (second,) = jobs()
        assert second is not first
        await server.reload()
        (third,) = jobs()
        assert third is not second
        writer.close()
    finally:
        await server.close()
    assert jobs() == []
