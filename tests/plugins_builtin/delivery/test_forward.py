"""forward: the next hop's word is the client's, and each recipient gets the message once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from gatepost import deny, hookimpl
from gatepost.testing import MESSAGE, Peer, Policy, Reply, instance
from gatepost_builtin.delivery.forward import Forward, ForwardOptions
from tests.plugins_builtin.delivery.forwarding import ONE, TWO, answer, client_of, forward, said


async def test_the_message_goes_on_and_the_queue_id_comes_back() -> None:
    policy = Policy(forward())
    answer(policy.next_hop, ".", "250 2.0.0 Ok: queued as 4FjX")
    reply = await (await client_of(policy)).transaction()
    assert said(reply) == "250 2.0.0" and "Ok: queued as 4FjX" in reply.text
    (message,) = policy.next_hop.messages
    assert message.content.startswith(b"Received: ") and message.content.endswith(MESSAGE)
    assert (message.sender, message.parameters) == ("a@example.com", "")
    assert message.recipients == ("b@example.org",)


async def test_a_recipient_is_played_to_the_next_hop_at_once_in_the_session_that_gets_the_message() -> None:
    policy = Policy(forward())
    answer(policy.next_hop, "rcpt", "550 5.1.1 no such user", "no@example.org")
    client = await client_of(policy)
    await client.mail()
    reply = await client.rcpt("no@example.org")
    assert said(reply) == "550 5.1.1" and "no such user" in reply.text
    assert (await client.rcpt("yes@example.org")).code == 250
    assert policy.next_hop.connections[0].verbs == ["EHLO", "MAIL", "RCPT", "RCPT"]
    assert (await client.data()).code == 250
    assert policy.next_hop.messages[0].recipients == ("yes@example.org",)
    assert [each.verbs for each in policy.next_hop.connections] == [["EHLO", "MAIL", "RCPT", "RCPT", "DATA"]]


@pytest.mark.parametrize("command", ["rcpt", "."])
@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("450 4.2.0 busy", "450 4.2.0"),
        ("452 4.5.3 too many", "452 4.5.3"),
        ("550 no status", "550 5.0.0"),
        ("451 no status", "451 4.0.0"),
        ("552 5.2.2 full", "552 5.2.2"),
    ],
)
async def test_the_real_answer_is_given(command: str, text: str, reply: str) -> None:
    policy = Policy(forward())
    answer(policy.next_hop, command, text)
    assert said(await (await client_of(policy)).transaction()) == reply
    assert not policy.log.events


async def test_a_refusal_of_mail_is_spoken_for_each_recipient_and_asked_once() -> None:
    policy = Policy(forward())
    answer(policy.next_hop, "mail", "550 5.1.8 bad sender")
    client = await client_of(policy)
    await client.mail()
    assert said(await client.rcpt("b@example.org")) == "550 5.1.8"
    assert said(await client.rcpt("c@example.org")) == "550 5.1.8"
    assert policy.next_hop.connections[0].verbs.count("MAIL") == 1


class TestOnce:
    """Each recipient gets the message once, or is refused; never both, never twice."""

    async def test_who_is_refused_by_a_later_plugin_does_not_get_it(self) -> None:
        class Later:
            @hookimpl
            def rcpt(self, recipient: Any) -> Any:
                return deny("not this one") if recipient.local == "c" else None

        policy = Policy(forward(), Later)
        client = await client_of(policy)
        await client.mail()
        assert (await client.rcpt("b@example.org")).code == 250
        assert (await client.rcpt("c@example.org")).code == 550
        assert (await client.data()).code == 250
        assert [message.recipients for message in policy.next_hop.messages] == [("b@example.org",)]

    async def test_mixed_answers_of_lmtp_and_a_retry_reach_everybody_once(self) -> None:
        policy = Policy(forward("lmtp://mail.example:24"))
        names = [f"{kind}{number}" for kind in "abcde" for number in (1, 2)]
        for name in names:
            address = f"{name}@example.org"
            if name[0] == "b":
                answer(policy.next_hop, "rcpt", "450 4.2.0 busy", address, times=1)
            elif name[0] == "c":
                answer(policy.next_hop, "rcpt", "550 5.1.1 nobody", address)
            elif name[0] == "d":
                answer(policy.next_hop, ".", "452 4.2.2 full", address, times=1)
            elif name[0] == "e":
                answer(policy.next_hop, ".", "554 5.7.1 not that", address)

        async def attempt(recipients: list[str]) -> tuple[dict[str, int], Reply]:
            client = await client_of(policy)
            await client.mail()
            replies = {name: (await client.rcpt(f"{name}@example.org")).code for name in recipients}
            return replies, await client.data()

        replies, reply = await attempt(names)
        assert replies == {name: {"b": 450, "c": 550}.get(name[0], 250) for name in names}
        assert reply.code == 451
        again = [name for name in names if replies[name] != 550]
        replies, reply = await attempt(again)
        assert replies == {name: 452 if name[0] in "de" else 250 for name in again}
        assert reply.code == 250
        for name in ("d1", "d2", "e1", "e2"):  # each comes alone, and hears its own answer
            replies, reply = await attempt([name])
            assert (replies, reply.code) == ({name: 250}, 250 if name[0] == "d" else 554)
        got = Counter(recipient for message in policy.next_hop.messages for recipient in message.recipients)
        assert {name: got[f"{name}@example.org"] for name in names} == {
            # Those of d and e were sent to twice, since the answer to the first time was no.
            name: {"a": 1, "b": 1, "c": 0, "d": 2, "e": 2}[name[0]]
            for name in names
        }

    async def test_a_next_hop_that_gave_up_waiting_is_replaced(self) -> None:
        policy = Policy(forward())
        client = await client_of(policy)
        await client.mail()
        await client.rcpt("b@example.org")
        policy.next_hop.drop_connections()
        assert (await client.rcpt("c@example.org")).code == 250
        policy.next_hop.drop_connections()
        assert (await client.data()).code == 250
        assert [message.recipients for message in policy.next_hop.messages] == [("b@example.org", "c@example.org")]

    async def test_a_loss_after_the_dot_is_left_to_the_client(self) -> None:
        policy = Policy(forward())
        policy.next_hop.drop(".", times=1)
        client = await client_of(policy)
        assert said(await client.transaction()) == "451 4.4.1"
        assert len(policy.next_hop.messages) == 1
        assert (await client.transaction()).code == 250

    async def test_rset_lets_the_next_hop_go(self) -> None:
        policy = Policy(forward())
        client = await client_of(policy)
        await client.mail()
        await client.rcpt()
        await client.say("RSET")
        assert policy.next_hop.connections[0].verbs[-1] == "RSET"
        await client.transaction()
        await client.close()
        assert len(policy.next_hop.connections) == 1

    async def test_a_client_that_leaves_lets_the_next_hop_go(self) -> None:
        policy = Policy(forward())
        client = await client_of(policy)
        await client.mail()
        await client.rcpt()
        await client.close()
        assert policy.next_hop.connections[0].verbs[-1] == "RSET"


class TestConnections:
    """A connection serves a few messages, and its failures are not our client's."""

    async def test_a_connection_is_closed_after_ten_messages(self) -> None:
        policy = Policy(forward())
        client = await client_of(policy)
        for _ in range(11):
            assert (await client.transaction()).code == 250
        assert [each.verbs.count("MAIL") for each in policy.next_hop.connections] == [10, 1]

    async def test_the_number_of_messages_is_an_option(self) -> None:
        policy = Policy(forward(messages_per_connection=1))
        client = await client_of(policy)
        await client.transaction()
        await client.transaction()
        assert [each.verbs.count("MAIL") for each in policy.next_hop.connections] == [1, 1]

    async def test_the_guesses_of_one_client_are_not_held_against_the_next(self) -> None:
        policy = Policy(forward())
        answer(policy.next_hop, "rcpt", "550 5.1.1 no such user", "no@example.org")
        guessing = await client_of(policy)
        await guessing.mail()
        for _ in range(19):
            assert (await guessing.rcpt("no@example.org")).code == 550
        await guessing.say("RSET")
        assert (await (await client_of(policy)).transaction()).code == 250
        assert [each.verbs.count("RCPT") for each in policy.next_hop.connections] == [19, 1]

    @pytest.mark.parametrize("verify", [True, False])
    @pytest.mark.parametrize("command", ["mail", "rcpt", "data"])
    @pytest.mark.parametrize("text", ["421 4.7.0 enough", "452 4.5.3 enough", "drop"])
    async def test_a_used_connection_that_has_had_enough_costs_the_client_nothing(
        self, command: str, text: str, verify: bool
    ) -> None:
        policy = Policy(forward(verify=verify))
        client = await client_of(policy)
        assert (await client.transaction()).code == 250
        if text == "drop":
            policy.next_hop.drop(command, times=1)
        else:
            answer(policy.next_hop, command, text, times=1)
        reply = await client.transaction()
        # 4xx to DATA may be about the message, so it is passed on.
        assert said(reply) == ("452 4.5.3" if (command, text[:3]) == ("data", "452") else "250 2.0.0")
        assert len(policy.next_hop.messages) == (2 if reply.code == 250 else 1)

    async def test_a_recipient_that_the_fresh_connection_refuses_is_tried_again_by_the_client(self) -> None:
        policy = Policy(forward())
        client = await client_of(policy)
        await client.mail()
        assert (await client.rcpt("b@example.org")).code == 250
        assert (await client.rcpt("c@example.org")).code == 250
        answer(policy.next_hop, "rcpt", "550 5.1.1 gone", "c@example.org")
        policy.next_hop.drop_connections()
        assert said(await client.data()) == "451 4.3.0"
        assert [message.recipients for message in policy.next_hop.messages] == [("b@example.org",)]

    @pytest.mark.parametrize("verify", [True, False])
    @pytest.mark.parametrize("command", ["connect", "mail", "rcpt", "data", "."])
    async def test_connections_are_given_back_after_a_refusal(self, command: str, verify: bool) -> None:
        policy = Policy(forward(verify=verify))
        client = await client_of(policy)
        if command != "connect":
            answer(policy.next_hop, command, "550 5.7.1 no", times=1)
        await client.transaction()
        await client.say("RSET")
        assert (await client.transaction()).code == 250
        assert len(policy.next_hop.connections) == 1

    async def test_the_connection_is_given_back_when_others_get_the_message_than_were_verified(self) -> None:
        class Later:
            @hookimpl
            def rcpt(self, recipient: Any) -> Any:
                return deny("not this one") if recipient.local == "c" else None

        policy = Policy(forward(), Later)
        client = await client_of(policy)
        await client.mail()
        await client.rcpt("b@example.org")
        await client.rcpt("c@example.org")
        assert (await client.data()).code == 250
        (connection,) = policy.next_hop.connections
        assert connection.verbs == ["EHLO", "MAIL", "RCPT", "RCPT", "RSET", "MAIL", "RCPT", "DATA"]
        assert (await client.transaction()).code == 250
        assert len(policy.next_hop.connections) == 1

    async def test_a_bare_postmaster_is_forwarded_whatever_the_domains(self) -> None:
        policy = Policy(forward(domains=["ours.example"]))
        client = await client_of(policy)
        assert (await client.transaction(recipient="postmaster")).code == 250
        assert [message.recipients for message in policy.next_hop.messages] == [("postmaster",)]


