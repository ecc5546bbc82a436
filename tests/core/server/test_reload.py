"""A reload in one process: what belonged to the policy before is closed and released."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

from gatepost import config as configuration
from gatepost.server.server import Server
from gatepost.services.next_hop import NextHop
from tests.door import until
from tests.peers.mail_server import MailServer

POLICY = """
state_dir = "{folder}/state"
[listen.smtp]
bind = ["127.0.0.1:0"]
[store]
url = "memory:"
[log]
level = "error"
[plugins]
order = ["recipients", "forward"]
[plugins.recipients]
domains = ["example.test"]
[plugins.forward]
to = "{url}"
"""


def next_hop(server: Server) -> NextHop:
    """The client of the next hop that the newest policy has."""
    policy, _ = server._policies[-1]
    found = policy.instances["forward"].plugin.next_hop
    assert isinstance(found, NextHop)
    return found


async def test_the_next_hops_of_a_reloaded_policy_are_closed_and_released(tmp_path: Path) -> None:
    async with MailServer() as mail_server:
        path = tmp_path / "gatepost.toml"
        path.write_text(POLICY.format(folder=tmp_path, url=mail_server.url))
        server = Server(configuration.load_config(path, {}), path, {})
        try:
            await server.start()
            before = []
            for _ in range(50):
                # An idle connection, which must not outlive its policy.
                delivery = await next_hop(server).begin()
                await delivery.release()
                before.append(weakref.ref(next_hop(server)))
                await server.reload()
            del delivery
            await mail_server.until(lambda: sum(not each.is_over for each in mail_server.connections) <= 1)
            assert len(server._policies) == 1

            def all_are_gone() -> bool:
                gc.collect()
                return all(reference() is None for reference in before)

            await until(all_are_gone)  # what was being connected to may end a moment later
        finally:
            await server.close()
        await mail_server.until(lambda: all(each.is_over for each in mail_server.connections))
        left = [each.verbs()[-1] for each in mail_server.connections]
        assert set(left) <= {"QUIT", "EHLO"} and left.count("QUIT") >= 50


async def test_a_delivery_under_way_is_not_broken_off_and_its_connection_not_kept(tmp_path: Path) -> None:
    async with MailServer() as mail_server:
        path = tmp_path / "gatepost.toml"
        path.write_text(POLICY.format(folder=tmp_path, url=mail_server.url))
        server = Server(configuration.load_config(path, {}), path, {})
        try:
            await server.start()
            delivery = await next_hop(server).begin()
            await delivery.envelope("a@x.example", ["b@y.example"])
            await server.reload()
            assert (await delivery.data([b"x\r\n"]))["b@y.example"].is_positive
            await delivery.release()
            used = next(each for each in mail_server.connections if "MAIL" in each.verbs())
            await mail_server.until(lambda: used.is_over)
            assert used.verbs()[-1] == "QUIT"
        finally:
            await server.close()
