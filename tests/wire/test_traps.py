"""The traps of aiosmtpd and of asyncio, each with the behaviour that avoids it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from gatepost import Decision, Envelope, accept, deny, hookimpl
from gatepost.doors.closing import DRAIN
from gatepost.doors.smtp import BATCH, LINE_BUFFER, READ_AHEAD, SMTP
from gatepost.message.data import DataReader
from tests.door import PATIENCE, Keeping, LiveDoor, Wire, live, sessions, until
from tests.policy import MESSAGE, Policy, vouching

ONE_READ = 256 * 1024
"""The most that a loop reads from a socket at a time."""


def sent_at_once(wire: Wire, octets: bytes) -> int:
    """Put into the socket what it takes, while the loop stands still; how much that is."""
    with socket.fromfd(wire.writer.get_extra_info("socket").fileno(), socket.AF_INET, socket.SOCK_STREAM) as made:
        made.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < len(octets):
                sent += made.send(octets[sent : sent + ONE_READ])
    return sent


class Holding:
    """Holds one phase up until ``release`` is set, and notes how its session ends."""

    grants = "delivery"

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.asked, self.release = asyncio.Event(), asyncio.Event()
        self.ends: list[str] = []
        self.handed_over = 0

    async def hold(self, phase: str) -> None:
        if phase != self.phase:
            return
        self.asked.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise

    @hookimpl
    async def helo(self) -> None:
        await self.hold("helo")

    @hookimpl
    async def headers(self) -> None:
        await self.hold("headers")

    @hookimpl
    async def message(self) -> None:
        await self.hold("message")

    @hookimpl
    async def queue(self) -> Decision:
        self.handed_over += 1
        await self.hold("queue")
        return accept()

    @hookimpl
    async def queued(self, envelope: Envelope) -> None:
        await self.hold("queued")
        self.ends.append("queued")

    @hookimpl
    def disconnect(self) -> None:
        self.ends.append("disconnect")


class TestSessionsOfTheirOwn:
    async def test_the_limits_of_lines_are_not_shared_and_do_not_grow(self) -> None:
        """Those of aiosmtpd are a mapping of the class, which grows with each EHLO."""
        async with live(Policy()) as door:
            first, second = await door.hello(), await door.hello()
            for _ in range(20):
                assert (await first.say(b"EHLO client.example.com")).startswith(b"250-")
            for wire in (first, second):
                assert (await wire.say(b"MAIL FROM:<" + b"a" * 1060 + b">")).startswith(b"500 5.5.2 ")
                assert (await wire.say(b"VRFY " + b"a" * 506)).startswith(b"500 5.5.2 ")

    async def test_sessions_share_no_state(self) -> None:
        async with live(Policy(vouching())) as door:
            first, second = await door.hello(), await door.hello()
            await first.envelope()
            assert (await second.say(b"DATA")).startswith(b"503 5.5.1 ")
            assert (await first.say(b"DATA")).startswith(b"354 ")

    async def test_the_door_has_the_attributes_that_its_class_names_and_no_others(self) -> None:
        """A dictionary for each client that is idle would cost more than the whole door."""
        async with live(Policy()) as door:
            await door.hello()
            assert not hasattr(door.client, "__dict__")


class TestErrorsThatLookLikeLoss:
    """The exceptions that aiosmtpd takes for the client's leaving when a handler raises them."""

    @pytest.mark.parametrize("error", [ConnectionResetError, BrokenPipeError, asyncio.CancelledError, EOFError])
    @pytest.mark.parametrize("phase", ["rcpt", "data", "headers", "message", "queue", "vrfy"])
    async def test_raised_by_a_plugin_they_are_451_and_the_session_goes_on(
        self, phase: str, error: type[BaseException]
    ) -> None:
        async def hook(self: Any) -> None:
            if self.fails:
                self.fails = False
                raise error("secret")

        failing = type("Failing", (), {phase: hookimpl(hook), "fails": True})()
        async with live(Policy(failing, vouching(), keeping := Keeping())) as door:
            wire = await door.hello()
            wire.send(b"VRFY x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\n")
            replies = await wire.replies(4)
            reply = await wire.say(b"DATA")
            if reply.startswith(b"354 "):
                wire.send(MESSAGE + b".\r\n")
                reply = await wire.reply()
            refused = [reply for reply in (*replies, reply) if reply.startswith(b"451 4.3.0 ")]
            assert len(refused) == 1
            assert b"secret" not in refused[0]
            await wire.say(b"RSET")
            await wire.envelope()
            assert (await wire.message()).startswith(b"250 ")
            assert keeping.contents


