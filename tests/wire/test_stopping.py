"""Stopping, as the doors do it: who waits or is idle is told, dialogues may finish, and a handover always does."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gatepost import Decision, Session, accept, hookimpl
from gatepost import config as configuration
from gatepost.doors.closing import DRAIN
from gatepost.server import server as server_module
from gatepost.server.server import Server
from tests.door import PATIENCE, Keeping, Wire, live, until
from tests.policy import MESSAGE, Policy, vouching

STOPPING = b"421 4.3.2 service stopping, try again later\r\n"


class Holding:
    """Holds its clients up at ``phase`` until ``release`` is set."""

    grants = "delivery"

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.asked, self.release = asyncio.Event(), asyncio.Event()
        self.ends: list[str] = []

    async def hold(self, phase: str) -> None:
        if phase == self.phase:
            self.asked.set()
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.ends.append("cancelled")
                raise

    @hookimpl
    async def connect(self, session: Session) -> None:
        if self.phase == "connect":
            self.asked.set()
            await session.silence(60)

    @hookimpl
    async def mail(self) -> None:
        await self.hold("mail")

    @hookimpl
    async def queue(self) -> Decision:
        await self.hold("queue")
        return accept()

    @hookimpl
    def disconnect(self) -> None:
        self.ends.append("disconnect")


class TestGrace:
    """``stop()``: what clients get that are given time."""

    async def test_idle_clients_are_told_to_come_back(self) -> None:
        async with live(Policy()) as door:
            fresh, greeted = await door.connect(), await door.hello()
            await fresh.reply()
            door.listener.stop()
            assert await fresh.rest() == await greeted.rest() == STOPPING

    @pytest.mark.parametrize("now", [False, True])
    async def test_waiting_clients_are_told_once_and_their_plugins_cancelled(self, now: bool) -> None:
        policy = Policy(holding := Holding("connect"))
        async with live(policy) as door:
            wire = await door.connect()
            await holding.asked.wait()
            door.listener.stop()
            if now:
                door.listener.stop(now=True)
            assert await wire.rest() == STOPPING
            await wire.close()
            await door.left()
            assert holding.ends == ["disconnect"]
            await policy.clock.advance(100)
            assert not policy.events.events

    async def test_who_comes_now_is_turned_away_before_any_plugin_runs(self) -> None:
        async with live(Policy(holding := Holding("connect"))) as door:
            door.listener.stop()
            wire = await door.connect()
            assert await wire.rest() == STOPPING
            await wire.close()
            await door.left()
            assert holding.ends == []

    async def test_a_dialogue_may_finish_its_transaction_and_begins_no_other(self) -> None:
        async with live(Policy(vouching(), keeping := Keeping())) as door:
            wire = await door.hello()
            await wire.say(b"MAIL FROM:<a@example.com>")
            door.listener.stop()
            assert (await wire.say(b"RCPT TO:<b@example.org>")).startswith(b"250 ")
            assert (await wire.say(b"DATA")).startswith(b"354 ")
            wire.send(MESSAGE + b".\r\nMAIL FROM:<c@example.com>\r\n")
            assert (await wire.reply()).startswith(b"250 2.0.0 queued as ")
            assert await wire.rest() == STOPPING
            assert keeping.contents == [MESSAGE]

    async def test_a_client_that_has_only_now_come_through_is_told(self) -> None:
        """It was asked about when the server was told to stop, and is greeted only after that."""

        class Late:
            @hookimpl
            def connect(self) -> None:
                door.listener.stop()

        async with live(Policy(Late())) as door:
            wire = await door.connect()
            assert (await wire.rest()).endswith(STOPPING)


class TestAfterTheGrace:
    """``stop(now=True)``: what clients get that have taken too long."""

    @pytest.mark.parametrize("line", [b"", b"DATA\r\nSubject: x\r\n"])
    async def test_a_transaction_is_broken_off(self, line: bytes) -> None:
        async with live(Policy(vouching(), keeping := Keeping())) as door:
            wire = await door.hello()
            await wire.envelope()
            wire.send(line)
            if line:
                await wire.reply()
                await door.received(len(b"Subject: x\r\n"))
            door.listener.stop()
            door.listener.stop(now=True)
            assert await wire.rest() == STOPPING
            assert not keeping.contents

    async def test_a_plugin_that_still_thinks_is_cancelled(self) -> None:
        async with live(Policy(holding := Holding("mail"))) as door:
            wire = await door.hello()
            wire.send(b"MAIL FROM:<a@example.com>\r\n")
            await holding.asked.wait()
            door.listener.stop()
            await asyncio.sleep(0)
            assert holding.ends == []
            door.listener.stop(now=True)
            assert await wire.rest() == STOPPING
            assert holding.ends[0] == "cancelled"

    async def test_a_hand_over_is_not_broken_off_and_its_client_is_told(self) -> None:
        async with live(Policy(vouching(), holding := Holding("queue"))) as door:
            wire = await door.connect()
            await wire.to_data()
            wire.send(MESSAGE + b".\r\n")
            await holding.asked.wait()
            door.listener.stop()
            door.listener.stop(now=True)
            await asyncio.sleep(0)
            holding.release.set()
            assert (await wire.reply()).startswith(b"250 2.0.0 queued as ")
            assert await wire.rest() == STOPPING
            assert "cancelled" not in holding.ends

    async def test_a_client_that_does_not_read_its_replies_is_closed(self) -> None:
        policy = Policy()
        async with live(policy) as door:
            wire = await door.connect(room=4096)
            await wire.hello()
            wire.stop_reading()
            wire.send(b"HELP\r\n" * 200_000)
            await until(lambda: door.client._write_paused)
            door.listener.stop(now=True)
            await policy.clock.advance(DRAIN)
            await door.left()


PLUGIN = '''
"""Notes what it is told, in order, and takes a message once there is a file called "go"."""

import asyncio
from pathlib import Path

from gatepost import accept, hookimpl

FOLDER = Path(__file__).parent


def note(what: str) -> None:
    with (FOLDER / "seen").open("a") as seen:
        seen.write(f"{what}\\n")


class Plugin:
    grants = ("recipients", "delivery")

    @hookimpl
    def rcpt(self):
        return accept()

    @hookimpl
    async def queue(self):
        note("queue")
        while not (FOLDER / "go").exists():
            await asyncio.sleep(0.01)
        return accept()

    @hookimpl
    def queued(self):
        note("queued")

    @hookimpl
    def disconnect(self):
        note("disconnect")

    @hookimpl
    def shutdown(self):
        note("shutdown")
'''


REFUSING = '''
"""Refuses every recipient."""

from gatepost import deny, hookimpl


@hookimpl
def rcpt():
    return deny("closed")
'''


class TestServer:
    """Signals to a whole server, on both loops; as processes such servers are looked at in the tests end to end."""

    def configure(self, folder: Path, order: str, grace: str = "30s") -> Path:
        """Write a configuration with this order of plugins."""
        path = folder / "gatepost.toml"
        path.write_text(
            f'state_dir = "{folder}"\ngrace = "{grace}"\n[listen.smtp]\nbind = ["127.0.0.1:0"]\n'
            f'[plugins]\norder = [{order}]\n[plugins.plugin]\nuse = "plugin.py"\n'
            '[plugins.refusing]\nuse = "refusing.py"\n'
        )
        return path

    @asynccontextmanager
    async def serving(self, folder: Path, grace: str = "30s") -> AsyncIterator[Server]:
        """A server with the plugin above. It has ended when the block ends."""
        (folder / "plugin.py").write_text(PLUGIN)
        (folder / "refusing.py").write_text(REFUSING)
        path = self.configure(folder, '"plugin"', grace)
        server = Server(configuration.load_config(path, {}), path, {})
        await server.start()
        serving = asyncio.create_task(server.serve())
        try:
            yield server
        finally:
            server.stop()
            (folder / "go").touch()
            async with asyncio.timeout(PATIENCE):
                await serving

    async def test_sigterm(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Even without any grace a handover ends, its client is told, and its session ends before the server."""
        monkeypatch.setattr(server_module, "LAST_REPLIES", 0.3)
        async with self.serving(tmp_path, "0s") as server:
            (listening,) = server.addresses["smtp"]
            busy, idle = [Wire(*await asyncio.open_connection(*listening)) for _ in range(2)]
            await idle.hello()
            await busy.to_data()
            busy.send(MESSAGE + b".\r\n")
            seen = tmp_path / "seen"
            await until(seen.exists)
            os.kill(os.getpid(), signal.SIGTERM)
            assert await idle.rest() == STOPPING
            await idle.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*listening)
            await until(lambda: seen.read_text() == "queue\ndisconnect\n")
            await asyncio.sleep(0.5)  # nothing shows that this time is over
            (tmp_path / "go").touch()
            assert (await busy.reply()).startswith(b"250 2.0.0 queued as ")
            assert await busy.rest() == STOPPING
            await busy.close()
        assert seen.read_text() == "queue\ndisconnect\nqueued\ndisconnect\nshutdown\n"

    async def test_sighup(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A changed order is for new sessions; a wrong one changes nothing and says so."""
        async with self.serving(tmp_path) as server:
            events: list[str] = []
            monkeypatch.setattr(server.recorder, "event", lambda event, **facts: events.append(event.name))
            (listening,) = server.addresses["smtp"]
            old = Wire(*await asyncio.open_connection(*listening))
            await old.hello()

            self.configure(tmp_path, '"refusing", "plugin"')
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: "reloaded" in events)
            new = Wire(*await asyncio.open_connection(*listening))
            await new.hello()
            await old.envelope()
            await new.say(b"MAIL FROM:<a@example.com>")
            assert (await new.say(b"RCPT TO:<b@example.org>")).startswith(b"550 5.7.1 closed [")

            self.configure(tmp_path, '"plugin", "missing"')
            os.kill(os.getpid(), signal.SIGHUP)
            await until(lambda: "reload_failed" in events)
            newest = Wire(*await asyncio.open_connection(*listening))
            await newest.hello()
            await newest.say(b"MAIL FROM:<a@example.com>")
            assert (await newest.say(b"RCPT TO:<b@example.org>")).startswith(b"550 5.7.1 closed [")
            assert events.count("reloaded") == 1
            for wire in (old, new, newest):
                await wire.say(b"RSET")
                await wire.close()

    async def test_an_old_policy_goes_with_its_last_session(self, tmp_path: Path) -> None:
        """Its plugins are told to shut down at a reload that finds none of its sessions left."""
        async with self.serving(tmp_path) as server:
            (listening,) = server.addresses["smtp"]
            old = Wire(*await asyncio.open_connection(*listening))
            await old.hello()
            await server.reload()
            assert not (tmp_path / "seen").exists()
            await old.close()
            await until(lambda: not any(each.connected for each in server.listeners.values()))
            await server.reload()
            assert (tmp_path / "seen").read_text() == "disconnect\nshutdown\nshutdown\n"

    async def test_reloads_that_overlap_end_and_so_does_the_server(self, tmp_path: Path) -> None:
        """An impatient administrator, or a script, sends SIGHUP again before the first is done with."""
        async with self.serving(tmp_path) as server:
            reloads = [server.runtime.spawn(server.reload()) for _ in range(3)]
            async with asyncio.timeout(10):
                await asyncio.gather(*reloads)
                await server.reload()
        assert (tmp_path / "seen").read_text() == 5 * "shutdown\n"

    async def test_what_a_reload_does_not_take_up_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The administrator must not believe that it took effect."""
        async with self.serving(tmp_path) as server:
            said: list[tuple[str, object]] = []
            monkeypatch.setattr(
                server.recorder, "event", lambda event, **facts: said.append((event.name, facts.get("keys")))
            )
            path = tmp_path / "gatepost.toml"
            await server.reload()
            path.write_text('hostname = "other.example.org"\n' + path.read_text() + "[limits]\nrecipients = 5\n")
            await server.reload()
            assert said == [
                *[("reloaded", None)] * 2,
                ("restart_needed", ["hostname", "limits.recipients"]),
            ]
