"""A real Postfix behind the whole policy: no accepted mail is lost, whichever of the two servers dies or stops."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping

import pytest

from tests.end_to_end.client import connected, message, send, send_until_not
from tests.end_to_end.conftest import StartGate
from tests.end_to_end.gate import Gate
from tests.patience import PROGRAM_PATIENCE
from tests.peers.postfix import DOMAIN, Postfix, smtp_source
from tests.peers.rbldnsd import TEST_POINTS, Rbldnsd

INBOX = f"inbox@{DOMAIN}"
POLICY = """
[dns]
servers = {servers}
[plugins]
order = ["access", "earlytalker", "dnsbl", "recipients", "greylist", "forward"]
[plugins.access]
deny = [{{ sender = "spam@example.org", reason = "we know you" }}]
[plugins.earlytalker]
delay = "1s"
[plugins.dnsbl]
zones = {{ "bl.test" = 1 }}
ask_private = true
[plugins.recipients]
domains = ["{domain}"]
[plugins.greylist]
delay = "1s"
auto_allow_after = 1
[plugins.forward]
to = "smtp://127.0.0.1:{port}"
"""
SESSIONS = 8
Replies = dict[str, bytes]


@pytest.fixture
def gate(
    start_gate: StartGate, postfix: Postfix, start_rbldnsd: Callable[[Mapping[str, Mapping[str, str]]], Rbldnsd]
) -> Gate:
    lists = start_rbldnsd({"bl.test": TEST_POINTS})
    return start_gate(POLICY.format(servers=json.dumps(lists.servers), domain=DOMAIN, port=postfix.port))


async def become_known(gate: Gate) -> None:
    """Send one message, be greylisted, and come back until the message is accepted."""
    primer = message("<primer@example.org>")
    assert (await send(gate.port, INBOX, primer)).startswith(b"451 4.7.1 greylisted")
    reply = await send_until_not(b"451 4.7.1 greylisted", gate.port, INBOX, primer)
    assert reply.startswith(b"250 2.0.0"), reply


class Run:
    """Sessions that send one message after another.

    ``replies`` has the last reply to each message, by Message-ID, and ``farewells`` the last reply of each session.
    """

    def __init__(self, gate: Gate, messages: int) -> None:
        self.replies: Replies = {}
        self.farewells: list[bytes] = []
        self._gate = gate
        self._left = iter([f"<{number}@run.example.org>" for number in range(messages)])
        self._progress = asyncio.Event()

    @property
    def accepted(self) -> set[str]:
        """The Message-IDs of accepted messages."""
        return {identifier for identifier, reply in self.replies.items() if reply.startswith(b"250")}

    async def until_accepted(self, count: int) -> None:
        """Wait until ``count`` messages are accepted."""
        async with asyncio.timeout(PROGRAM_PATIENCE):
            while len(self.accepted) < count:
                self._progress.clear()
                await self._progress.wait()

    async def session(self) -> None:
        """Send until no message is left, or until the server closes, with 421 or without a word (``b""``)."""
        async with connected(self._gate.port) as client:
            reply = await client.greet()
            while reply[:3] not in (b"", b"421") and (identifier := next(self._left, None)):
                reply = self.replies[identifier] = await client.transaction(INBOX, message(identifier))
                self._progress.set()
                if not reply.startswith((b"250", b"421")):
                    await client.say("RSET")
            self.farewells.append(reply)


async def test_a_thousand_messages_arrive_once_each(gate: Gate, postfix: Postfix) -> None:
    await become_known(gate)
    source = smtp_source(gate.port, 1000, 10, recipient=INBOX)
    _, complaints = source.communicate(timeout=PROGRAM_PATIENCE)
    assert (source.returncode, complaints) == (0, "")

    gate.stop()
    postfix.deliver()
    identifiers = postfix.messages()
    assert len(identifiers) == len(set(identifiers)) == 1001


async def test_all_accepted_mail_arrives_after_postfix_was_killed(gate: Gate, postfix: Postfix) -> None:
    await become_known(gate)
    run = Run(gate, 400)
    async with asyncio.TaskGroup() as sessions:
        for _ in range(SESSIONS):
            sessions.create_task(run.session())
        await run.until_accepted(100)
        await asyncio.to_thread(postfix.kill)
    others = [reply for reply in run.replies.values() if not reply.startswith(b"250")]
    assert others, "Postfix died only after all messages had been sent"
    assert {reply[:9] for reply in others} == {b"451 4.4.1"}

    postfix.start()
    assert (await send(gate.port, INBOX, message("<again@example.org>"))).startswith(b"250 2.0.0")
    postfix.deliver()
    assert run.accepted | {"<primer@example.org>", "<again@example.org>"} <= set(postfix.messages())


async def test_all_accepted_mail_arrives_after_sigterm(gate: Gate, postfix: Postfix) -> None:
    await become_known(gate)
    run = Run(gate, 10_000)
    async with asyncio.TaskGroup() as sessions:
        for _ in range(SESSIONS):
            sessions.create_task(run.session())
        await run.until_accepted(100)
        gate.terminate()
    assert [farewell[:9] for farewell in run.farewells] == [b"421 4.3.2"] * SESSIONS
    await asyncio.to_thread(gate.wait)
    with pytest.raises(ConnectionRefusedError):
        await send(gate.port, INBOX, message("<late@example.org>"))

    postfix.deliver()
    assert run.accepted | {"<primer@example.org>"} == set(postfix.messages())
    assert len(postfix.messages()) == len(run.accepted) + 1
