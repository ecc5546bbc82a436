"""The next hop over real sockets: its pool, fail-over, and the commands before the message."""

from __future__ import annotations

import pytest

from gatepost.errors import NextHopRefusedError, NextHopUnreachableError
from gatepost.services.next_hop import Answer, NextHop
from gatepost.services.virtual_clock import VirtualClock
from gatepost.testing.recording import GateEvents
from tests.core.services.next_hop.delivering import CONTENT, FINE, OpenNextHop, addressed, deliver
from tests.peers.mail_server import DROP, MailServer


async def closed_port() -> str:
    """Return a URL where nobody listens."""
    async with MailServer() as server:
        return server.url


class TestPool:
    async def test_a_message_arrives_as_it_was_given(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            assert await deliver(open_next_hop(server.url)) == {"b@y.example": FINE}
            (message,) = server.messages
        assert message.mail == "MAIL FROM:<a@x.example>"
        assert message.recipients == ["b@y.example"]
        assert message.content == CONTENT
        assert server.connections[0].commands[0] == "EHLO gate.example"

    async def test_a_connection_is_used_again_without_a_round_trip_in_between(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
            await deliver(next_hop)
            (connection,) = server.connections
        assert connection.verbs() == ["EHLO", "MAIL", "RCPT", "DATA", "MAIL", "RCPT", "DATA"]

    async def test_an_abandoned_transaction_is_reset_at_once(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            delivery = await addressed(open_next_hop(server.url))
            await delivery.release()
            assert server.connections[0].verbs() == ["EHLO", "MAIL", "RCPT", "RSET"]

    async def test_a_connection_that_the_next_hop_closed_is_replaced(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
            await server.drop_clients()
            assert await deliver(next_hop) == {"b@y.example": FINE}
            assert len(server.connections) == 2

    async def test_a_next_hop_that_went_for_good_is_unreachable(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
        with pytest.raises(NextHopUnreachableError, match=str(server.port)):
            await addressed(next_hop)

    async def test_an_idle_connection_is_closed_after_30_s(
        self, open_next_hop: OpenNextHop, clock: VirtualClock
    ) -> None:
        async with MailServer() as server:
            await deliver(open_next_hop(server.url))
            await clock.advance(29.9)
            assert server.connections[0].verbs()[-1] == "DATA"
            await clock.advance(0.2)
            await server.until(lambda: server.connections[0].is_over)
            assert server.connections[0].verbs()[-1] == "QUIT"

    async def test_a_connection_in_use_is_not_closed_as_idle(
        self, open_next_hop: OpenNextHop, clock: VirtualClock
    ) -> None:
        async with MailServer() as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
            delivery = await addressed(next_hop)
            await clock.advance(60)
            assert await delivery.data([CONTENT]) == {"b@y.example": FINE}
            await delivery.release()

    async def test_no_more_idle_connections_are_kept_than_the_pool_holds(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            next_hop = open_next_hop(server.url, pool=1)
            first, second = await addressed(next_hop), await addressed(next_hop)
            await first.release()
            await second.release()
            await server.until(lambda: server.connections[0].is_over)
            assert server.connections[0].verbs()[-1] == "QUIT"
            assert not server.connections[1].is_over

    async def test_close_says_quit(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            next_hop = open_next_hop(server.url)
            await deliver(next_hop)
            in_use = await addressed(next_hop)
            idle = await next_hop.begin()
            await idle.release()
            await next_hop.close()
            assert [connection.verbs()[-1] for connection in server.connections] == ["RCPT", "QUIT"]
            await in_use.release()
            await next_hop.close()
            assert server.connections[0].verbs()[-2:] == ["RSET", "QUIT"]

    async def test_a_closed_delivery_does_not_come_back(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            next_hop = open_next_hop(server.url)
            delivery = await addressed(next_hop)
            delivery.close()
            await delivery.release()
            await deliver(next_hop)
            assert len(server.connections) == 2

    async def test_release_never_raises(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={"RSET": DROP}) as server:
            delivery = await addressed(open_next_hop(server.url))
            await delivery.release()
            await server.until(lambda: server.connections[0].is_over)

    async def test_release_gives_back_once(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            next_hop = open_next_hop(server.url)
            delivery = await next_hop.begin()
            await delivery.release()
            await delivery.release()
            assert len({id((await next_hop.begin())._connection) for _ in range(2)}) == 2

    def test_a_next_hop_needs_a_target(self, clock: VirtualClock) -> None:
        with pytest.raises(ValueError, match="at least one target"):
            NextHop([], clock=clock, local_hostname="gate.example")


class TestFailOver:
    async def test_the_next_target_takes_over(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={"GREETING": "554 5.7.1 go away"}) as refusing, MailServer() as willing:
            next_hop = open_next_hop(await closed_port(), refusing.url, willing.url)
            assert await deliver(next_hop) == {"b@y.example": FINE}
            assert len(willing.messages) == 1

    async def test_a_failed_target_is_tried_last_for_30_s(
        self, open_next_hop: OpenNextHop, clock: VirtualClock
    ) -> None:
        greetings = ["421 4.3.2 not now", "220 here again"]
        async with MailServer(answers={"GREETING": greetings}) as first, MailServer() as second:
            next_hop = open_next_hop(first.url, second.url)
            await deliver(next_hop)
            await clock.advance(29.9)
            await deliver(next_hop)
            assert (len(first.messages), len(second.messages)) == (0, 2)
            await clock.advance(0.2)
            await deliver(next_hop)
            assert (len(first.messages), len(second.messages)) == (1, 2)

    async def test_a_failed_target_is_tried_after_all_others_failed(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={"GREETING": ["421 not now", "220 again"]}) as first, MailServer() as second:
            next_hop = open_next_hop(first.url, second.url)
            await deliver(next_hop)
            await second.stop()
            await deliver(next_hop)
            assert len(first.messages) == 1
            await second.listen()
            await deliver(next_hop)
            assert len(first.messages) == 2

    async def test_a_connection_that_broke_counts_as_failure(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={"MAIL": DROP}) as first, MailServer() as second:
            next_hop = open_next_hop(first.url, second.url)
            with pytest.raises(NextHopUnreachableError):
                await addressed(next_hop)
            await deliver(next_hop)
            assert len(second.messages) == 1

    async def test_when_all_fail_each_is_named(self, open_next_hop: OpenNextHop) -> None:
        nobody = await closed_port()
        with pytest.raises(NextHopUnreachableError, match=f"^{nobody}: .*Connect call failed"):
            await open_next_hop(nobody).begin()
        async with MailServer(answers={"GREETING": "554 5.7.1 go away"}) as refusing:
            with pytest.raises(NextHopRefusedError, match=f"{refusing.url}: 554 5.7.1 go away; {nobody}: "):
                await open_next_hop(refusing.url, nobody).begin()


class TestEvents:
    """``next_hop_failed`` when a target begins to fail, ``next_hop_back`` when it takes mail again."""

    async def test_a_next_hop_that_fails_and_comes_back_is_reported_once_each(
        self, open_next_hop: OpenNextHop, recorder: GateEvents, clock: VirtualClock
    ) -> None:
        async with MailServer() as first, MailServer() as second:
            next_hop = open_next_hop(first.url, second.url)
            await deliver(next_hop)
            await first.stop()
            for _ in range(3):
                await deliver(next_hop)
            (failed,) = recorder
            assert (failed.name, failed.facts["next_hop"]) == ("next_hop_failed", first.url)
            assert str(failed.facts["error"]).startswith(f"{first.url}: ")
            await first.listen()
            await clock.advance(30.1)
            for _ in range(3):
                await deliver(next_hop)
        assert [(event.name, event.facts["next_hop"]) for event in recorder] == [
            ("next_hop_failed", first.url),
            ("next_hop_back", first.url),
        ]

    async def test_one_that_greets_and_then_fails_is_not_back(
        self, open_next_hop: OpenNextHop, recorder: GateEvents, clock: VirtualClock
    ) -> None:
        async with MailServer(answers={"MAIL": DROP}) as server:
            next_hop = open_next_hop(server.url)
            for _ in range(3):
                with pytest.raises(NextHopUnreachableError):
                    await deliver(next_hop)
            assert [event.name for event in recorder] == ["next_hop_failed"]

    async def test_an_answer_about_the_mail_is_no_failure(
        self, open_next_hop: OpenNextHop, recorder: GateEvents
    ) -> None:
        async with MailServer(answers={"RCPT": "550 5.1.1 nobody"}) as server:
            delivery = await addressed(open_next_hop(server.url))
            await delivery.release()
        assert not recorder.events


class TestCommands:
    async def test_parameters_go_along_when_offered(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(extensions=["SIZE 1000", "8BITMIME", "SMTPUTF8"]) as server:
            delivery = await open_next_hop(server.url).begin()
            assert delivery.extensions == {"SIZE", "8BITMIME", "SMTPUTF8"}
            assert delivery.size_limit == 1000
            await delivery.mail("ä@x.example", size=77, body8bit=True, smtputf8=True)
            assert server.connections[0].commands[-1] == ("MAIL FROM:<ä@x.example> SIZE=77 BODY=8BITMIME SMTPUTF8")
            await delivery.release()

    async def test_parameters_stay_here_when_not_offered(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(extensions=["HELP"]) as server:
            delivery = await open_next_hop(server.url).begin()
            assert delivery.extensions == {"HELP"}
            assert delivery.size_limit is None
            await delivery.mail("", size=77, body8bit=True, smtputf8=True)
            assert server.connections[0].commands[-1] == "MAIL FROM:<>"
            await delivery.release()

    @pytest.mark.parametrize("keyword", ["SIZE", "SIZE 0", "SIZE lots"])
    async def test_a_size_limit_that_says_nothing_is_none(self, open_next_hop: OpenNextHop, keyword: str) -> None:
        async with MailServer(extensions=[keyword]) as server:
            delivery = await open_next_hop(server.url).begin()
            assert delivery.size_limit is None
            await delivery.release()

    async def test_xforward_tells_what_the_next_hop_asks_for(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(extensions=["XFORWARD NAME ADDR HELO"], answers={"XFORWARD": "501 no"}) as server:
            delivery = await open_next_hop(server.url).begin()
            await delivery.xforward({"NAME": "", "ADDR": "192.0.2.1", "PORT": "1025", "HELO": "mx.a"})
            assert (await delivery.mail("a@x.example")).is_positive
            assert server.connections[0].commands[-2] == "XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.1 HELO=mx.a"
            await delivery.release()

    async def test_xforward_is_silent_when_not_offered(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            delivery = await open_next_hop(server.url).begin()
            await delivery.xforward({"NAME": "mx.a"})
            await delivery.mail("a@x.example")
            assert server.connections[0].verbs() == ["EHLO", "MAIL"]
            await delivery.release()

    @pytest.mark.parametrize("reply", ["550 5.7.1 no", "450 4.2.0 later", "552 5.2.2 full"])
    async def test_refusals_of_the_mail_are_passed_on(self, open_next_hop: OpenNextHop, reply: str) -> None:
        code, status, text = reply.split(" ")
        answer = Answer(int(code), status, text)
        for occasion in ("MAIL", "RCPT", "DATA", "."):
            async with MailServer(answers={occasion: reply}) as server:
                delivery = await open_next_hop(server.url).begin()
                heard: list[object] = [await delivery.mail("a@x.example"), await delivery.rcpt("b@y.example")]
                if occasion not in ("MAIL", "RCPT"):
                    heard.append(await delivery.data([CONTENT]))
                assert answer in heard or {"b@y.example": answer} in heard
                await delivery.release()
                assert not server.connections[0].is_over

    async def test_one_refused_recipient_does_not_harm_the_others(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={"RCPT TO:<no@y.example>": "550 5.1.1 nobody"}) as server:
            delivery = await addressed(open_next_hop(server.url), "yes@y.example")
            assert await delivery.rcpt("no@y.example") == Answer(550, "5.1.1", "nobody")
            assert await delivery.data([CONTENT]) == {"yes@y.example": FINE}
            await delivery.release()

    async def test_a_recipient_is_said_once(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            delivery = await addressed(open_next_hop(server.url))
            assert await delivery.rcpt("b@y.example") == FINE
            await delivery.data([CONTENT])
            await delivery.release()
            assert server.messages[0].recipients == ["b@y.example"]

    async def test_data_without_a_recipient_is_a_mistake(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer(answers={"RCPT": "550 no"}) as server:
            delivery = await addressed(open_next_hop(server.url))
            with pytest.raises(ValueError, match="accepted no recipient"):
                await delivery.data([CONTENT])
            await delivery.release()

    async def test_a_control_character_is_a_mistake(self, open_next_hop: OpenNextHop) -> None:
        async with MailServer() as server:
            delivery = await open_next_hop(server.url).begin()
            with pytest.raises(ValueError, match="control characters"):
                await delivery.mail("a@x.example>\r\nRCPT TO:<victim@z.example")
            await delivery.release()
            assert "RCPT" not in server.connections[0].verbs()
