"""Pipelining: legal groups work and are answered in one write; what came too early is visible to plugins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatepost import Decision, Session, hookimpl
from gatepost.doors.smtp import BATCH
from gatepost.services.store.memory import MemoryBackend
from gatepost.services.virtual_clock import VirtualClock
from gatepost_builtin.connection.earlytalker import Earlytalker, EarlytalkerOptions
from tests.door import Deaf, Keeping, LiveDoor, live, unread, until
from tests.policy import MESSAGE, Policy, vouching

GROUP = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n"


class Noting:
    """Notes at each phase at which phases the client has talked early; ``helo`` and ``data`` can be held up."""

    def __init__(self) -> None:
        self.noted: dict[str, list[list[str]]] = {}
        self.asked = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()

    def note(self, phase: str, session: Session) -> None:
        self.noted.setdefault(phase, []).append(sorted(session.early_talk))

    @hookimpl
    async def helo(self, session: Session) -> None:
        self.asked.set()
        await self.release.wait()
        self.note("helo", session)

    @hookimpl
    async def data(self, session: Session) -> None:
        self.asked.set()
        await self.release.wait()
        self.note("data", session)

    @hookimpl
    def message(self, session: Session) -> None:
        self.note("message", session)

    @hookimpl
    def quit(self, session: Session) -> None:
        self.note("quit", session)


class Tapped:
    """A transport that keeps what is written through it."""

    def __init__(self, transport: Any, writes: list[bytes]) -> None:
        self._transport = transport
        self._writes = writes

    def write(self, data: bytes) -> None:
        self._writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def tap(door: LiveDoor) -> list[bytes]:
    """Return the list of all that the door writes to its client from now on."""
    writes: list[bytes] = []
    door.client._transport = Tapped(door.client._transport, writes)
    return writes


class TestLegalGroups:
    async def test_mail_rcpt_data_in_one_group(self) -> None:
        async with live(Policy(vouching(), keeping := Keeping())) as door:
            wire = await door.hello()
            writes = tap(door)
            wire.send(GROUP)
            assert [reply[:3] for reply in await wire.replies(4)] == [b"250", b"250", b"250", b"354"]
            assert len(writes) == 1
            wire.send(MESSAGE + b".\r\n" + GROUP)
            assert [reply[:3] for reply in await wire.replies(5)] == [b"250", b"250", b"250", b"250", b"354"]
            assert len(writes) == 2
            wire.send(MESSAGE + b".\r\nQUIT\r\n")
            assert [reply[:3] for reply in await wire.replies(2)] == [b"250", b"221"]
            assert len(writes) == 3
            assert keeping.contents == [MESSAGE] * 2

    async def test_replies_to_a_large_batch_leave_in_large_writes(self) -> None:
        async with live(Policy(vouching(), Keeping())) as door:
            wire = await door.hello()
            writes = tap(door)
            wire.send(b"HELP\r\n" * 2000)
            replies = b"".join(await wire.replies(2000))
            assert b"".join(writes) == replies
            assert all(len(write) > BATCH for write in writes[:-1])

    async def test_a_flood_of_commands_does_not_keep_others_waiting(self) -> None:
        class Counting:
            helps = 0
            helps_before_noop = -1

            @hookimpl
            def help(self) -> None:
                self.helps += 1

            @hookimpl
            def noop(self) -> None:
                self.helps_before_noop = self.helps

        async with live(Policy(counting := Counting(), noting := Noting())) as door:
            flooding, other = await door.connect(), await door.hello()
            await flooding.reply()
            noting.asked.clear()
            noting.release.clear()
            flooding.send(b"EHLO x\r\n" + b"HELP\r\n" * 20_000)
            await noting.asked.wait()
            await until(lambda: max(map(unread, door.clients)) == 120_000)
            other.send(b"NOOP\r\n")
            noting.release.set()
            assert (await other.reply()).startswith(b"250 ")
            assert counting.helps_before_noop < 20_000
            assert len(await flooding.replies(20_001)) == 20_001

    async def test_a_slow_drip_of_one_byte_at_a_time(self) -> None:
        async with live(Policy(vouching(), keeping := Keeping())) as door:
            wire = await door.connect()
            await wire.reply()
            for line in (b"EHLO x\r\n", *GROUP.splitlines(keepends=True)):
                await self.drip(wire, line)
                assert (await wire.reply())[:1] in {b"2", b"3"}
            await self.drip(wire, b"Subject: x\r\n\r\n..\r\n.x\r\r\n.\r\n")
            assert (await wire.reply()).startswith(b"250 ")
            assert keeping.contents == [b"Subject: x\r\n\r\n.\r\nx\r\n"]

    async def drip(self, wire: Any, octets: bytes) -> None:
        """Send octet by octet, with some turns of the loop between."""
        for octet in octets:
            wire.send(bytes([octet]))
            for _ in range(3):
                await asyncio.sleep(0)


class TestIllegalPipelining:
    """Octets behind EHLO, DATA and QUIT, which must wait, are early talk; plugins see at which phase."""

    async def test_illegal_pipelining_is_visible_to_plugins_as_early_talk(self) -> None:
        async with live(Policy(vouching(), Keeping(), noting := Noting())) as door:
            wire = await door.connect()
            await wire.reply()
            wire.send(b"EHLO x\r\n" + GROUP + MESSAGE + b".\r\nQUIT\r\nNOOP\r\n")
            assert (await wire.rest()).endswith(b"221 2.0.0 bye\r\n")
            assert noting.noted["helo"] == [["helo"]]
            assert noting.noted["data"] == [["data", "helo"]]
            assert noting.noted["quit"] == [["data", "helo", "quit"]]

    async def test_who_waits_has_not_talked_early(self) -> None:
        async with live(Policy(vouching(), Keeping(), noting := Noting())) as door:
            wire = await door.hello()
            for _ in range(2):
                wire.send(GROUP)
                await wire.replies(4)
                wire.send(MESSAGE + b".\r\n")
                await wire.reply()
            await wire.say(b"QUIT")
            assert noting.noted == {"helo": [[]], "data": [[]] * 2, "message": [[]] * 2, "quit": [[]]}

    async def test_octets_behind_the_final_dot_are_no_early_talk(self) -> None:
        async with live(Policy(vouching(), Keeping(), noting := Noting())) as door:
            wire = await door.hello()
            wire.send(GROUP)
            await wire.replies(4)
            wire.send(MESSAGE + b".\r\n" + GROUP)
            await wire.replies(5)
            wire.send(MESSAGE + b".\r\n")
            await wire.reply()
            assert noting.noted["message"] == noting.noted["data"] == [[], []]

    async def test_early_talk_at_one_command_is_none_at_the_next(self) -> None:
        async with live(Policy(vouching(), Keeping(), noting := Noting())) as door:
            wire = await door.connect()
            await wire.reply()
            wire.send(b"EHLO x\r\n" + GROUP + MESSAGE + b".\r\n")
            await wire.replies(6)
            await wire.say(b"EHLO x")
            wire.send(GROUP)
            await wire.replies(4)
            assert noting.noted["helo"] == [["helo"], ["data"]]
            assert noting.noted["data"] == [["data", "helo"], []]

    @pytest.mark.parametrize(("line", "phase"), [(b"EHLO x\r\n", "helo"), (GROUP, "data")])
    async def test_octets_that_come_while_the_answer_is_found_are_early_too(self, line: bytes, phase: str) -> None:
        async with live(Policy(vouching(), Keeping(), noting := Noting())) as door:
            wire = await door.hello()
            noting.asked.clear()
            noting.release.clear()
            wire.send(line)
            await noting.asked.wait()
            wire.send(b"NOOP\r\n")
            await until(lambda: unread(door.client))
            noting.release.set()
            await wire.reply()
            await until(lambda: noting.noted[phase][-1] == [phase])

    async def test_octets_that_come_while_rcpt_is_answered_are_legal(self) -> None:
        asked, release = asyncio.Event(), asyncio.Event()

        class Slow:
            @hookimpl
            async def rcpt(self) -> Decision | None:
                asked.set()
                await release.wait()
                return None

        async with live(Policy(vouching(), Slow(), Keeping(), noting := Noting())) as door:
            wire = await door.hello()
            wire.send(GROUP[: GROUP.index(b"RCPT TO:<c")])
            await asked.wait()
            wire.send(GROUP[GROUP.index(b"RCPT TO:<c") :])
            await until(lambda: unread(door.client))
            release.set()
            assert (await wire.replies(4))[-1].startswith(b"354 ")
            assert noting.noted["data"] == [[]]

    @pytest.mark.parametrize(("check", "starts"), [(True, b"554 5.5.1 you sent your message "), (False, b"354 ")])
    async def test_earlytalker_refuses_a_message_behind_data_and_closes(self, check: bool, starts: bytes) -> None:
        clock = VirtualClock()
        store = MemoryBackend(clock).namespace("earlytalker")
        earlytalker = Earlytalker(EarlytalkerOptions(delay=0.0, check_data=check), store, clock, Deaf())
        async with live(Policy(earlytalker, vouching(), keeping := Keeping(), clock=clock)) as door:
            wire = await door.hello()
            wire.send(GROUP + MESSAGE + b".\r\nMAIL FROM:<evil@example.com>\r\nQUIT\r\n")
            await wire.replies(3)
            rest = await wire.rest()
            assert rest.startswith(starts)
            assert rest.count(b"\r\n") == (1 if check else 4)
            assert len(keeping.contents) == (0 if check else 1)