class TestFailOver:
    """The log, the record and ``explain`` name the next hop that took the message, and the one that did not."""

    async def test_the_record_names_the_next_hop_that_took_it_and_the_one_that_did_not(self) -> None:
        policy = Policy(forward((ONE, TWO)))
        policy.next_hop.at(ONE).drop("connect")
        assert (await (await client_of(policy)).transaction()).code == 250
        record = policy.records[-1]
        assert (record.event, record.next_hop) == ("accepted", TWO)
        assert record.failed_next_hops == (f"{ONE}: nobody answers",)
        assert record.facts()["next_hop"] == TWO
        assert record.facts()["failed_next_hops"] == [f"{ONE}: nobody answers"]

    async def test_a_record_of_a_refusal_names_those_that_failed(self) -> None:
        policy = Policy(forward((ONE, TWO)))
        policy.next_hop.at(ONE).drop("connect")
        answer(policy.next_hop.at(TWO), "connect", "554 5.7.1 not you")
        client = await client_of(policy)
        await client.mail()
        assert said(await client.rcpt()) == "451 4.4.0"
        record = policy.records[-1]
        assert (record.event, record.next_hop) == ("refused", "")
        assert record.failed_next_hops == (f"{ONE}: nobody answers; {TWO}: 554 5.7.1 not you",)

    async def test_one_that_takes_over_within_a_transaction_is_named(self) -> None:
        policy = Policy(forward((ONE, TWO)))
        one = policy.next_hop.at(ONE)
        client = await client_of(policy)
        await client.mail()
        await client.rcpt()
        one.drop_connections()
        one.drop("connect")
        assert (await client.data()).code == 250
        assert policy.records[-1].next_hop == TWO
        assert policy.records[-1].failed_next_hops == (f"{ONE}: nobody answers",)


