"""forward: the next hop's word is the client's, and each recipient gets the message once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from gatepost import NextHops, deny, hookimpl
from gatepost.decisions import Reply
from gatepost_builtin.delivery.forward import Forward, ForwardOptions
from tests.peers.mail_server import DROP, MailServer
from tests.policy import MESSAGE, Client, Policy, vouching


class Lines:
    """A log that keeps its warnings."""

    def __init__(self) -> None:
        self.warnings: list[dict[str, object]] = []

    def info(self, event: str, **facts: object) -> None:
        raise AssertionError(event)

    def warning(self, event: str, **facts: object) -> None:
        self.warnings.append({"event": event, **facts})

    def error(self, event: str, **facts: object) -> None:
        raise AssertionError(event)


class Dialler(Client):
    """A client whose virtual clock stands still, since the next hop behind the policy is a real socket."""

    async def wait_for(self, work: Awaitable[Any]) -> Any:
        return await work


class Site:
    """Policies with forward in them, over next hops that are closed after the test."""

    def __init__(self) -> None:
        self.log = Lines()
        self.next_hops: list[NextHops] = []

    def forward(self, to: str | tuple[str, ...], **options: Any) -> Forward:
        next_hops = NextHops(Policy().clock, "gate.example")
        self.next_hops.append(next_hops)
        return Forward(ForwardOptions(to=to, **options), next_hops, self.log)

    async def client(self, *plugins: Any) -> Dialler:
        """A client of a policy that vouches for everybody and then asks ``plugins``."""
        client = Dialler(Policy(vouching(), *plugins), "192.0.2.1")
        await client.rehearsal.connect()
        await client.ehlo()
        return client


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    yield made
    for next_hops in made.next_hops:
        await next_hops.close()


def said(reply: Reply) -> str:
    """Code and enhanced status."""
    return f"{reply.code} {reply.status}"


async def test_the_message_goes_on_and_the_queue_id_comes_back(site: Site) -> None:
    async with MailServer(answers={".": "250 2.0.0 Ok: queued as 4FjX"}) as server:
        client = await site.client(site.forward(server.url))
        reply = await client.transaction()
        assert said(reply) == "250 2.0.0" and "Ok: queued as 4FjX" in str(reply.text)
        (message,) = server.messages
        assert message.content.startswith(b"Received: ") and message.content.endswith(MESSAGE)
        assert (message.mail, message.recipients) == ("MAIL FROM:<a@example.com>", ["b@example.org"])


async def test_a_recipient_is_played_to_the_next_hop_at_once_in_the_session_that_gets_the_message(site: Site) -> None:
    async with MailServer(answers={"RCPT TO:<no@example.org>": "550 5.1.1 no such user"}) as server:
        client = await site.client(site.forward(server.url))
        await client.mail()
        reply = await client.rcpt("no@example.org")
        assert said(reply) == "550 5.1.1" and "no such user" in str(reply.text)
        assert (await client.rcpt("yes@example.org")).code == 250
        assert server.connections[0].verbs() == ["EHLO", "MAIL", "RCPT", "RCPT"]
        assert (await client.data()).code == 250
        assert server.messages[0].recipients == ["yes@example.org"]
        assert [connection.verbs() for connection in server.connections] == [["EHLO", "MAIL", "RCPT", "RCPT", "DATA"]]


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        ("450 4.2.0 busy", "450 4.2.0"),
        ("452 4.5.3 too many", "452 4.5.3"),
        ("550 no status", "550 5.0.0"),
        ("451 no status", "451 4.0.0"),
        ("552 5.2.2 full", "552 5.2.2"),
    ],
)
async def test_the_real_answer_is_given(site: Site, answer: str, reply: str) -> None:
    async with MailServer(answers={"RCPT": answer}) as server:
        assert said(await (await site.client(site.forward(server.url))).transaction()) == reply
    async with MailServer(answers={".": answer}) as server:
        assert said(await (await site.client(site.forward(server.url))).transaction()) == reply
    assert site.log.warnings == []


async def test_a_refusal_of_mail_is_spoken_for_each_recipient_and_asked_once(site: Site) -> None:
    async with MailServer(answers={"MAIL": "550 5.1.8 bad sender"}) as server:
        client = await site.client(site.forward(server.url))
        await client.mail()
        assert said(await client.rcpt("b@example.org")) == "550 5.1.8"
        assert said(await client.rcpt("c@example.org")) == "550 5.1.8"
        assert server.connections[0].verbs().count("MAIL") == 1


class TestWhatIsAboutUs:
    @pytest.mark.parametrize("verify", [True, False])
    @pytest.mark.parametrize(
        "answers",
        [{"GREETING": "554 5.7.1 not you"}, {"EHLO": "550 5.7.1 not you"}, {"MAIL": "530 5.7.0 log in"},
         {"RCPT": "535 5.7.8 log in"}],
    )  # fmt: skip
    async def test_a_refusal_of_us_is_temporary_and_warned_about(
        self, site: Site, answers: dict[str, str], verify: bool
    ) -> None:
        async with MailServer(answers=answers) as server:
            client = await site.client(site.forward(server.url, verify=verify))
            reply = await client.transaction()
            assert said(reply) == "451 4.4.0" and "5.7" not in str(reply.text)
            (warning,) = site.log.warnings
            assert warning["event"] == "next_hop_failed" and str(warning["error"]).startswith(server.url)

    @pytest.mark.parametrize("verify", [True, False])
    async def test_nobody_there_is_temporary(self, site: Site, verify: bool) -> None:
        async with MailServer() as server:
            pass
        client = await site.client(site.forward(server.url, verify=verify))
        reply = await client.transaction()
        assert said(reply) == "451 4.4.1" and "127.0.0.1" not in str(reply.text)

    async def test_who_could_not_be_reached_is_not_asked_again_for_each_recipient(self, site: Site) -> None:
        async with MailServer(answers={"GREETING": DROP}) as server:
            client = await site.client(site.forward(server.url))
            await client.mail()
            for number in range(3):
                assert said(await client.rcpt(f"b{number}@example.org")) == "451 4.4.1"
            assert len(server.connections) == 1

    async def test_another_target_takes_over(self, site: Site) -> None:
        async with MailServer(answers={"GREETING": "421 busy"}) as first, MailServer() as second:
            client = await site.client(site.forward((first.url, second.url)))
            assert (await client.transaction()).code == 250
            assert len(second.messages) == 1


class TestOnce:
    """Each recipient gets the message once, or is refused; never both, never twice."""

    async def test_who_is_refused_by_a_later_plugin_does_not_get_it(self, site: Site) -> None:
        class Later:
            @hookimpl
            def rcpt(self, recipient: Any) -> Any:
                return deny("not this one") if recipient.local == "c" else None

        async with MailServer() as server:
            client = await site.client(site.forward(server.url), Later())
            await client.mail()
            assert (await client.rcpt("b@example.org")).code == 250
            assert (await client.rcpt("c@example.org")).code == 550
            assert (await client.data()).code == 250
            assert [message.recipients for message in server.messages] == [["b@example.org"]]

    async def test_mixed_answers_of_lmtp_and_a_retry_reach_everybody_once(self, site: Site) -> None:
        names = [f"{kind}{number}" for kind in "abcde" for number in (1, 2)]
        answers = {}
        for name in names:
            address = f"<{name}@example.org>"
            answers |= {
                "a": {},
                "b": {f"RCPT TO:{address}": ["450 4.2.0 busy", "250 fine"]},
                "c": {f"RCPT TO:{address}": "550 5.1.1 nobody"},
                "d": {f". {address}": ["452 4.2.2 full", "250 fine"]},
                "e": {f". {address}": "554 5.7.1 not that"},
            }[name[0]]

        async def attempt(recipients: list[str]) -> tuple[dict[str, int], Reply]:
            client = await site.client(forward)
            client.policy.site.marks = marks
            await client.mail()
            replies = {name: (await client.rcpt(f"{name}@example.org")).code for name in recipients}
            return replies, await client.data()

        async with MailServer(lmtp=True, answers=answers) as server:
            forward, marks = site.forward(server.url), Policy().site.marks
            replies, reply = await attempt(names)
            assert replies == {name: {"b": 450, "c": 550}.get(name[0], 250) for name in names}
            assert reply.code == 451
            again = [name for name in names if replies[name] != 550]
            replies, reply = await attempt(again)
            assert set(replies.values()) == {250}
            assert reply.code == 554 and "e1@example.org" in str(reply.text) and "e2@example.org" in str(reply.text)
            got = Counter(recipient for message in server.messages for recipient in message.recipients)
            assert {name: got[f"{name}@example.org"] for name in names} == {
                # Those of d and e were sent to twice, since the answer to the first time was no.
                name: {"a": 1, "b": 1, "c": 0, "d": 2, "e": 2}[name[0]]
                for name in names
            }

    async def test_a_next_hop_that_gave_up_waiting_is_replaced(self, site: Site) -> None:
        async with MailServer() as server:
            client = await site.client(site.forward(server.url))
            await client.mail()
            await client.rcpt("b@example.org")
            await server.drop_clients()
            assert (await client.rcpt("c@example.org")).code == 250
            await server.drop_clients()
            assert (await client.data()).code == 250
            assert [message.recipients for message in server.messages] == [["b@example.org", "c@example.org"]]

    async def test_a_loss_after_the_dot_is_left_to_the_client(self, site: Site) -> None:
        async with MailServer(answers={".": [DROP, "250 fine"]}) as server:
            client = await site.client(site.forward(server.url))
            assert said(await client.transaction()) == "451 4.4.1"
            assert len(server.messages) == 1
            assert (await client.transaction()).code == 250

    async def test_rset_lets_the_next_hop_go(self, site: Site) -> None:
        async with MailServer() as server:
            client = await site.client(site.forward(server.url))
            await client.mail()
            await client.rcpt()
            await client.say("RSET")
            assert server.connections[0].verbs()[-1] == "RSET"
            await client.transaction()
            await client.close()
            assert len(server.connections) == 1

    async def test_a_client_that_leaves_lets_the_next_hop_go(self, site: Site) -> None:
        async with MailServer() as server:
            client = await site.client(site.forward(server.url))
            await client.mail()
            await client.rcpt()
            await client.close()
            assert server.connections[0].verbs()[-1] == "RSET"


class TestElsewhere:
    async def test_a_recipient_of_another_next_hop_comes_in_a_transaction_of_its_own(self, site: Site) -> None:
        async with MailServer() as one, MailServer() as two:
            client = await site.client(
                site.forward(one.url, domains=["one.example"]), site.forward(two.url, domains=["two.example"])
            )
            await client.mail()
            assert (await client.rcpt("a@one.example")).code == 250
            assert said(await client.rcpt("b@two.example")) == "452 4.5.3"
            assert (await client.data()).code == 250
            assert (await client.transaction(recipient="b@two.example")).code == 250
            assert [message.recipients for message in one.messages] == [["a@one.example"]]
            assert [message.recipients for message in two.messages] == [["b@two.example"]]

    async def test_a_refused_recipient_keeps_nobody_from_going_elsewhere(self, site: Site) -> None:
        async with MailServer(answers={"RCPT": "550 5.1.1 nobody"}) as one, MailServer() as two:
            client = await site.client(
                site.forward(one.url, domains=["one.example"]), site.forward(two.url, domains=["two.example"])
            )
            await client.mail()
            assert (await client.rcpt("a@one.example")).code == 550
            assert (await client.rcpt("b@two.example")).code == 250

    async def test_other_domains_are_left_to_others(self, site: Site) -> None:
        async with MailServer() as server:
            client = await site.client(site.forward(server.url, domains=["Ours.Example"]))
            assert said(await client.transaction(recipient="b@example.org")) == "451 4.3.0"
            assert (await client.transaction(recipient="b@ours.example")).code == 250
            assert len(server.connections) == 1


class TestPassedOn:
    async def test_size_body_and_client(self, site: Site) -> None:
        extensions = ["SIZE 100000", "8BITMIME", "SMTPUTF8", "XFORWARD NAME ADDR PORT PROTO HELO"]
        async with MailServer(extensions=extensions) as server:
            client = await site.client(site.forward(server.url))
            client.session.port = 1025
            await client.mail(parameters="SIZE=500 BODY=8BITMIME SMTPUTF8")
            await client.rcpt("jörg@example.org")
            (connection,) = server.connections
            assert connection.commands[1:] == [
                "XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.1 PORT=1025 PROTO=ESMTP HELO=client.example.com",
                "MAIL FROM:<a@example.com> SIZE=500 BODY=8BITMIME SMTPUTF8",
                "RCPT TO:<jörg@example.org>",
            ]
            await client.close()

    async def test_xforward_can_be_left_out(self, site: Site) -> None:
        async with MailServer(extensions=["XFORWARD NAME"]) as server:
            await (await site.client(site.forward(server.url, xforward=False))).transaction()
            assert "XFORWARD" not in server.connections[0].verbs()

    async def test_a_body_that_is_8_bit_without_saying_so_is_announced(self, site: Site) -> None:
        async with MailServer() as server:
            client = await site.client(site.forward(server.url))
            assert (await client.transaction(content="Subject: x\r\n\r\nGrüße\r\n".encode())).code == 250
            assert [message.mail for message in server.messages] == ["MAIL FROM:<a@example.com> BODY=8BITMIME"]

    @pytest.mark.parametrize("verify", [True, False])
    async def test_8_bit_is_not_sent_to_who_cannot_take_it(self, site: Site, verify: bool) -> None:
        async with MailServer(extensions=["SIZE"]) as server:
            client = await site.client(site.forward(server.url, verify=verify))
            await client.mail(parameters="BODY=8BITMIME")
            await client.rcpt()
            assert said(await client.data("Subject: x\r\n\r\nGrüße\r\n".encode())) == "554 5.6.3"
            await client.mail(parameters="BODY=8BITMIME")
            await client.rcpt()
            assert (await client.data()).code == 250
            assert len(server.messages) == 1

    @pytest.mark.parametrize("verify", [True, False])
    @pytest.mark.parametrize(
        ("sender", "recipient"), [("jörg@a.example", "b@c.example"), ("a@b.example", "ü@c.example")]
    )
    async def test_an_address_is_not_said_to_who_cannot_take_it(
        self, site: Site, sender: str, recipient: str, verify: bool
    ) -> None:
        async with MailServer() as server:
            client = await site.client(site.forward(server.url, verify=verify))
            await client.mail(sender, "SMTPUTF8")
            replies = [await client.rcpt(recipient)]
            if not verify:
                replies.append(await client.data())
            assert said(replies[-1]) == "553 5.6.7"
            assert not server.messages
            assert all(command.isascii() for command in server.connections[0].commands)
            await client.close()


async def test_without_verify_nobody_is_asked_before_the_message(site: Site) -> None:
    async with MailServer(answers={"RCPT TO:<no@example.org>": "550 5.1.1 nobody"}) as server:
        client = await site.client(site.forward(server.url, verify=False))
        await client.mail()
        assert (await client.rcpt("no@example.org")).code == 250
        assert (await client.rcpt("yes@example.org")).code == 250
        assert server.connections == []
        reply = await client.data()
        assert reply.code == 554 and "no@example.org" in str(reply.text)
        assert [message.recipients for message in server.messages] == [["yes@example.org"]]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"to": "mail.example:25"}, "smtp://host:port"),
        ({"to": ["smtp://mail.example", "http://mail.example"]}, "http://mail.example"),
        ({"to": []}, "list of targets is empty"),
        ({"to": "smtp://mail.example", "domains": ["not a domain"]}, "not all are domains"),
        ({"to": "smtp://mail.example", "tls": "maybe"}, "opportunistic"),
        ({"to": "smtp://mail.example", "pool": -1}, "greater than or equal to 0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ForwardOptions(**options)
