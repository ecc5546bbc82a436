"""Before the greeting: who talks is refused, who waits is greeted, who leaves is let go, and nobody is lost between."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from gatepost import Decision, Session, deny, hookimpl
from gatepost.doors.pregreet import Pregreet
from gatepost.doors.smtp import SMTP
from gatepost.services.store.memory import MemoryBackend
from gatepost.services.virtual_clock import VirtualClock
from gatepost_builtin.connection.earlytalker import Earlytalker, EarlytalkerOptions
from tests.door import Deaf, Keeping, LiveDoor, live, sessions, until
from tests.policy import Policy, instance, vouching

TOO_EARLY = b"554 5.5.1 you talked before the greeting ["
ONE_READ = 256 * 1024
"""The most that a loop reads from a socket at a time."""


def policy(*others: Any, mode: str = "enforce", **options: Any) -> Policy:
    """A policy that makes its clients wait for 6 s."""
    clock = VirtualClock()
    store = MemoryBackend(clock).namespace("earlytalker")
    earlytalker = Earlytalker(EarlytalkerOptions(**options), store, clock, Deaf())
    return Policy(instance(earlytalker, mode=mode), *others, clock=clock)


class Watching:
    """Keeps what it has seen of sessions, in order."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.early_talk: list[frozenset[str]] = []

    @hookimpl
    def helo(self, session: Session) -> None:
        self.early_talk.append(session.early_talk)

    @hookimpl
    def disconnect(self) -> None:
        self.seen.append("disconnect")


async def waiting(door: LiveDoor) -> Pregreet:
    """The one client before its greeting, once the server has it."""
    await until(lambda: door.listener.connected)
    assert isinstance(door.client, Pregreet)
    return door.client


class TestWhoTalks:
    async def test_octets_that_came_with_the_connection_refuse_at_once(self) -> None:
        async with live(policy()) as door:
            wire = await door.connect(early=b"EHLO x\r\n")
            assert (await wire.rest()).startswith(TOO_EARLY)

    async def test_the_first_octet_refuses_at_once(self) -> None:
        rules = policy()
        async with live(rules) as door:
            wire = await door.connect()
            await waiting(door)
            await rules.clock.advance(5.9)
            wire.send(b"E")
            assert (await wire.rest()).startswith(TOO_EARLY)

    async def test_octets_that_came_while_another_plugin_was_asked_refuse_as_soon_as_silence_is_waited_for(
        self,
    ) -> None:
        class Slow:
            def __init__(self) -> None:
                self.clock: VirtualClock

            @hookimpl
            async def connect(self) -> None:
                await self.clock.sleep(2)

        slow = Slow()
        rules = policy()
        before = Policy(slow, *rules.gate.instances, clock=rules.clock)
        slow.clock = rules.clock
        async with live(before) as door:
            wire = await door.connect()
            client = await waiting(door)
            wire.send(b"EHLO x\r\n")
            await until(lambda: client.session.early_talk == {"connect"})
            await rules.clock.advance(2)
            # Nothing else will come from the client, and the virtual clock stands still.
            assert (await wire.rest()).startswith(TOO_EARLY)

    async def test_with_defer_it_is_421(self) -> None:
        async with live(policy(action="defer")) as door:
            wire = await door.connect(early=b"EHLO x\r\n")
            assert (await wire.rest()).startswith(b"421 4.7.0 you talked before the greeting [")

    @pytest.mark.parametrize("known", [True, False])
    async def test_a_client_that_sends_a_byte_and_half_closes_at_once_still_gets_the_refusal(self, known: bool) -> None:
        rules = policy()
        async with live(rules) as door:
            if known:
                friend = await door.connect()
                await waiting(door)
                await rules.clock.advance(6)
                assert (await friend.reply()).startswith(b"220 ")
                await friend.close()
                await door.left()
            wire = await door.connect(early=b"x")
            wire.half_close()
            assert (await wire.rest()).startswith(TOO_EARLY)

    async def test_who_has_waited_once_is_greeted_at_once_but_not_when_it_talks_first(self) -> None:
        rules = policy()
        async with live(rules) as door:
            friend = await door.connect()
            await waiting(door)
            await rules.clock.advance(6)
            await friend.reply()
            assert (await (await door.connect()).reply()).startswith(b"220 ")
            assert (await (await door.connect(early=b"EHLO x\r\n")).rest()).startswith(TOO_EARLY)

    async def test_a_flood_does_not_overtake_the_refusal(self) -> None:
        """Octets that nobody read would make the kernel send a reset instead."""
        async with live(policy()) as door:
            wire = await door.connect(early=b"x" * 100_000)
            wire.send(b"x" * 2_000_000)
            assert (await wire.rest()).startswith(TOO_EARLY)