class TestElsewhere:
    def two(self) -> tuple[Policy, Peer, Peer]:
        """A policy that forwards two domains to two next hops."""
        first = instance(Forward, "first", to=ONE, domains=["one.example"])
        policy = Policy(first, instance(Forward, "second", to=TWO, domains=["two.example"]))
        return policy, policy.next_hop.at(ONE), policy.next_hop.at(TWO)

    async def test_a_recipient_of_another_next_hop_comes_in_a_transaction_of_its_own(self) -> None:
        policy, one, two = self.two()
        client = await client_of(policy)
        await client.mail()
        assert (await client.rcpt("a@one.example")).code == 250
        assert said(await client.rcpt("b@two.example")) == "452 4.5.3"
        assert (await client.data()).code == 250
        assert (await client.transaction(recipient="b@two.example")).code == 250
        assert [message.recipients for message in one.messages] == [("a@one.example",)]
        assert [message.recipients for message in two.messages] == [("b@two.example",)]

    async def test_a_refused_recipient_keeps_nobody_from_going_elsewhere(self) -> None:
        policy, one, _ = self.two()
        answer(one, "rcpt", "550 5.1.1 nobody")
        client = await client_of(policy)
        await client.mail()
        assert (await client.rcpt("a@one.example")).code == 550
        assert (await client.rcpt("b@two.example")).code == 250

    async def test_other_domains_are_left_to_others(self) -> None:
        policy = Policy(forward(domains=["Ours.Example"]))
        client = await client_of(policy)
        assert said(await client.transaction(recipient="b@example.org")) == "451 4.3.0"
        assert (await client.transaction(recipient="b@ours.example")).code == 250
        assert len(policy.next_hop.connections) == 1


