"""Replies of a next hop: how long and how many they may be, and which command they answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from gatepost.errors import NextHopUnreachableError
from gatepost.services.next_hop import Answer
from tests.core.services.next_hop.delivering import CONTENT, OpenNextHop, addressed, deliver
from tests.door import until
from tests.peers.mail_server import MailServer


@asynccontextmanager
async def lmtp(replies: Callable[[int], bytes]) -> AsyncIterator[str]:
    """The URL of an LMTP server that sends ``replies(recipients)`` after the dot, all at once."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 peer\r\n")
        recipients = 0
        while line := await reader.readline():
            match line[:4]:
                case b"LHLO":
                    writer.write(b"250-peer\r\n250 PIPELINING\r\n")
                case b"DATA":
                    writer.write(b"354 go\r\n")
                    await reader.readuntil(b"\r\n.\r\n")
                    writer.write(replies(recipients))
                case b"QUIT":
                    break
                case _:
                    recipients += line.startswith(b"RCPT")
                    writer.write(b"250 2.0.0 fine\r\n")
        writer.close()

    async with await asyncio.start_server(converse, "127.0.0.1", 0, limit=2**20) as server:
        yield f"lmtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class TestRoom:
    """The limit is per reply, and per message's worth of replies."""

    async def test_a_thousand_replies_after_the_dot_are_all_heard(self, open_next_hop: OpenNextHop) -> None:
        recipients = [f"r{number}@y.example" for number in range(1000)]
        line = b"250 2.0.0 " + b"x" * 488 + b"\r\n"
        async with lmtp(lambda count: line * count) as url:
            delivery = await open_next_hop(url).begin()
            await delivery.envelope("a@x.example", recipients)
            answers = await delivery.data([CONTENT])
            await delivery.release()
        assert answers == dict.fromkeys(recipients, Answer(250, "2.0.0", "x" * 488))

    async def test_replies_in_several_lines_have_room_too(self, open_next_hop: OpenNextHop) -> None:
        recipients = [f"r{number}@y.example" for number in range(1000)]
        lines = b"250-2.0.0 " + b"x" * 400 + b"\r\n250 2.0.0 " + b"y" * 400 + b"\r\n"
        async with lmtp(lambda count: lines * count) as url:
            delivery = await open_next_hop(url).begin()
            await delivery.envelope("a@x.example", recipients)
            answers = await delivery.data([CONTENT])
            await delivery.release()
        assert {answer.code for answer in answers.values()} == {250} and len(answers) == 1000

    async def test_one_reply_of_more_than_64_kib_ends_the_connection(self, open_next_hop: OpenNextHop) -> None:
        async with lmtp(lambda count: b"250-" + b"x" * 65_536) as url:
            delivery = await addressed(open_next_hop(url))
            with pytest.raises(NextHopUnreachableError, match="too long"):
                await delivery.data([CONTENT])
            assert delivery.dot_sent

    async def test_more_than_a_message_asks_for_ends_the_connection(self, open_next_hop: OpenNextHop) -> None:
        async with lmtp(lambda count: b"250 2.0.0 fine\r\n" * 8192) as url:
            next_hop = open_next_hop(url)
            delivery = await addressed(next_hop)
            assert (await delivery.data([CONTENT]))["b@y.example"].is_positive
            await until(lambda: not delivery._connection.is_open)


class TestLateAnswers:
    """An answer that comes after we gave up must not be taken for the next command's."""

    async def test_a_connection_that_timed_out_is_not_used_again(self, open_next_hop: OpenNextHop) -> None:
        late = asyncio.Event()

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(writer)
            writer.write(b"220 peer\r\n")
            await reader.readline()
            writer.write(b"250 peer\r\n")
            await reader.readline()  # MAIL
            if len(connections) == 1:
                await late.wait()
            writer.write(b"250 late\r\n")
            await reader.read()
            writer.close()

        connections: list[asyncio.StreamWriter] = []
        async with await asyncio.start_server(converse, "127.0.0.1", 0) as server:
            url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            next_hop = open_next_hop(url, command_timeout=0.1)
            delivery = await next_hop.begin()
            with pytest.raises(NextHopUnreachableError, match="no answer in time"):
                await delivery.mail("a@x.example")
            late.set()
            await delivery.release()
            delivery = await next_hop.begin()
            assert (await delivery.mail("a@x.example")).text == "late"
            assert len(connections) == 2
            delivery.close()

    @pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "."])
    async def test_a_connection_that_was_cancelled_is_not_used_again(
        self, open_next_hop: OpenNextHop, stage: str
    ) -> None:
        async with MailServer(answers={stage: "hang"}) as server:
            next_hop = open_next_hop(server.url)
            delivery = await next_hop.begin()

            async def send() -> None:
                await delivery.mail("a@x.example")
                await delivery.rcpt("b@y.example")
                await delivery.data([CONTENT])

            sending = asyncio.create_task(send())
            verb = "DATA" if stage == "." else stage
            await server.until(lambda: bool(server.connections) and server.connections[0].verbs()[-1] == verb)
            if stage == ".":
                await server.until(lambda: bool(server.messages))
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await delivery.release()
            server.answers.clear()
            await deliver(next_hop)
            assert len(server.connections) == 2
            await server.until(lambda: server.connections[0].is_over)
            assert "RSET" not in server.connections[0].verbs()

    async def test_a_second_answer_to_one_command_is_not_the_answer_to_the_next(
        self, open_next_hop: OpenNextHop
    ) -> None:
        async with MailServer(answers={"RCPT": ["250 fine\n250 and again", "250 fine"]}) as server:
            next_hop = open_next_hop(server.url)
            delivery = await addressed(next_hop)
            answers = await delivery.data([CONTENT])
            await delivery.release()
            assert answers["b@y.example"].is_positive
            # The first connection was out of step, so nothing was sent over it.
            assert [each.verbs() for each in server.connections] == [
                ["EHLO", "MAIL", "RCPT"],
                ["EHLO", "MAIL", "RCPT", "DATA"],
            ]


async def test_a_loss_while_the_dot_is_written_leaves_the_outcome_open(open_next_hop: OpenNextHop) -> None:
    """The next hop may have it all: to send it once more would deliver it twice."""
    async with MailServer(pause_after=1) as server:
        delivery = await addressed(open_next_hop(server.url, command_timeout=0.2))
        with pytest.raises(NextHopUnreachableError):
            # One block, larger than all buffers: it and the dot are still being written when the time is up.
            await delivery.data([(b"x" * 998 + b"\r\n") * 40_000])
        assert delivery.dot_sent
        assert len(server.connections) == 1
