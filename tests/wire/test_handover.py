"""The point of no return of a handover: until our dot is sent to the next hop it may be ended, from then on not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatepost import Decision, Envelope, accept, hookimpl
from gatepost.testing import TestClock
from gatepost_builtin.delivery.forward import Forward
from gatepost_builtin.delivery.maildir import Maildir, MaildirOptions
from tests.door import Deaf, LiveDoor, Wire, live, until
from tests.patience import PATIENCE
from tests.peers.mail_server import HANG, MailServer
from tests.policy import MESSAGE, Policy, instance, vouching

ForwardTo = Callable[..., Forward]
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 998 + b"\r\n") * 12_000
"""More than the sockets between us and the next hop hold, so that not all is sent while it does not read."""


class Scanner:
    """Is asked at ``message``, and never answers."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.cancelled = False

    @hookimpl
    async def message(self) -> None:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def message_sent(door: LiveDoor, content: bytes = MESSAGE) -> Wire:
    """A client that has sent a message with its final dot."""
    wire = await door.connect()
    await wire.to_data()
    wire.send(content + b".\r\n")
    return wire


def outcomes(policy: Policy) -> list[tuple[str, str]]:
    """The event and the first nine characters of the reply of each record."""
    return [(record.event, record.reply[:9]) for record in policy.events.records]


LOST = [("refused", "451 4.4.2"), ("disconnected", "")]


# A lost client.


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
async def test_a_client_lost_before_our_dot_ends_the_handover_and_nothing_is_taken(
    stage: str, forward_to: ForwardTo
) -> None:
    async with MailServer(answers={stage: HANG}) as server:
        policy = Policy(vouching(), forward_to(server, verify=False))
        async with live(policy) as door:
            wire = await message_sent(door)
            await server.until(lambda: bool(server.connections) and stage in server.connections[0].verbs())
            wire.reset()
            await server.until(lambda: server.connections[0].is_over)
            await door.left()
        assert not server.messages
        assert outcomes(policy) == LOST
        assert policy.runtime.spool.in_memory == 0


async def test_a_client_lost_while_its_message_is_being_sent_ends_the_handover(forward_to: ForwardTo) -> None:
    async with MailServer(pause_after=1) as server:
        policy = Policy(vouching(), forward_to(server, verify=False))
        async with live(policy) as door:
            wire = await message_sent(door, LARGE)
            await server.is_paused.wait()
            wire.reset()
            await door.left()
            server.resume.set()
            await server.until(lambda: server.connections[0].is_over)
        assert not server.messages
        assert outcomes(policy) == LOST


async def test_a_client_lost_while_its_message_is_judged_hands_nothing_over(forward_to: ForwardTo) -> None:
    async with MailServer() as server:
        policy = Policy(vouching(), scanner := Scanner(), forward_to(server, verify=False))
        async with live(policy) as door:
            wire = await message_sent(door)
            await scanner.asked.wait()
            wire.reset()
            await door.left()
        assert scanner.cancelled
        assert not server.connections
        assert outcomes(policy) == LOST
        assert not policy.events.named("plugin_failed") and not policy.events.named("internal_error")


async def test_a_half_closed_client_is_not_lost(forward_to: ForwardTo) -> None:
    async with MailServer(pause_after=1) as server:
        policy = Policy(vouching(), forward_to(server, verify=False))
        async with live(policy) as door:
            wire = await message_sent(door, LARGE)
            wire.half_close()
            await server.is_paused.wait()
            await until(lambda: door.client._at_eof)
            server.resume.set()
            assert (await wire.rest()).startswith(b"250 2.0.0 ")
        assert [len(message.content) > len(LARGE) for message in server.messages] == [True]


async def test_from_our_dot_on_a_lost_client_changes_nothing(forward_to: ForwardTo) -> None:
    async with MailServer(pause_after=len(MESSAGE)) as server:
        policy = Policy(vouching(), forward_to(server, verify=False))
        async with live(policy) as door:
            wire = await message_sent(door)  # all of it fits into the sockets, and the dot too
            await server.is_paused.wait()
            commitment = door.client.conversation.session.envelope._commitment
            await until(lambda: commitment.passed)
            wire.reset()
            await until(lambda: not door.listener.connected)
            server.resume.set()
            await door.left()
        assert len(server.messages) == 1
        assert outcomes(policy) == [("accepted", "250 2.0.0"), ("disconnected", "")]


# Time.


async def test_300_seconds_after_the_clients_dot_a_handover_that_has_not_sent_ours_ends(forward_to: ForwardTo) -> None:
    asked = asyncio.Event()

    class Slow:
        @hookimpl
        async def message(self) -> None:
            asked.set()
            await policy.clock.sleep(20)

    async with MailServer(answers={"DATA": HANG}) as server:
        policy = Policy(vouching(), Slow(), forward_to(server, verify=False, command_timeout=300.0))
        async with live(policy) as door:
            wire = await message_sent(door)
            await asked.wait()
            await policy.clock.advance(20)
            await server.until(lambda: bool(server.connections) and "DATA" in server.connections[0].verbs())
            await policy.clock.advance(279)
            assert not server.connections[0].is_over
            await policy.clock.advance(2)
            assert (await wire.reply()).startswith(b"451 4.3.0 ")
            assert (await wire.say(b"NOOP")).startswith(b"250 ")
        assert not server.messages
        (failed,) = policy.events.named("plugin_failed")
        assert "300 s have passed" in failed["error"]
        assert all(made.circuit.failures == 0 for made in policy.gate.instances)


