"""forward: what the next hop says about us, and not about the mail, is never held against our client."""

from __future__ import annotations

import pytest

from gatepost.testing import Policy
from tests.plugins_builtin.delivery.forwarding import ONE, TWO, URL, answer, client_of, forward, said


class TestWhatIsAboutUs:
    @pytest.mark.parametrize("verify", [True, False])
    @pytest.mark.parametrize(
        ("command", "text"),
        [
            ("connect", "554 5.7.1 not you"),
            ("ehlo", "550 5.7.1 not you"),
            ("mail", "530 5.7.0 log in"),
            ("rcpt", "535 5.7.8 log in"),
        ],
    )
    async def test_a_refusal_of_us_is_temporary_and_warned_about(self, command: str, text: str, verify: bool) -> None:
        policy = Policy(forward(verify=verify))
        answer(policy.next_hop, command, text)
        reply = await (await client_of(policy)).transaction()
        assert said(reply) == "451 4.4.0" and "5.7" not in reply.text
        assert [event.name for event in policy.events] == ["next_hop_failed"]
        assert policy.records[-1].failed_next_hops == (f"{URL}: {text}",)

    @pytest.mark.parametrize("verify", [True, False])
    @pytest.mark.parametrize("code", [500, 502, 503, 521, 530, 535, 538])
    @pytest.mark.parametrize("command", ["mail", "rcpt", "data", "."])
    async def test_what_speaks_about_us_is_451(self, command: str, code: int, verify: bool) -> None:
        policy = Policy(forward(verify=verify))
        answer(policy.next_hop, command, f"{code} 5.5.1 no")
        assert said(await (await client_of(policy)).transaction()) == "451 4.4.0"
        assert [event.name for event in policy.events] == ["next_hop_failed"]

    @pytest.mark.parametrize("code", [501, 504, 555])
    async def test_what_speaks_about_a_parameter_of_ours_is_451(self, code: int) -> None:
        policy = Policy(forward())
        answer(policy.next_hop, "mail", f"{code} 5.5.4 no", times=1)
        client = await client_of(policy)
        await client.mail(parameters="BODY=8BITMIME")
        assert said(await client.rcpt()) == "451 4.4.0"
        await client.say("RSET")
        answer(policy.next_hop, "mail", f"{code} 5.5.4 no", times=1)
        await client.mail()
        assert said(await client.rcpt()) == f"{code} 5.5.4"

    @pytest.mark.parametrize("verify", [True, False])
    @pytest.mark.parametrize("command", ["mail", "rcpt"])
    async def test_3xx_is_an_error_of_the_next_hop(self, command: str, verify: bool) -> None:
        policy = Policy(forward(verify=verify))
        answer(policy.next_hop, command, "354 go on")
        assert said(await (await client_of(policy)).transaction()) == "451 4.4.1"
        assert [event.name for event in policy.events] == ["next_hop_failed"]

    @pytest.mark.parametrize("verify", [True, False])
    async def test_nobody_there_is_temporary(self, verify: bool) -> None:
        policy = Policy(forward(verify=verify))
        policy.next_hop.drop("connect")
        reply = await (await client_of(policy)).transaction()
        assert said(reply) == "451 4.4.1" and "mail.example" not in reply.text

    async def test_who_could_not_be_reached_is_not_asked_again_for_each_recipient(self) -> None:
        policy = Policy(forward())
        policy.next_hop.drop("ehlo")
        client = await client_of(policy)
        await client.mail()
        for number in range(3):
            assert said(await client.rcpt(f"b{number}@example.org")) == "451 4.4.1"
        assert len(policy.next_hop.connections) == 2  # the first was to learn about it, at the start

    async def test_another_target_takes_over(self) -> None:
        policy = Policy(forward((ONE, TWO)))
        answer(policy.next_hop.at(ONE), "connect", "421 busy")
        assert (await (await client_of(policy)).transaction()).code == 250
        assert [message.target for message in policy.next_hop.messages] == [TWO]