class TestWhoWaits:
    async def test_it_is_greeted_after_the_delay_and_not_before(self) -> None:
        rules = policy()
        async with live(rules) as door:
            wire = await door.connect()
            client = await waiting(door)
            await rules.clock.advance(5.9)
            assert door.client is client
            await rules.clock.advance(0.1)
            assert (await wire.reply()).startswith(b"220 mx.example.org ESMTP")
            assert isinstance(door.client, SMTP)

    async def test_one_that_leaves_leaves_no_circle_for_the_garbage_collector(self) -> None:
        async with live(policy()) as door:
            gc.collect()
            gc.disable()
            before = sessions()
            try:
                wire = await door.connect()
                await waiting(door)
                await wire.close()
                await door.left()
                assert sessions() == before
            finally:
                gc.enable()

    async def test_the_wait_is_no_part_of_the_time_limit(self) -> None:
        rules = policy(delay=200.0)
        async with live(rules) as door:
            wire = await door.connect()
            await waiting(door)
            await rules.clock.advance(200)
            assert (await wire.reply()).startswith(b"220 ")
            assert not rules.events.named("plugin_failed")

    async def test_a_second_wait_is_not_cut_short_by_the_first(self) -> None:
        class Impatient:
            @hookimpl
            async def connect(self, session: Session) -> None:
                session.silence(10).cancel()
                await session.silence(20)

        rules = Policy(Impatient())
        async with live(rules) as door:
            wire = await door.connect()
            await waiting(door)
            await rules.clock.advance(19)
            assert isinstance(door.client, Pregreet)
            await rules.clock.advance(1)
            assert (await wire.reply()).startswith(b"220 ")


class TestWhoLeaves:
    @pytest.mark.parametrize("how", ["eof", "reset"])
    async def test_eof_or_reset_while_waiting_cancels_without_a_ruling(self, how: str) -> None:
        watching = Watching()
        rules = policy(watching)
        async with live(rules) as door:
            wire = await door.connect()
            await waiting(door)
            await rules.clock.advance(3)
            if how == "eof":
                wire.half_close()
                assert await wire.rest() == b""
            else:
                wire.reset()
            await door.left()
            assert watching.seen == ["disconnect"]
            assert [(record.event, record.rulings) for record in rules.events.records] == [("disconnected", ())]
            await rules.clock.advance(10)
            assert not rules.events.events

    async def test_a_reset_in_the_same_moment_as_the_greeting(self) -> None:
        rules = policy(watching := Watching())
        async with live(rules) as door:
            wire = await door.connect()
            await waiting(door)
            wire.reset()
            await rules.clock.advance(6)
            await door.left()
            assert watching.seen == ["disconnect"]


class TestTolerated:
    """Early octets that nobody refuses reach the SMTP object, after ``connection_made`` and before all others."""

    async def test_they_are_answered_behind_the_greeting(self) -> None:
        async with live(policy(vouching(), watching := Watching(), keeping := Keeping(), mode="observe")) as door:
            wire = await door.connect(early=b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:")
            assert (await wire.reply()).startswith(b"220 ")
            wire.send(b"<b@example.org>\r\n")
            assert [reply[:3] for reply in await wire.replies(3)] == [b"250"] * 3
            assert (await wire.message()).startswith(b"250 ")
            assert len(keeping.contents) == 1
            assert "connect" in watching.early_talk[0]

    async def test_so_are_they_when_the_client_has_closed_its_side(self) -> None:
        async with live(policy(mode="observe")) as door:
            wire = await door.connect(early=b"EHLO x\r\nQUIT\r\n")
            wire.half_close()
            replies = await wire.rest()
            assert replies.startswith(b"220 ")
            assert b"\r\n221 " in replies

    async def test_they_are_bounded_while_a_plugin_thinks_and_none_is_lost(self) -> None:
        asked, release = asyncio.Event(), asyncio.Event()

        class Thinking:
            @hookimpl
            async def connect(self) -> Decision | None:
                asked.set()
                await release.wait()
                return None

        counting = Counting()
        async with live(Policy(Thinking(), counting)) as door:
            wire = await door.connect()
            wire.send((b"HELP " + b"x" * 500 + b"\r\n") * 1_200)  # as many octets as the system and we take, and more
            await asked.wait()
            client = await waiting(door)
            await until(lambda: len(client._heard) > 4096)
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(client._heard) <= 4096 + ONE_READ
            release.set()
            wire.send(b"QUIT\r\n")
            assert (await wire.rest()).endswith(b"221 2.0.0 bye\r\n")
            assert counting.helps == 1_200


class Counting:
    """Counts HELP, and has no answer."""

    def __init__(self) -> None:
        self.helps = 0

    @hookimpl
    def help(self) -> Decision | None:
        self.helps += 1
        return None


async def test_a_refusal_at_connect_is_spoken_and_recorded_and_the_connection_closed() -> None:
    class Refusing:
        @hookimpl
        def connect(self) -> Decision:
            return deny("not you")

    rules = Policy(Refusing(), watching := Watching())
    async with live(rules) as door:
        wire = await door.connect()
        reply = await wire.rest()
        record = rules.events.records[0]
        assert reply == b"554 5.7.1 not you [%s]\r\n" % record.id.encode()
        assert record.event == "refused"
        await wire.close()
        await door.left()
        assert watching.seen == ["disconnect"]


async def test_the_session_knows_both_ends_of_its_connection() -> None:
    ends: list[tuple[str, int, str, str]] = []

    class Looking:
        @hookimpl
        def connect(self, session: Session) -> None:
            ends.append((session.client, session.port, session.local, session.listener))

    async with live(Policy(Looking())) as door:
        wire = await door.connect("127.0.0.8")
        await wire.reply()
        port = wire.writer.get_extra_info("sockname")[1]
        assert ends == [("127.0.0.8", port, "127.0.0.1", "smtp")]


class TestNobodyIsForgotten:
    async def test_a_plugin_that_cancels_its_own_task_leaves_no_client_without_an_answer(self) -> None:
        class Cancels:
            @hookimpl
            async def connect(self) -> None:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)

        async with live(Policy(Cancels())) as door:
            wire = await door.connect()
            assert (await wire.rest()).startswith(b"421 4.3.0 local error, try again later [")
