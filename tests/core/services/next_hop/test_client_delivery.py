"""A delivery over real sockets: the message in blocks, the answers to it, and losses at every point."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.errors import NextHopError, NextHopRefusedError, NextHopUnreachableError
from gatepost.services.next_hop import Answer, Delivery, NextHop, Target
from gatepost.services.virtual_clock import VirtualClock
from tests.core.services.next_hop.delivering import CONTENT, FINE, OpenNextHop, addressed, deliver
from tests.door import until
from tests.peers.mail_server import DROP, HANG, MailServer
from tests.properties import examples


class TestContent:
    @given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"\r\n", b".", b"\r", b".\r\n", b"\r\n."]))))
    @examples(60)
    async def test_any_content_in_any_blocks_arrives_the_same(self, blocks: list[bytes]) -> None:
        async with MailServer() as server:
            next_hop = NextHop([Target.parse(server.url)], clock=VirtualClock(), local_hostname="gate.example")
            delivery = await addressed(next_hop)
            await delivery.data(blocks)
            await delivery.release()
            await next_hop.close()
        content = b"".join(blocks)
        (message,) = server.messages
        assert message.content == (content if content.endswith(b"\r\n") or not content else content + b"\r\n")

    async def test_blocks_may_come_from_an_async_iterator(self, open_next_hop: OpenNextHop) -> None:
        async def blocks() -> AsyncIterator[bytes]:
            yield CONTENT[:20]
            yield CONTENT[20:]

        async with MailServer() as server:
            delivery = await addressed(open_next_hop(server.url))
            await delivery.data(blocks())
            await delivery.release()
            assert server.messages[0].content == CONTENT

    async def test_blocks_wait_until_the_next_hop_takes_them(self, open_next_hop: OpenNextHop) -> None:
        block, count, taken = b"x" * 254 * 1024 + b"\r\n", 160, 0

        def blocks() -> Iterator[bytes]:
            nonlocal taken
            for _ in range(count):
                taken += 1
                yield block

        async def stand_still() -> int:
            before = -1
            while before != taken:
                before = taken
                await asyncio.sleep(0.1)
            return taken

        async with MailServer(pause_after=1) as server:
            delivery = await addressed(open_next_hop(server.url))
            sending = asyncio.create_task(delivery.data(blocks()))
            await server.is_paused.wait()
            assert await stand_still() < count // 2
            server.resume.set()
            assert (await sending)["b@y.example"].is_positive
            assert len(server.messages[0].content) == count * len(block)
            await delivery.release()

    async def test_content_that_breaks_off_is_never_ended(self, open_next_hop: OpenNextHop) -> None:
        def blocks() -> Iterator[bytes]:
            yield CONTENT
            raise OSError("the spool is gone")

        async with MailServer() as server:
            delivery = await addressed(open_next_hop(server.url))
            with pytest.raises(OSError, match="the spool is gone"):
                await delivery.data(blocks())
            await delivery.release()
            await server.until(lambda: server.connections[0].is_over)
            assert not server.messages and not delivery.dot_sent

    async def test_a_cancelled_delivery_is_never_ended(self, open_next_hop: OpenNextHop) -> None:
        async def blocks() -> AsyncIterator[bytes]:
            yield CONTENT
            sent.set()
            await asyncio.Event().wait()

        sent = asyncio.Event()
        async with MailServer() as server:
            delivery = await addressed(open_next_hop(server.url))
            sending = asyncio.create_task(delivery.data(blocks()))
            await sent.wait()
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            await server.until(lambda: server.connections[0].is_over)
            assert not server.messages

    async def test_all_but_the_dot_is_sent_when_the_point_of_no_return_comes(self, open_next_hop: OpenNextHop) -> None:
        passed = []
        async with MailServer() as server:
            delivery = await addressed(open_next_hop(server.url))
            await delivery.data([CONTENT], before_dot=lambda: passed.append((delivery.dot_sent, len(server.messages))))
            assert passed == [(False, 0)]
            assert delivery.dot_sent and server.messages[0].content == CONTENT
            await delivery.release()

    async def test_a_delivery_that_may_not_pass_the_point_of_no_return_is_never_ended(
        self, open_next_hop: OpenNextHop
    ) -> None:
        def refuse() -> None:
            raise OSError("the client has left")

        async with MailServer() as server:
            delivery = await addressed(open_next_hop(server.url))
            with pytest.raises(OSError, match="the client has left"):
                await delivery.data([CONTENT], before_dot=refuse)
            await delivery.release()
            await server.until(lambda: server.connections[0].is_over)
            assert not server.messages and not delivery.dot_sent

    async def test_an_answer_before_the_dot_is_heard(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={"CONTENT": "552 5.3.4 too much"}, drop_after=1) as server:
            delivery = await addressed(open_next_hop(server.url), "b@y.example", "c@y.example")
            too_much = Answer(552, "5.3.4", "too much")
            assert await delivery.data(endless()) == {"b@y.example": too_much, "c@y.example": too_much}
            assert not delivery.dot_sent
            await delivery.release()
            await server.until(lambda: server.connections[0].is_over)

    @pytest.mark.parametrize(
        "answers", [{"DATA": "250 taken"}, {".": "354 more"}, {"CONTENT": "250 enough"}, {".": "nonsense"}]
    )
    async def test_an_answer_that_makes_no_sense_is_no_delivery(
        self, open_next_hop: OpenNextHop, answers: dict[str, str]
    ) -> None:
        async with MailServer(answers=answers, drop_after=2000) as server:
            delivery = await addressed(open_next_hop(server.url))
            content = endless() if "CONTENT" in answers else [CONTENT]
            with pytest.raises(NextHopUnreachableError, match=r"no sense|no SMTP reply"):
                await delivery.data(content)
            await delivery.release()
            await server.until(lambda: server.connections[0].is_over)


def endless() -> Iterator[bytes]:
    """Blocks that go on until nobody wants them."""
    return itertools.repeat((b"x" * 998 + b"\r\n") * 64)


MIXED = {
    "RCPT TO:<unknown@y.example>": "550 5.1.1 nobody",
    ". <full@y.example>": "452 4.2.2 mailbox full",
    ". <virus@y.example>": "554 5.7.1 not that",
}


class TestLmtp:
    async def test_each_recipient_has_its_answer(self, open_next_hop: OpenNextHop) -> None:
        recipients = ["yes@y.example", "unknown@y.example", "full@y.example", "virus@y.example", "also@y.example"]
        async with MailServer(lmtp=True, answers=MIXED) as server:
            next_hop = open_next_hop(server.url)
            for _ in range(2):
                delivery = await addressed(next_hop, *recipients)
                assert await delivery.data([CONTENT]) == {
                    "yes@y.example": FINE,
                    "full@y.example": Answer(452, "4.2.2", "mailbox full"),
                    "virus@y.example": Answer(554, "5.7.1", "not that"),
                    "also@y.example": FINE,
                }
                await delivery.release()
            (connection,) = server.connections
            assert connection.commands[0] == "LHLO gate.example"

    @pytest.mark.parametrize("lmtp", [True, False])
    async def test_each_answer_over_lmtp_is_told_as_it_comes(self, open_next_hop: OpenNextHop, lmtp: bool) -> None:
        told: list[tuple[str, int]] = []
        answers = {". <full@y.example>": "452 4.2.2 mailbox full", ". <c@y.example>": HANG} if lmtp else {}
        async with MailServer(lmtp=lmtp, answers=answers) as server:
            delivery = await addressed(open_next_hop(server.url), "b@y.example", "full@y.example", "c@y.example")
            work = delivery.data([CONTENT], on_answer=lambda recipient, answer: told.append((recipient, answer.code)))
            sending = asyncio.create_task(work)
            if lmtp:  # the last answer never comes
                await until(lambda: len(told) == 2)
                sending.cancel()
            await asyncio.wait((sending,))
            assert told == ([("b@y.example", 250), ("full@y.example", 452)] if lmtp else [])
            delivery.close()

    async def test_it_goes_over_a_unix_socket(self, open_next_hop: OpenNextHop, tmp_path: Path) -> None:
        async with MailServer(lmtp=True, path=str(tmp_path / "lmtp")) as server:
            assert await deliver(open_next_hop(server.url, tls="required")) == {"b@y.example": FINE}

    async def test_a_socket_that_is_not_there_is_named(self, open_next_hop: OpenNextHop, tmp_path: Path) -> None:
        with pytest.raises(NextHopUnreachableError, match=r"^lmtp:///.*/lmtp: .*No such file"):
            await open_next_hop(f"lmtp://{tmp_path}/lmtp").begin()

    @pytest.mark.parametrize("end", [DROP, "421 4.3.2 shutting down", "nonsense", HANG])
    async def test_answers_that_came_before_a_loss_stand(self, open_next_hop: OpenNextHop, end: str) -> None:
        async with MailServer(lmtp=True, answers={". <c@y.example>": end}) as server:
            next_hop = open_next_hop(server.url, data_timeout=0.2)
            delivery = await addressed(next_hop, "b@y.example", "c@y.example", "d@y.example")
            answers = await delivery.data([CONTENT])
            assert answers["b@y.example"] == FINE
            for lost in ("c@y.example", "d@y.example"):
                assert answers[lost] == Answer(451, "4.4.2", "the mail server behind this one broke off")
            await delivery.release()
            await deliver(next_hop)
            assert len(server.connections) == 2

    async def test_what_speaks_about_us_after_the_dot_leaves_the_others_their_answers(
        self, open_next_hop: OpenNextHop
    ) -> None:
        async with MailServer(lmtp=True, answers={". <b@y.example>": "503 5.5.1 what"}) as server:
            delivery = await addressed(open_next_hop(server.url), "b@y.example", "c@y.example")
            assert await delivery.data([CONTENT]) == {"b@y.example": Answer(451, "4.5.1", "what"), "c@y.example": FINE}
            await delivery.release()


STAGES = ["MAIL", "RCPT", "DATA", "CONTENT", "."]


async def send_all(delivery: Delivery, blocks: Iterable[bytes]) -> None:
    await delivery.mail("a@x.example")
    await delivery.rcpt("b@y.example")
    await delivery.data(blocks)


async def run_until_it_fails(delivery: Delivery, blocks: Iterable[bytes] = (CONTENT,)) -> NextHopError:
    with pytest.raises(NextHopError) as raised:
        await send_all(delivery, blocks)
    await delivery.release()
    return raised.value


class TestLoss:
    """Whatever the stage: unreachable, the outcome unknown only after the dot, and the pool goes on."""

    @pytest.mark.parametrize("end", [DROP, "421 4.3.2 shutting down"])
    @pytest.mark.parametrize("stage", STAGES)
    async def test_a_lost_connection_is_unreachable(self, open_next_hop: OpenNextHop, stage: str, end: str) -> None:
        drop_after = 100 if stage == "CONTENT" else None
        answers = {} if (stage, end) == ("CONTENT", DROP) else {stage: end}
        async with MailServer(answers=answers, drop_after=drop_after) as server:
            next_hop = open_next_hop(server.url)
            delivery = await next_hop.begin()
            error = await run_until_it_fails(delivery, endless() if stage == "CONTENT" else [CONTENT])
            assert isinstance(error, NextHopUnreachableError)
            assert str(error).startswith(f"{server.url}: ")
            assert "shutting down" in str(error) or end == DROP
            assert delivery.dot_sent is (stage == ".")
            server.answers, server.drop_after = {}, None
            await deliver(next_hop)
            # One that had answered before was tried once more, on a fresh connection, where nothing was sent by then.
            assert len(server.connections) == (3 if stage in ("RCPT", "DATA") else 2)

    @pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
    async def test_a_command_without_an_answer_times_out(self, open_next_hop: OpenNextHop, stage: str) -> None:
        async with MailServer(answers={stage: HANG}) as server:
            delivery = await open_next_hop(server.url, command_timeout=0.1).begin()
            error = await run_until_it_fails(delivery)
            assert isinstance(error, NextHopUnreachableError) and "no answer in time" in str(error)
            await server.until(lambda: server.connections[0].is_over)

    async def test_a_next_hop_that_stops_reading_times_out(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(pause_after=1) as server:
            delivery = await open_next_hop(server.url, command_timeout=0.2).begin()
            error = await run_until_it_fails(delivery, endless())
            assert "no answer in time" in str(error) and not delivery.dot_sent

    async def test_a_dot_without_an_answer_times_out_on_its_own_limit(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={".": HANG}) as server:
            delivery = await addressed(open_next_hop(server.url, data_timeout=0.1))
            with pytest.raises(NextHopUnreachableError, match="no answer in time"):
                await delivery.data([CONTENT])
            assert delivery.dot_sent
            await delivery.release()

    @pytest.mark.parametrize("code", [500, 502, 503, 521, 530, 535, 538])
    @pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", "."])
    async def test_a_demand_for_login_is_about_us(self, open_next_hop: OpenNextHop, stage: str, code: int) -> None:
        async with MailServer(answers={stage: f"{code} 5.7.0 who are you"}) as server:
            delivery = await open_next_hop(server.url).begin()
            with pytest.raises(NextHopRefusedError, match=f"{code} 5.7.0 who are you"):
                await send_all(delivery, [CONTENT])
            await delivery.release()