class TestEofAndReset:
    async def test_eof_during_a_plugins_wait_the_client_still_gets_its_reply(self) -> None:
        async with live(Policy(holding := Holding("helo"))) as door:
            wire = await door.connect()
            await wire.reply()
            wire.send(b"EHLO x\r\nNOOP\r\n")
            wire.half_close()
            await holding.asked.wait()
            await until(lambda: door.client._at_eof)
            holding.release.set()
            assert re.fullmatch(rb"250-[^\0]*\r\n250 [^\r]*\r\n250 [^\r]*OK\r\n", await wire.rest())
            await door.left()
            assert holding.ends == ["disconnect"]

    async def test_reset_during_a_plugins_wait_cancels_it(self) -> None:
        async with live(policy := Policy(holding := Holding("helo"))) as door:
            wire = await door.connect()
            await wire.reply()
            wire.send(b"EHLO x\r\n")
            await holding.asked.wait()
            wire.reset()
            await door.left()
            assert holding.ends == ["cancelled", "disconnect"]
            assert not policy.events.named("plugin_failed")

    async def test_a_plugin_that_swallows_its_cancellation_keeps_no_session(self) -> None:
        asked = asyncio.Event()

        class Stubborn:
            @hookimpl
            async def helo(self) -> None:
                asked.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    return

        async with live(Policy(Stubborn())) as door:
            wire = await door.connect()
            await wire.reply()
            wire.send(b"EHLO x\r\n")
            await asked.wait()
            wire.reset()
            await door.left()

    @pytest.mark.parametrize("how", ["eof", "reset", "close"])
    @pytest.mark.parametrize("phase", ["queue", "queued"])
    async def test_leaving_in_mid_hand_over(self, phase: str, how: str) -> None:
        """The handover completes, once; ``queued`` fires and the record is written; who half-closed is told."""
        policy = Policy(vouching(), holding := Holding(phase))
        async with live(policy) as door:
            wire = await door.connect()
            await wire.to_data()
            wire.send(MESSAGE + b".\r\n")
            if how == "eof":
                wire.half_close()
            await holding.asked.wait()
            {"eof": lambda: None, "reset": wire.reset, "close": wire.writer.close}[how]()
            await until(lambda: not door.listener.connected or door.client._at_eof)
            await policy.clock.advance(0)
            assert holding.ends == []
            holding.release.set()
            if how == "eof":
                assert re.fullmatch(rb"250 2\.0\.0 queued as [^\r]*\r\n", await wire.rest())
            await door.left()
            assert holding.handed_over == 1
            assert holding.ends == ["queued", "disconnect"]
            assert [record.event for record in policy.events.records] == ["accepted", "disconnected"]

    async def test_leaving_after_the_hand_over_without_reading_the_reply(self) -> None:
        policy = Policy(vouching(), holding := Holding("queue"))
        async with live(policy) as door:
            wire = await door.connect()
            await wire.to_data()
            wire.send(MESSAGE + b".\r\n")
            await holding.asked.wait()
            assert isinstance(door.client, SMTP)
            door.client.pause_writing()  # as the transport does when the client reads nothing
            holding.release.set()
            await until(lambda: policy.events.records)
            assert holding.ends == []
            wire.reset()
            await door.left()
            assert holding.ends == ["queued", "disconnect"]

    async def test_leaving_in_data_hands_nothing_over(self) -> None:
        policy = Policy(vouching(), keeping := Keeping())
        async with live(policy) as door:
            for leave in (b"", b"Subject: x\r\n", MESSAGE, MESSAGE + b".", MESSAGE + b".\r"):
                wire = await door.connect()
                await wire.to_data()
                wire.send(leave)
                await door.received(len(leave))
                wire.half_close()
                assert await wire.rest() == b""
                await wire.close()
                await door.left()
            assert not keeping.contents
            assert policy.runtime.spool.in_memory == 0


