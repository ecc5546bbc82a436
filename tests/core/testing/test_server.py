"""The fixture ``server``: the door of production on a real socket, with everything behind it scripted."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatepost import hookimpl
from gatepost.testing import MESSAGE, UnscriptedQuestionError, instance
from tests.core.testing.plugins import Alive, Blocklist, Listed, Waiting


async def test_commands_get_replies(server: Any) -> None:
    async with server(Blocklist) as live:
        wire = await live.connect()
        assert (await wire.reply()).text == "mx.example.org ESMTP"
        await wire.say("EHLO client.example.com")
        await wire.say(b"MAIL FROM:<x@bad.example>")
        reply = await wire.say("RCPT TO:<b@example.org>")
        assert (reply.code, reply.status, reply.text) == (550, "5.7.1", "bad.example is not welcome here")
        assert live.policy.records[-1].id == reply.id
        assert (await wire.say("QUIT")).code == 221
        assert await wire.rest() == b""


async def test_a_pipelined_group_and_a_message(server: Any) -> None:
    async with server() as live:
        wire = await live.connect()
        wire.send(b"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n")
        assert [reply.code for reply in await wire.replies(4)] == [220, 250, 250, 250]
        assert (await wire.message()).code == 250
        assert live.policy.next_hop.messages[0].content.endswith(MESSAGE)


async def test_a_message_that_is_refused_at_data(server: Any) -> None:
    async with server() as live:
        wire = await live.connect()
        await wire.reply()
        assert (await wire.message()).code == 503


async def test_time_is_virtual(server: Any) -> None:
    async with server(instance(Waiting, delay="29s")) as live:
        wire = await live.connect()
        await wire.reply()
        await wire.say("EHLO x")
        assert live.policy.clock.monotonic() == 29.0
        assert (await wire.reply()).code == 421  # nothing is said any more, so the idle time passes
        assert live.policy.clock.monotonic() >= 300.0


async def test_who_talks_early_is_seen(server: Any) -> None:
    policy = '[plugins]\norder = ["earlytalker"]\n'
    async with server(policy) as live:
        assert (await live.policy.connect()).waited == 6.0
        wire = await live.connect(early=b"EHLO x\r\n")
        assert (await wire.reply()).code == 554
        wire.half_close()
        assert await wire.rest() == b""


async def test_clients_come_from_where_they_say(server: Any) -> None:
    seen = []

    class Seeing:
        @hookimpl
        def connect(self, session: Any) -> None:
            seen.append(session.client)

    async with server(Seeing) as live:
        await (await live.connect("127.0.0.7")).reply()
    assert seen == ["127.0.0.7"]


async def test_plugins_are_started_and_ended(server: Any) -> None:
    alive = Alive()
    async with server(alive):
        pass
    assert alive.called == ["startup", "shutdown"]


async def test_a_question_without_a_script_fails_the_test(server: Any) -> None:
    async with server(Listed) as live:
        wire = await live.connect()
        with pytest.raises(UnscriptedQuestionError, match=r"127\.0\.0\.1\.list\.example A"):
            await wire.reply()
        wire = await live.connect()
        live.policy.dns.lenient = True
        await wire.close()


async def test_an_end_is_told_from_a_reply(server: Any) -> None:
    async with server() as live:
        wire = await live.connect()
        await wire.reply()
        await wire.say("QUIT")
        with pytest.raises(ConnectionResetError):
            await wire.reply()


async def test_what_is_left_to_the_loop_fails_the_test(server: Any) -> None:
    live = server()
    await live.__aenter__()
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)
    with pytest.raises(AssertionError, match="reached the event loop"):
        await live.__aexit__(None, None, None)
