"""A used connection of the pool retires, and where it fails before the dot a fresh one hears all once more."""

from __future__ import annotations

import asyncio

import pytest

from gatepost.errors import NextHopUnreachableError
from gatepost.services.next_hop import Answer
from gatepost.services.virtual_clock import VirtualClock
from tests.core.services.next_hop.delivering import CONTENT, FINE, OpenNextHop, addressed, deliver
from tests.peers.mail_server import DROP, HANG, MailServer

BUSY = "452 4.5.3 too many messages"
LOSSES = [DROP, "421 4.3.2 going down", "gibberish", HANG]


def messages_of(server: MailServer) -> list[int]:
    """Count the messages that were begun on each connection."""
    return [connection.verbs().count("MAIL") for connection in server.connections]


class TestRetiring:
    async def test_a_connection_retires_after_ten_messages(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            next_hop = open_next_hop(server.url)
            for _ in range(21):
                await deliver(next_hop)
            assert messages_of(server) == [10, 10, 1]
            await server.until(lambda: server.connections[1].is_over)
            assert [each.verbs()[-1] for each in server.connections] == ["QUIT", "QUIT", "DATA"]

    async def test_the_number_of_messages_can_be_chosen(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            next_hop = open_next_hop(server.url, messages_per_connection=2)
            for _ in range(3):
                await deliver(next_hop)
            assert messages_of(server) == [2, 1]

    async def test_a_message_that_was_refused_counts(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={"MAIL": "550 5.7.1 no"}) as server:
            next_hop = open_next_hop(server.url, messages_per_connection=2)
            for _ in range(3):
                delivery = await next_hop.begin()
                await delivery.mail("a@x.example")
                await delivery.release()
            assert messages_of(server) == [2, 1]

    async def test_a_connection_retires_after_five_minutes(
        self, open_next_hop: OpenNextHop, clock: VirtualClock
    ) -> None:
        async with MailServer() as server:
            next_hop = open_next_hop(server.url, messages_per_connection=1000)
            for _ in range(15):
                await deliver(next_hop)
                await clock.advance(20)
            assert len(server.connections) == 1
            await deliver(next_hop)
            await deliver(next_hop)
            assert messages_of(server) == [16, 1]

    @pytest.mark.parametrize(("refused", "connections"), [(4, 1), (5, 2)])
    async def test_a_connection_with_many_refusals_is_not_kept(
        self, open_next_hop: OpenNextHop, refused: int, connections: int
    ) -> None:
        unknown = [f"no{number}@y.example" for number in range(refused)]
        answers = {f"RCPT TO:<{recipient}>": "550 5.1.1 nobody" for recipient in unknown}
        async with MailServer(answers=answers) as server:
            next_hop = open_next_hop(server.url)
            delivery = await addressed(next_hop, *unknown, "yes@y.example")
            await delivery.data([CONTENT])
            await delivery.release()
            await deliver(next_hop)
            assert len(server.connections) == connections


class TestOnceMore:
    """On a used connection: whatever is said and heard, the message arrives once, with nobody dropped."""

    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
    async def test_a_loss_before_the_dot_means_once_more_on_a_fresh_connection(
        self, open_next_hop: OpenNextHop, stage: str, loss: str
    ) -> None:
        fine = "354 go" if stage == "DATA" else "250 2.0.0 fine"
        async with MailServer(answers={stage: [fine, loss, fine]}) as server:
            next_hop = open_next_hop(server.url, command_timeout=0.1)
            await deliver(next_hop)
            assert await deliver(next_hop) == {"b@y.example": FINE}
            assert len(server.messages) == 2
            assert server.connections[1].verbs() == ["EHLO", "MAIL", "RCPT", "DATA"]

    async def test_a_loss_within_the_message_means_once_more(self, open_next_hop: OpenNextHop) -> None:
        content = [(b"x" * 998 + b"\r\n") * 64] * 64

        def blocks() -> list[bytes]:
            server.drop_after = None if server.connections[1:] else 100_000
            return content

        async with MailServer() as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
            delivery = await addressed(next_hop, "b@y.example", "c@y.example")
            assert await delivery.data(blocks) == {"b@y.example": FINE, "c@y.example": FINE}
            await delivery.release()
            assert [len(message.content) for message in server.messages] == [len(CONTENT), len(b"".join(content))]
            assert server.messages[1].recipients == ["b@y.example", "c@y.example"]

    async def test_a_loss_after_the_dot_is_never_repeated(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={".": ["250 2.0.0 fine", DROP]}) as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
            delivery = await addressed(next_hop)
            with pytest.raises(NextHopUnreachableError):
                await delivery.data([CONTENT])
            assert delivery.dot_sent
            assert len(server.connections) == 1

    async def test_an_iterator_is_sent_once_only(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={"DATA": ["354 go", DROP]}) as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
            delivery = await addressed(next_hop)
            with pytest.raises(NextHopUnreachableError):
                await delivery.data(iter([CONTENT]))
            assert len(server.connections) == 1

    @pytest.mark.parametrize("stage", ["MAIL", "RCPT"])
    async def test_any_4xx_to_mail_and_to_the_first_rcpt_means_once_more(
        self, open_next_hop: OpenNextHop, stage: str
    ) -> None:
        async with MailServer(answers={stage: ["250 2.0.0 fine", BUSY, "250 2.0.0 fine"]}) as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
            assert await deliver(next_hop) == {"b@y.example": FINE}
            assert messages_of(server) == [2, 1]
            await server.until(lambda: server.connections[0].is_over)
            assert server.connections[0].verbs()[-1] == "QUIT"

    @pytest.mark.parametrize("stage", ["MAIL", "RCPT"])
    async def test_what_a_fresh_connection_answers_is_passed_on(self, open_next_hop: OpenNextHop, stage: str) -> None:
        async with MailServer(answers={stage: ["250 2.0.0 fine", BUSY]}) as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
            delivery = await next_hop.begin()
            answer, answers = await delivery.envelope("a@x.example", ["b@y.example"])
            assert [answer, *answers][-1] == Answer(452, "4.5.3", "too many messages")
            assert len(server.connections) == 2
            await delivery.release()

    async def test_a_4xx_to_a_later_rcpt_is_about_that_recipient(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={"RCPT TO:<c@y.example>": "452 4.2.2 full"}) as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
            delivery = await addressed(next_hop, "b@y.example")
            assert await delivery.rcpt("c@y.example") == Answer(452, "4.2.2", "full")
            assert len(server.connections) == 1
            await delivery.release()

    @pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
    async def test_never_twice(self, open_next_hop: OpenNextHop, stage: str) -> None:
        fine = "354 go" if stage == "DATA" else "250 2.0.0 fine"
        async with MailServer(answers={stage: [fine, DROP]}) as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
            with pytest.raises(NextHopUnreachableError):
                await deliver(next_hop)
            assert len(server.connections) == 2

    async def test_a_recipient_that_is_refused_the_second_time_is_451_after_the_dot(
        self, open_next_hop: OpenNextHop
    ) -> None:
        answers = {"RCPT TO:<c@y.example>": ["250 fine", "550 5.1.1 nobody"], "DATA": ["354 go", DROP, "354 go"]}
        async with MailServer(answers=answers) as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
            delivery = await addressed(next_hop, "b@y.example", "c@y.example")
            assert await delivery.data([CONTENT]) == {
                "b@y.example": FINE,
                "c@y.example": Answer(451, "4.1.1", "nobody"),
            }
            assert server.messages[1].recipients == ["b@y.example"]
            await delivery.release()

    @pytest.mark.parametrize("answers", [{"MAIL": ["250", "250", BUSY]}, {"RCPT": ["250", "250", "250", BUSY]}])
    async def test_when_all_are_refused_the_second_time_nothing_is_sent(
        self, open_next_hop: OpenNextHop, answers: dict[str, list[str]]
    ) -> None:
        async with MailServer(answers={"DATA": ["354 go", DROP], **answers}) as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
            delivery = await addressed(next_hop, "b@y.example", "c@y.example")
            later = Answer(451, "4.5.3", "too many messages")
            assert await delivery.data([CONTENT]) == {"b@y.example": later, "c@y.example": later}
            assert len(server.messages) == 1
            await delivery.release()

    async def test_recipients_that_were_accepted_are_said_again(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={"RCPT TO:<d@y.example>": [DROP, "250 fine"]}) as server:
            delivery = await addressed(open_next_hop(server.url), "b@y.example", "c@y.example", "d@y.example")
            assert delivery.accepted == ("b@y.example", "c@y.example", "d@y.example")
            await delivery.data([CONTENT])
            await delivery.release()
            assert server.messages[0].recipients == ["b@y.example", "c@y.example", "d@y.example"]

    async def test_another_target_hears_all_when_the_first_is_gone(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as first, MailServer() as second:
            next_hop = open_next_hop(first.url, second.url)
            await deliver(next_hop)
            delivery = await addressed(next_hop)
            await first.stop()
            assert await delivery.data([CONTENT]) == {"b@y.example": FINE}
            await delivery.release()
            assert len(second.messages) == 1

    async def test_a_next_hop_that_retired_a_connection_is_not_held_to_have_failed(
        self, open_next_hop: OpenNextHop
    ) -> None:
        async with MailServer(answers={"MAIL": ["250", "421 4.7.0 enough", "250"]}) as first, MailServer() as second:
            next_hop = open_next_hop(first.url, second.url)
            for _ in range(3):
                await deliver(next_hop)
            assert (len(first.messages), len(second.messages)) == (3, 0)


class TestPipelining:
    """MAIL and all RCPT leave in one go where PIPELINING is offered, and one by one where it is not."""

    async def test_mail_and_rcpt_leave_in_one_go(self, open_next_hop: OpenNextHop) -> None:
        heard: list[bytes] = []

        async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            """Answer nothing before all three commands have come."""
            writer.write(b"220 peer\r\n")
            await reader.readuntil()
            writer.write(b"250-peer\r\n250 PIPELINING\r\n")
            heard.extend([await reader.readuntil() for _ in range(3)])
            writer.write(b"250 sender\r\n550 5.1.1 nobody\r\n250 2.1.5 fine\r\n")
            await reader.read()
            writer.close()

        async with await asyncio.start_server(converse, "127.0.0.1", 0) as server:
            next_hop = open_next_hop(f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}", command_timeout=5)
            delivery = await next_hop.begin()
            answer, answers = await delivery.envelope("a@x.example", ["b@y.example", "c@y.example"])
            delivery.close()
        assert heard == [b"MAIL FROM:<a@x.example>\r\n", b"RCPT TO:<b@y.example>\r\n", b"RCPT TO:<c@y.example>\r\n"]
        assert (answer.text, [each.code for each in answers]) == ("sender", [550, 250])
        assert delivery.accepted == ("c@y.example",)

    async def test_without_pipelining_each_waits_for_the_answer_before(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(extensions=[], answers={"MAIL": HANG}) as server:
            delivery = await open_next_hop(server.url, command_timeout=0.1).begin()
            with pytest.raises(NextHopUnreachableError):
                await delivery.envelope("a@x.example", ["b@y.example"])
            assert server.connections[0].verbs() == ["EHLO", "MAIL"]

    async def test_after_a_refused_mail_the_answers_to_rcpt_mean_nothing(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={"MAIL": "550 5.1.8 bad sender", "RCPT": "503 5.5.1 MAIL first"}) as server:
            delivery = await open_next_hop(server.url).begin()
            answer, answers = await delivery.envelope("a@x.example", ["b@y.example"])
            assert (answer, answers) == (Answer(550, "5.1.8", "bad sender"), [])
            assert delivery.accepted == ()
            await delivery.release()

    async def test_without_pipelining_a_refused_mail_is_the_last_command(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(extensions=[], answers={"MAIL": "550 5.1.8 bad sender"}) as server:
            delivery = await open_next_hop(server.url).begin()
            await delivery.envelope("a@x.example", ["b@y.example"])
            assert server.connections[0].verbs() == ["EHLO", "MAIL"]
            await delivery.release()