class TestPassedOn:
    async def test_size_body_and_client(self) -> None:
        policy = Policy(forward())
        policy.next_hop.extensions = ["SIZE 100000", "8BITMIME", "SMTPUTF8", "XFORWARD NAME ADDR PORT PROTO HELO"]
        client = await policy.connect(port=1025)
        await client.ehlo()
        await client.mail(parameters="SIZE=500 BODY=8BITMIME SMTPUTF8")
        await client.rcpt("jörg@example.org")
        (connection,) = policy.next_hop.connections
        assert connection.commands[1:] == [
            "XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.1 PORT=1025 PROTO=ESMTP HELO=client.example.com",
            "MAIL FROM:<a@example.com> SIZE=500 BODY=8BITMIME SMTPUTF8",
            "RCPT TO:<jörg@example.org>",
        ]

    async def test_the_size_counts_what_we_add(self) -> None:
        policy = Policy(forward(verify=False))
        policy.next_hop.extensions = ["SIZE 100000"]
        assert (await (await client_of(policy)).transaction()).code == 250
        (message,) = policy.next_hop.messages
        assert message.parameters == f"SIZE={len(message.content)}"
        assert len(message.content) > len(MESSAGE)

    @pytest.mark.parametrize("verify", [True, False])
    async def test_8_bit_that_only_the_body_holds_is_announced(self, verify: bool) -> None:
        class Early:
            @hookimpl
            def headers(self, message: Any) -> None:
                """Look at the message when the body has not come yet."""

        policy = Policy(forward(verify=verify), Early)
        client = await client_of(policy)
        content = b"Subject: x\r\n\r\n" + b"7 bits\r\n" * 5000 + "Grüße\r\n".encode()
        assert (await client.transaction(content=content)).code == 250
        assert [message.parameters for message in policy.next_hop.messages] == ["BODY=8BITMIME"]

    async def test_xforward_can_be_left_out(self) -> None:
        policy = Policy(forward(xforward=False))
        policy.next_hop.extensions = ["XFORWARD NAME"]
        assert (await (await client_of(policy)).transaction()).code == 250
        assert "XFORWARD" not in policy.next_hop.connections[0].verbs

    async def test_a_body_that_is_8_bit_without_saying_so_is_announced(self) -> None:
        policy = Policy(forward())
        client = await client_of(policy)
        assert (await client.transaction(content="Subject: x\r\n\r\nGrüße\r\n".encode())).code == 250
        assert [message.parameters for message in policy.next_hop.messages] == ["BODY=8BITMIME"]


async def test_without_verify_nobody_is_asked_before_the_message() -> None:
    policy = Policy(forward(verify=False))
    answer(policy.next_hop, "rcpt", "550 5.1.1 nobody", "no@example.org")
    client = await client_of(policy)
    await client.mail()
    assert (await client.rcpt("no@example.org")).code == 250
    assert (await client.rcpt("yes@example.org")).code == 250
    assert [connection.verbs for connection in policy.next_hop.connections] == [["EHLO"]]  # asked at the start
    reply = await client.data()
    assert said(reply) == "451 4.3.0"
    await client.mail()
    assert [said(await client.rcpt(f"{name}@example.org")) for name in ("no", "yes")] == ["250 2.1.5", "452 4.5.3"]
    assert said(await client.data()) == "550 5.1.1"
    await client.mail()
    await client.rcpt("yes@example.org")
    assert said(await client.data()) == "250 2.0.0"
    assert [message.recipients for message in policy.next_hop.messages] == [("yes@example.org",)]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"to": "mail.example:25"}, "smtp://host:port"),
        ({"to": ["smtp://mail.example", "http://mail.example"]}, "http://mail.example"),
        ({"to": []}, "list of targets is empty"),
        ({"to": "smtp://mail.example", "domains": ["not a domain"]}, "expected a domain"),
        ({"to": "smtp://mail.example", "tls": "maybe"}, "opportunistic"),
        ({"to": "smtp://mail.example", "pool": -1}, "greater than or equal to 0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ForwardOptions(**options)
