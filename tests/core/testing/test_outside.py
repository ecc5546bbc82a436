"""Virtual time stands still while a plugin waits for a socket, a timer of asyncio, or a thread that asks a service."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gatepost import Clock, Decision, Resolver, deny, hookimpl
from gatepost.testing import Server, instance
from gatepost.testing.outside import outside


class Peer:
    """A server of HTTP's kind in the same loop: an answer for each line, once ``delay`` real seconds have passed."""

    def __init__(self) -> None:
        self.port = 0
        self.delay = 0.0
        self.answers = True
        self.asked: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the client leaves."""
        loop = asyncio.get_running_loop()
        while line := await reader.readline():
            self.asked.append(line)
            if self.answers:
                loop.call_later(self.delay, writer.write, b"no\r\n" if b"bad" in line else b"yes\r\n")
        writer.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """Return a server that runs."""
    made = Peer()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


class Asks:
    """Asks the server about each sender, over a connection that it keeps."""

    on_error = "pass"

    def __init__(self, port: int) -> None:
        self.port = port
        self.connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    @hookimpl
    async def mail(self, sender: Any) -> Decision | None:
        if self.connection is None:
            self.connection = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.connection
        writer.write(f"{sender}\r\n".encode())
        return deny("the server says no") if await reader.readline() == b"no\r\n" else None

    @hookimpl
    def shutdown(self) -> None:
        if self.connection is not None:
            self.connection[1].close()


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.3])
async def test_virtual_time_does_not_outrun_a_socket(policy: Any, peer: Peer, delay: float) -> None:
    peer.delay = delay
    gate = policy(Asks(peer.port))
    for sender, code in (("x@bad.example", 550), ("x@good.example", 250), ("y@bad.example", 550)):
        client = await gate.connect()
        assert (await client.transaction(sender)).code == code
        await client.close()
    assert gate.clock.monotonic() == 0.0
    assert peer.asked == [b"x@bad.example\r\n", b"x@good.example\r\n", b"y@bad.example\r\n"]
    await gate.close()


async def test_a_server_that_never_answers_costs_the_plugins_time_limit(policy: Any, peer: Peer) -> None:
    peer.answers = False
    gate = policy(Asks(peer.port))
    assert (await (await gate.connect()).transaction()).code == 250
    (failed,) = gate.events.named("plugin_failed")
    assert str(failed["error"]).startswith("no answer within 30 s")
    await gate.close()


class Jobbing(Asks):
    """Asks, and has a job that is repeated each second."""

    @hookimpl
    def startup(self, server: Any) -> None:
        server.every(1, self.work)

    async def work(self) -> None: ...


async def test_a_repeated_job_does_not_move_time_on_while_a_socket_is_awaited(policy: Any, peer: Peer) -> None:
    peer.delay = 0.1
    gate = policy(Jobbing(peer.port))
    assert (await (await gate.connect()).transaction("x@bad.example")).code == 550
    assert gate.clock.monotonic() == 0.0
    await gate.close()


async def test_the_fixture_server_waits_for_the_sockets_of_plugins_too(server: type[Server], peer: Peer) -> None:
    peer.delay = 0.5
    async with server(Asks(peer.port)) as live:
        wire = await live.connect()
        assert (await wire.reply()).code == 220
        assert (await wire.say("EHLO x")).code == 250
        assert (await wire.say("MAIL FROM:<x@bad.example>")).code == 250
        assert (await wire.say("RCPT TO:<b@example.org>")).code == 550
        assert live.policy.clock.monotonic() < 30


async def test_a_timer_of_asyncio_is_waited_for(policy: Any) -> None:
    class Naps:
        @hookimpl
        async def helo(self) -> None:
            await asyncio.sleep(0.05)

    gate = policy(Naps())
    assert (await (await gate.connect()).ehlo()).code == 250
    assert gate.clock.monotonic() == 0.0 and not gate.events.named("plugin_failed")


async def test_a_wait_on_the_clock_takes_no_time_although_a_connection_is_open(policy: Any, peer: Peer) -> None:
    class Both(Asks):
        def __init__(self, port: int, clock: Clock) -> None:
            super().__init__(port)
            self.clock = clock

        @hookimpl
        async def helo(self) -> None:
            await self.clock.sleep(25)

    clock = (gate := policy()).clock
    gate.reload(Both(peer.port, clock))
    began = asyncio.get_running_loop().time()
    for _ in range(3):
        client = await gate.connect()
        assert (await client.transaction()).code == 250
    assert clock.monotonic() == 75.0
    assert asyncio.get_running_loop().time() - began < 3  # the patience for a socket that nobody sleeps beside
    await gate.close()


async def test_a_thread_may_ask_a_service_through_the_loop(policy: Any) -> None:
    class SyncSPF:
        def __init__(self, dns: Resolver) -> None:
            self.dns = dns

        @hookimpl
        def startup(self) -> None:
            self.loop = asyncio.get_running_loop()

        @hookimpl(blocking=True)
        def mail(self) -> Decision | None:
            asked = asyncio.run_coroutine_threadsafe(self.dns.query("a.example", "TXT"), self.loop)
            return deny("SPF says no") if asked.result() == ("v=spf1 -all",) else None

    gate = policy(SyncSPF)
    gate.dns.answer("a.example", "TXT", "v=spf1 -all")
    gate.dns.delay("a.example", "2s")
    assert (await (await gate.connect()).transaction()).code == 550
    assert gate.clock.monotonic() == 2.0


async def test_the_clock_of_the_machine_is_to_be_had(policy: Any, peer: Peer) -> None:
    gate = policy(instance(Asks(peer.port)), clock="real")
    assert (await (await gate.connect()).transaction("x@bad.example")).code == 550
    assert not hasattr(gate.clock, "advance")
    await gate.close()


class TestPrivateNames:
    """Each private name of asyncio that is used, so that a Python that has it no more is noticed."""

    async def test_an_idle_loop_waits_for_nothing(self) -> None:
        assert not outside().waits

    async def test_a_socket_that_is_watched_is_waited_for(self) -> None:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        with one, other:
            loop.add_reader(one, one.recv, 1)
            assert outside().waits
            before = outside().activity
            other.send(b"x")
            await asyncio.sleep(0.001)
            assert outside().activity > before
            loop.remove_reader(one)
        assert not outside().waits

    async def test_a_listening_socket_is_not_waited_for(self, peer: Peer) -> None:
        assert peer.port and not outside().waits

    async def test_a_timer_is_waited_for_if_it_is_due_soon(self) -> None:
        loop = asyncio.get_running_loop()
        late = loop.call_later(60, int)
        assert not outside().waits
        soon = loop.call_later(1, int)
        assert outside().waits
        soon.cancel()
        assert not outside().waits
        late.cancel()
