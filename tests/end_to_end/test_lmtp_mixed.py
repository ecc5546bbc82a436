"""An LMTP server answers differently for the ten recipients of a message, and the client tries again.

A client that got 451 after the final dot sends to all accepted recipients again. By then gatepost has recorded who has
the message already.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import Counter

from tests.door import until
from tests.end_to_end.client import Client, connected, message
from tests.end_to_end.conftest import StartGate
from tests.end_to_end.gate import Gate
from tests.peers.mail_server import HANG, MailServer

POLICY = """
[plugins]
order = ["recipients", "forward"]
[plugins.recipients]
domains = ["example.test"]
[plugins.forward]
to = "{url}"
verify = {verify}
"""
EVERYBODY = [f"r{number}@example.test" for number in range(1, 11)]
UNKNOWN, BUSY, FULL, CLOSED = EVERYBODY[:4]
SCRIPT = {
    f"RCPT TO:<{UNKNOWN}>": "550 5.1.1 no such user",
    f"RCPT TO:<{BUSY}>": ["450 4.2.1 try later", "250 2.1.5 fine"],
    f". <{FULL}>": ["452 4.2.2 mailbox full", "250 2.0.0 fine"],
    f". <{CLOSED}>": "550 5.2.1 mailbox closed",
}
TAKEN = [each for each in EVERYBODY if each not in (UNKNOWN, CLOSED)]
MAIL = message("<mixed@example.org>")


async def send(client: Client, recipients: list[str]) -> tuple[dict[str, bytes], bytes]:
    """Send to all. Returns code and status of the replies to RCPT that refused, and the reply to the final dot."""
    replies = dict(zip(recipients, await client.envelope(recipients), strict=True))
    refused = {recipient: reply[:9] for recipient, reply in replies.items() if not reply.startswith(b"250")}
    return refused, await client.content(MAIL)


async def crash(gate: Gate) -> None:
    """Kill the server and start it again."""
    gate.kill()
    await asyncio.to_thread(gate.start)


def given_to(server: MailServer) -> Counter[str]:
    """Count how often the LMTP server got the message for each recipient."""
    return Counter(recipient for delivered in server.messages for recipient in delivered.recipients)


async def test_each_recipient_gets_its_answer_and_a_retry_delivers_once_to_each(start_gate: StartGate) -> None:
    async with MailServer(lmtp=True, answers=SCRIPT) as server:
        gate = start_gate(POLICY.format(url=server.url, verify="true"))
        async with connected(gate.port) as client:
            await client.greet()
            refused, last = await send(client, EVERYBODY)
        assert refused == {UNKNOWN: b"550 5.1.1", BUSY: b"450 4.2.1"}
        assert last.startswith(b"451 4.3.0")
        assert given_to(server) == Counter(each for each in EVERYBODY if each not in (UNKNOWN, BUSY))

        await crash(gate)
        server.messages.clear()
        async with connected(gate.port) as client:
            await client.greet()
            # Those whose own mailbox was the reason are to come alone; the rest are answered for together.
            refused, last = await send(client, [each for each in EVERYBODY if each != UNKNOWN])
            assert refused == {FULL: b"452 4.5.3", CLOSED: b"452 4.5.3"}
            assert last.startswith(b"250 2.0.0")
            refused, last = await send(client, [FULL, CLOSED])
            assert refused == {CLOSED: b"452 4.5.3"}
            assert last.startswith(b"250 2.0.0")
            refused, last = await send(client, [CLOSED])
        assert refused == {}
        assert last.startswith(b"550 5.2.1 mailbox closed [")
        assert given_to(server) == Counter([BUSY, FULL, CLOSED])
        await asyncio.to_thread(gate.stop)


async def test_without_verification_the_answers_come_after_the_dot(start_gate: StartGate) -> None:
    async with MailServer(lmtp=True, answers=SCRIPT) as server:
        gate = start_gate(POLICY.format(url=server.url, verify="false"))
        async with connected(gate.port) as client:
            await client.greet()
            refused, last = await send(client, EVERYBODY)
            assert refused == {}
            assert last.startswith(b"451 4.3.0")

            alone = {UNKNOWN: b"550 5.1.1", BUSY: b"250 2.0.0", FULL: b"250 2.0.0", CLOSED: b"550 5.2.1"}
            refused, last = await send(client, EVERYBODY)
            assert refused == dict.fromkeys(EVERYBODY[1:], b"452 4.5.3")
            assert last.startswith(alone.pop(UNKNOWN))
            refused, last = await send(client, EVERYBODY[:0:-1])
            assert refused == dict.fromkeys(alone, b"452 4.5.3")
            assert last.startswith(b"250 2.0.0")
            for each, answer in alone.items():
                refused, last = await send(client, [each])
                assert (refused, last[:9]) == ({}, answer)

        given = given_to(server)
        assert {each: given[each] for each in TAKEN if each != FULL} == dict.fromkeys(set(TAKEN) - {FULL}, 1)
        assert given[FULL] == 2 and given[UNKNOWN] == 0
        assert all(delivered.content.endswith(MAIL) for delivered in server.messages)
        await asyncio.to_thread(gate.stop)


async def test_the_log_and_explain_name_the_next_hop_that_took_it_and_the_one_that_failed(
    start_gate: StartGate,
) -> None:
    async with MailServer() as first, MailServer() as second:
        gate = start_gate(
            POLICY.format(url=f'{first.url}", "{second.url}', verify="true")
            .replace('to = "', 'to = ["')
            .replace(f'{second.url}"', f'{second.url}"]')
        )
        await first.stop()
        async with connected(gate.port) as client:
            await client.greet()
            refused, last = await send(client, EVERYBODY[:1])
        assert refused == {} and last.startswith(b"250")
        await asyncio.to_thread(gate.stop)
        (failed,) = gate.lines("next_hop_failed")
        assert (failed["level"], failed["next_hop"]) == ("warning", first.url)
        (line,) = gate.lines("accepted")
        assert line["next_hop"] == second.url
        assert [text.partition(": ")[0] for text in line["failed_next_hops"]] == [first.url]
        assert b"127.0.0.1" not in last


async def test_an_answer_that_all_recipients_share_is_passed_on_unchanged(start_gate: StartGate) -> None:
    async with MailServer(lmtp=True, answers={".": "552 5.2.3 too long for us"}) as server:
        gate = start_gate(POLICY.format(url=server.url, verify="true"))
        async with connected(gate.port) as client:
            await client.greet()
            refused, last = await send(client, EVERYBODY)
        assert refused == {}
        assert last.startswith(b"552 5.2.3 too long for us [")
        await asyncio.to_thread(gate.stop)


async def test_a_gate_that_is_killed_in_the_midst_of_the_answers_delivers_once_to_those_who_had_one(
    start_gate: StartGate,
) -> None:
    had_one = EVERYBODY[:3]
    async with MailServer(lmtp=True, answers={f". <{EVERYBODY[3]}>": HANG}) as server:
        gate = start_gate(POLICY.format(url=server.url, verify="false"))
        async with connected(gate.port) as client:
            await client.greet()
            await client.envelope(EVERYBODY)
            assert (await client.say("DATA")).startswith(b"354")
            client.wire.send(MAIL + b".\r\n")
            await until(lambda: _marks(gate) == len(had_one))
            await crash(gate)
        server.answers.clear()
        server.messages.clear()
        async with connected(gate.port) as client:
            await client.greet()
            refused, last = await send(client, EVERYBODY)
        assert (refused, last[:9]) == ({}, b"250 2.0.0")
        assert given_to(server) == Counter(each for each in EVERYBODY if each not in had_one)
        await asyncio.to_thread(gate.stop)


def _marks(gate: Gate) -> int:
    """Count the recipients that the gate has written down as taken."""
    with contextlib.closing(sqlite3.connect(gate.folder / "state/state.db")) as store:
        (entries,) = store.execute("SELECT count(*) FROM entries").fetchone()
    return int(entries) // 2  # each has a mark and a hint, and all share one entry more