class TestMemory:
    async def test_a_session_leaves_no_circle_for_the_garbage_collector(self) -> None:
        policy = Policy(vouching(), Keeping())
        async with live(policy) as door:
            for last in (b"QUIT", b"GET / HTTP/1.1"):
                gc.collect()
                gc.disable()
                try:
                    before = sessions()
                    wire = await door.hello()
                    await wire.envelope()
                    assert (await wire.message()).startswith(b"250 ")
                    await wire.say(last)
                    await wire.close()
                    await door.left()
                    policy.events.records.clear()
                    assert sessions() == before
                finally:
                    gc.enable()

    async def test_a_client_that_leaves_while_a_plugin_works_for_it_leaves_none_either(self) -> None:
        async with live(policy := Policy(holding := Holding("helo"))) as door:
            gc.collect()
            gc.disable()
            before = sessions()
            try:
                wire = await door.connect()
                await wire.reply()
                wire.send(b"EHLO x\r\n")
                await holding.asked.wait()
                wire.reset()
                await door.left()
                policy.events.records.clear()
                assert sessions() == before
            finally:
                gc.enable()


class TestWrites:
    async def test_tcp_nodelay_is_set_on_accepted_sockets(self) -> None:
        """Else each batch of replies waits 40 ms for the client's delayed acknowledgement."""
        async with live(Policy()) as door:
            await door.hello()
            accepted = door.client._transport.get_extra_info("socket")
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    async def narrow(self, door: LiveDoor) -> Wire:
        """A greeted client that reads nothing from now on, with little room for replies on the way to it."""
        wire = await door.connect(room=4096)
        await wire.hello()
        door.client._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        wire.stop_reading()
        return wire

    async def still(self, value: Callable[[], int]) -> int:
        """``value()`` once it has ceased to change."""
        last, same = value(), 0
        while same < 50:
            await asyncio.sleep(0.001)
            now = value()
            same, last = (same + 1 if now == last else 0), now
        return last

    async def test_a_client_that_does_not_read_its_replies_costs_bounded_memory(self) -> None:
        async with live(Policy()) as door:
            wire = await self.narrow(door)
            wire.send(b"HELP\r\n" * 200_000)
            await until(lambda: door.client._write_paused)
            client = door.client
            kept = await self.still(lambda: client._transport.get_write_buffer_size() + len(client._input))
            assert client._transport.get_write_buffer_size() <= 64 * 1024 + 2 * BATCH
            assert kept <= 64 * 1024 + 2 * BATCH + READ_AHEAD + ONE_READ
            wire.go_on_reading()
            wire.send(b"QUIT\r\n")
            replies = await wire.rest()
            assert replies.count(b"214 ") == 200_000
            assert replies.endswith(b"221 2.0.0 bye\r\n")

    async def test_a_client_that_never_reads_its_replies_is_let_go(self) -> None:
        policy = Policy()
        async with live(policy) as door:
            wire = await self.narrow(door)
            wire.send(b"HELP\r\n" * 50_000)
            await until(lambda: door.client._write_paused)
            for _ in range(5):
                await policy.clock.advance(60)
            await policy.clock.advance(DRAIN)
            await door.left()

    @pytest.mark.parametrize("phase", ["headers", "queue"])
    async def test_a_flood_during_a_plugins_wait_costs_bounded_memory(self, phase: str) -> None:
        async with live(Policy(vouching(), holding := Holding(phase))) as door:
            wire = await door.connect()
            await wire.to_data()
            line = b"x" * 998 + b"\r\n"
            flood = line * 5000 if phase == "headers" else b"HELP\r\n" * 100_000
            wire.send(MESSAGE + (b"" if phase == "headers" else b".\r\n"))
            await holding.asked.wait()
            wire.send(flood)
            client = door.client
            await until(lambda: client._reading_paused)
            kept = await self.still(lambda: len(client._input))
            assert 4096 < kept <= 4096 + ONE_READ
            holding.release.set()
            wire.send(b".\r\nQUIT\r\n" if phase == "headers" else b"QUIT\r\n")
            replies = await wire.rest()
            assert replies.startswith(b"250 2.0.0 queued as ")
            assert replies.count(b"\r\n") == (2 if phase == "headers" else 100_002)

    async def test_a_client_with_much_to_say_lets_others_in_between(self) -> None:
        """libuv reads a socket 32 times in a row: what waits there is 8 MB where the system lets it."""
        async with live(Policy(vouching(), Keeping())) as door:
            wire = await door.connect()
            await wire.to_data()
            reader = door.client.conversation.transaction.reader
            content = b"Subject: much\r\n\r\n" + (b"x" * 998 + b"\r\n") * 8000
            sent = sent_at_once(wire, content)
            assert sent > 4 * ONE_READ
            steps = []
            async with asyncio.timeout(PATIENCE):
                while (taken := reader.size) < sent:
                    await asyncio.sleep(0)
                    steps.append(reader.size - taken)
            assert max(steps) <= ONE_READ
            wire.send(content[sent:] + b".\r\n")
            assert (await wire.reply()).startswith(b"250 ")

    @pytest.mark.patches
    async def test_octets_that_came_one_by_one_during_a_wait_are_worked_on_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One by one they would take seconds of the loop."""
        fed: list[int] = []
        feed = DataReader.feed

        def note(self: DataReader, block: bytes) -> bytes | None:
            fed.append(len(block))
            return feed(self, block)

        monkeypatch.setattr(DataReader, "feed", note)
        async with live(Policy(vouching(), holding := Holding("headers"))) as door:
            wire = await door.connect()
            await wire.to_data()
            wire.send(MESSAGE)
            await holding.asked.wait()
            for _ in range(10_000):
                door.client.data_received(b"x")
            holding.release.set()
            wire.send(b"\r\n.\r\n")
            assert (await wire.reply()).startswith(b"250 ")
            assert sum(fed) == len(MESSAGE) + 10_005
            assert len(fed) <= 3


class TestClose:
    """Close means flush, half-close, drain for at most two seconds, close."""

    async def test_what_is_still_sent_does_not_overtake_the_last_words(self) -> None:
        async with live(Policy(vouching())) as door:
            wire = await door.hello()
            wire.send(b"GET / HTTP/1.1\r\n" + b"x" * 3_000_000)
            assert await wire.rest() == b"421 4.7.0 this is a mail server\r\n"
            wire.send(b"x" * 100_000)
            await wire.writer.drain()

    async def test_long_last_words_arrive_whole(self) -> None:
        class Wordy:
            @hookimpl
            def vrfy(self) -> Decision:
                return deny("#" * 3900, disconnect=True)

        async with live(Policy(Wordy())) as door:
            wire = await door.connect(room=4096)
            await wire.hello()
            wire.send(b"HELP\r\n" * 500 + b"VRFY x\r\n")
            replies = await wire.rest()
            assert replies.count(b"#") == 3900
            assert replies.count(b"214 ") == 500

    async def test_a_client_that_does_not_close_is_closed_after_two_seconds(self) -> None:
        policy = Policy()
        async with live(policy) as door:
            wire = await door.hello()
            assert (await wire.say(b"GET / HTTP/1.1")).startswith(b"421 ")
            assert await wire.rest() == b""
            await policy.clock.advance(DRAIN - 0.1)
            assert door.listener.connected
            await policy.clock.advance(0.1)
            await door.left()
            assert DRAIN <= 2.0

    async def test_who_has_said_quit_is_closed_at_once_unless_it_goes_on_talking(self) -> None:
        policy = Policy()
        async with live(policy) as door:
            wire = await door.hello()
            assert (await wire.say(b"QUIT")).startswith(b"221 ")
            await door.left()
            wire = await door.hello()
            wire.send(b"QUIT\r\n" + b"x" * 100_000)
            assert (await wire.reply()).startswith(b"221 ")
            assert door.listener.connected
            await policy.clock.advance(DRAIN)
            await door.left()

    @pytest.mark.parametrize(
        "behind", [b"\r\n", b"x" * 2 * LINE_BUFFER], ids=["a line end", "what is not read any more"]
    )
    async def test_who_talks_behind_quit_at_the_wrong_moment_has_heard_what_came_before(self, behind: bytes) -> None:
        """Such a connection ends with a reset, and what has not left by then never does."""
        loop = asyncio.get_running_loop()
        with socket.socket() as client:

            class Late:
                @hookimpl
                def quit(self) -> None:
                    with contextlib.suppress(BlockingIOError):
                        client.send(behind)

            async with live(Policy(vouching(), keeping := Keeping(), Late())) as door:
                client.setblocking(False)
                await loop.sock_connect(client, ("127.0.0.1", door.port))
                group = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
                await loop.sock_sendall(client, b"EHLO x\r\n" + group + MESSAGE + b".\r\nQUIT\r\n")
                heard = b""
                async with asyncio.timeout(PATIENCE):
                    with contextlib.suppress(ConnectionResetError):
                        while block := await loop.sock_recv(client, ONE_READ):
                            heard += block
                await door.left()
        assert len(keeping.contents) == 1
        assert re.findall(rb"^\d+ ", heard, re.MULTILINE)[:6] == [b"220 ", b"250 ", b"250 ", b"250 ", b"354 ", b"250 "]