class TestRefusesAll:
    """One refusal for every recipient of ten clients in a row is about us."""

    REJECTED = "554 5.7.1 <gate[127.0.0.1]>: Client host rejected: Access denied"

    async def heard(self, policy: Policy, clients: int, recipient: str = "b@example.org", first: int = 1) -> list[str]:
        """Have that many clients name the recipient; return what each heard."""
        replies = []
        for number in range(first, first + clients):
            client = await policy.connect(f"192.0.2.{number}")
            await client.ehlo()
            await client.mail()
            replies.append(said(await client.rcpt(recipient)))
            await client.close()
        return replies

    @pytest.mark.parametrize("command", ["mail", "rcpt"])
    async def test_from_the_tenth_client_on_it_is_451(self, command: str) -> None:
        policy = Policy(forward())
        answer(policy.next_hop, command, self.REJECTED)
        assert await self.heard(policy, 12) == ["554 5.7.1"] * 9 + ["451 4.4.0"] * 3
        (warning,) = policy.log
        assert (warning.name, warning.level) == ("next_hop_refuses_all", "warning")
        assert warning.facts == {"next_hop": URL, "answer": self.REJECTED}

    async def test_one_client_that_comes_ten_times_is_one(self) -> None:
        policy = Policy(forward())
        answer(policy.next_hop, "rcpt", self.REJECTED)
        for _ in range(12):
            assert await self.heard(policy, 1) == ["554 5.7.1"]

    async def test_the_recipient_in_the_text_makes_no_difference(self) -> None:
        policy = Policy(forward())
        for number in range(11):
            recipient = f"b{number}@example.org"
            answer(policy.next_hop, "rcpt", f"554 5.7.1 <{recipient}>: Relay access denied", recipient)
        replies = [(await self.heard(policy, 1, f"b{each}@example.org", each + 1))[0] for each in range(11)]
        assert replies == ["554 5.7.1"] * 9 + ["451 4.4.0"] * 2

    async def test_an_accepted_recipient_ends_it(self) -> None:
        policy = Policy(forward())
        answer(policy.next_hop, "rcpt", self.REJECTED)
        await self.heard(policy, 10)
        answer(policy.next_hop, "rcpt", "250 2.1.5 fine", times=1)
        assert await self.heard(policy, 2) == ["250 2.1.5", "554 5.7.1"]

    async def test_other_words_begin_anew(self) -> None:
        policy = Policy(forward())
        answer(policy.next_hop, "rcpt", self.REJECTED)
        await self.heard(policy, 9)
        answer(policy.next_hop, "rcpt", "554 5.7.1 something else", times=1)
        assert await self.heard(policy, 3, first=20) == ["554 5.7.1"] * 3

    @pytest.mark.parametrize("text", ["550 5.1.1 no such user", "550 5.2.1 mailbox disabled"])
    async def test_who_guesses_addresses_proves_nothing(self, text: str) -> None:
        policy = Policy(forward())
        answer(policy.next_hop, "rcpt", text)
        assert await self.heard(policy, 12) == [f"550 {text.split()[1]}"] * 12
        assert not policy.log.events


class TestNothingInnerLeaks:
    """No next hop, path, port or library text reaches a client, in replies of any kind."""

    @pytest.mark.parametrize(
        ("text", "heard"),
        [
            ("250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 4F", "from MTA(smtp:(hidden)): 250"),
            ("451 4.3.0 lmtp:///run/inner/lmtp: connection refused", "(hidden): connection refused"),
            ("452 4.2.2 cannot write /var/mail/bob: disk full", "cannot write (hidden): disk full"),
            ("554 5.7.1 <gate[10.0.0.7]>: Client host rejected", "<gate(hidden)>: Client host rejected"),
            ("554 5.7.1 relay 192.168.1.2:10025 says no", "relay (hidden) says no"),
            ("554 5.7.1 relay [IPv6:fd00::12]:25 says no", "relay (hidden) says no"),
            ("550 5.7.1 inner.example:10025 says no", "(hidden) says no"),
            (
                "550 5.7.1 8.8.8.8 is listed, see https://www.example/a/b",
                "8.8.8.8 is listed, see https://www.example/a/b",
            ),
            ("550 5.2.1 <b@inner.example> is closed since 12:30:45", "<b@inner.example> is closed since 12:30:45"),
        ],
    )
    @pytest.mark.parametrize("command", ["rcpt", "."])
    async def test_in_the_words_of_the_next_hop(self, command: str, text: str, heard: str) -> None:
        if command == "rcpt" and text.startswith("250"):
            command = "."  # our own 250 answers RCPT
        policy = Policy(forward(("smtp://inner.example:10025", "lmtp:///run/inner/lmtp")))
        answer(policy.next_hop, command, text)
        assert heard in (await (await client_of(policy)).transaction()).text

    async def test_when_an_lmtp_next_hop_breaks_off_between_two_answers(self) -> None:
        policy = Policy(forward("lmtp://127.0.0.1:22113"))
        policy.next_hop.drop(".", "c@example.org")
        client = await client_of(policy)
        await client.mail()
        await client.rcpt("b@example.org")
        await client.rcpt("c@example.org")
        reply = await client.data()
        assert said(reply) == "451 4.3.0"
        assert "the mail server behind this one broke off" in reply.text
        assert "127.0.0.1" not in reply.text and "22113" not in reply.text and "lmtp" not in reply.text

    @pytest.mark.parametrize("end", ["drop", "hang", "421 4.3.2 host-7.inner.example going down", "999 nonsense"])
    @pytest.mark.parametrize("command", ["connect", "ehlo", "mail", "rcpt", "data", "."])
    async def test_when_the_next_hop_fails(self, command: str, end: str) -> None:
        policy = Policy(forward("smtp://127.0.0.1:22113"))
        match end:
            case "drop":
                policy.next_hop.drop(command)
            case "hang":
                policy.next_hop.hang(command)
            case _:
                answer(policy.next_hop, command, end)
        reply = await (await client_of(policy)).transaction()
        # At RCPT, forward's time limit of 30 s is over before that of the command.
        assert reply.text in (
            "the mail server behind this one does not let us in",
            "the mail server behind this one cannot be reached",
            "local error, try again later",
        )
        assert reply.code == 451
        assert "22113" not in reply.text and "inner" not in reply.text and "no answer" not in reply.text


async def test_the_stand_in_of_the_test_kit_tells_nothing_either() -> None:
    policy = Policy()
    policy.next_hop.drop("connect")
    reply = await (await client_of(policy)).transaction()
    assert said(reply) == "451 4.4.1" and "next-hop.example" not in reply.text