async def test_from_our_dot_on_no_time_of_the_clients_ends_the_handover(forward_to: ForwardTo) -> None:
    async with MailServer(pause_after=len(MESSAGE)) as server:
        policy = Policy(vouching(), forward_to(server, verify=False))
        async with live(policy) as door:
            wire = await message_sent(door)
            await server.is_paused.wait()
            commitment = door.client.conversation.session.envelope._commitment
            await until(lambda: commitment.passed)
            await policy.clock.advance(890)
            server.resume.set()
            assert (await wire.reply()).startswith(b"250 2.0.0 ")


# Other delivery plugins.


async def test_a_delivery_that_does_not_say_when_it_takes_the_message_is_never_ended_by_its_client() -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    class Unsaid:
        grants = "delivery"

        @hookimpl
        async def queue(self) -> Decision:
            asked.set()
            await release.wait()
            return accept()

    policy = Policy(vouching(), Unsaid())
    async with live(policy) as door:
        wire = await message_sent(door)
        await asked.wait()
        await policy.clock.advance(800)
        wire.reset()
        await until(lambda: not door.listener.connected)
        release.set()
    assert outcomes(policy) == [("accepted", "250 2.0.0"), ("disconnected", "")]


class Blocked:
    """Keeps a maildir waiting at the sync of its first file, in the maildir's own thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()
        self._fsync = maildir_module().os.fsync
        monkeypatch.setattr(maildir_module().os, "fsync", self.fsync)

    def fsync(self, descriptor: int) -> None:
        self.reached.set()
        assert self.go_on.wait(PATIENCE)
        self._fsync(descriptor)


def maildir_module() -> Any:
    from gatepost_builtin.delivery import maildir

    return maildir


@pytest.mark.parametrize("why", ["lost", "late"])
async def test_a_maildir_whose_handover_was_ended_while_it_wrote_shows_no_message(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("tmp", "new", "cur"):
        (tmp_path / part).mkdir()
    blocked = Blocked(monkeypatch)
    maildir = Maildir(MaildirOptions(path=tmp_path), TestClock(), Deaf())
    policy = Policy(vouching(), instance(maildir, "maildir"))
    async with live(policy) as door:
        wire = await message_sent(door)
        await until(blocked.reached.is_set)
        if why == "lost":
            wire.reset()
            await door.left()
        else:
            await policy.clock.advance(301)
            assert (await wire.reply()).startswith(b"451 4.3.0 ")
        assert list((tmp_path / "tmp").iterdir())
        blocked.go_on.set()
        await until(lambda: not list((tmp_path / "tmp").iterdir()))
    assert not list((tmp_path / "new").iterdir())


async def test_a_maildir_that_shows_its_message_is_not_ended_any_more(tmp_path: Path) -> None:
    committed, go_on = threading.Event(), threading.Event()

    class Slow(Maildir):
        def _hand_in(self, copies: Any) -> Any:
            committed.set()
            assert go_on.wait(PATIENCE)
            return super()._hand_in(copies)

    policy = Policy(vouching(), instance(Slow(MaildirOptions(path=tmp_path), TestClock(), Deaf()), "maildir"))
    async with live(policy) as door:
        wire = await message_sent(door)
        await until(committed.is_set)
        wire.reset()
        await until(lambda: not door.listener.connected)
        go_on.set()
        await door.left()
    assert len(list((tmp_path / "new").iterdir())) == 1
    assert outcomes(policy) == [("accepted", "250 2.0.0"), ("disconnected", "")]


async def test_one_plugin_that_has_taken_its_recipients_keeps_the_handover_of_the_next_from_being_ended(
    forward_to: ForwardTo,
) -> None:
    class First:
        grants = "delivery"

        @hookimpl
        def queue(self, envelope: Envelope) -> Any:
            return {each: accept() for each in envelope.pending if each.local == "b"}

    async with MailServer(answers={"RCPT": HANG}) as server:
        policy = Policy(vouching(), First(), forward_to(server, verify=False))
        async with live(policy) as door:
            wire = await door.hello()
            await wire.envelope()
            await wire.say(b"RCPT TO:<c@example.org>")
            assert (await wire.say(b"DATA")).startswith(b"354")
            wire.send(MESSAGE + b".\r\n")
            await server.until(lambda: bool(server.connections) and "RCPT" in server.connections[0].verbs())
            wire.reset()
            await until(lambda: not door.listener.connected)
            assert not server.connections[0].is_over
            await server.drop_clients()
            await door.left()
    assert [reply[:9] for _, reply in outcomes(policy)] == ["451 4.3.0", ""]
