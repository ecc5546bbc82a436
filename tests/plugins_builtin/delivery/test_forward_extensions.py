"""forward: clients are offered 8BITMIME and SMTPUTF8 only if every next hop that they can reach has them."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost import hookimpl
from gatepost.testing import Client, Policy, instance
from gatepost_builtin.delivery.forward import Forward
from tests.plugins_builtin.delivery.forwarding import ONE, TWO, client_of, forward, said

EIGHT_BIT = "Subject: x\r\n\r\nGrüße\r\n".encode()
BOTH = ["8BITMIME", "SMTPUTF8"]


async def offered(policy: Policy) -> list[str]:
    """The one of the two that a new client is offered."""
    client = await policy.connect()
    return [keyword for keyword in (await client.ehlo()).text.split() if keyword in BOTH]


def change(policy: Policy, *extensions: str) -> None:
    """Let the next hop, which has been asked, offer only these from now on."""
    policy.next_hop.extensions = list(extensions)
    policy.next_hop.drop_connections()


class TestOffered:
    @pytest.mark.parametrize("extensions", [BOTH, ["8BITMIME"], ["SMTPUTF8"], []])
    async def test_what_the_next_hop_has_is_offered_from_the_start(self, extensions: list[str]) -> None:
        policy = Policy(forward())
        policy.next_hop.extensions = extensions
        assert await offered(policy) == extensions
        assert [connection.verbs for connection in policy.next_hop.connections] == [["EHLO"]]

    async def test_only_what_all_targets_have_is_offered(self) -> None:
        policy = Policy(forward((ONE, TWO)))
        policy.next_hop.at(ONE).extensions = BOTH
        policy.next_hop.at(TWO).extensions = ["8BITMIME"]
        assert await offered(policy) == ["8BITMIME"]

    async def test_only_what_the_next_hops_of_all_recipients_have_is_offered(self) -> None:
        first = instance(Forward, "first", to=ONE, domains=["one.example"])
        policy = Policy(first, instance(Forward, "second", to=TWO, domains=["two.example"]))
        policy.next_hop.at(ONE).extensions = ["SMTPUTF8"]
        policy.next_hop.at(TWO).extensions = BOTH
        assert await offered(policy) == ["SMTPUTF8"]

    async def test_while_nothing_is_known_8bitmime_is_offered_and_smtputf8_is_not(self) -> None:
        policy = Policy(forward())
        policy.next_hop.extensions = BOTH
        policy.next_hop.drop("connect")
        assert await offered(policy) == ["8BITMIME"]
        assert policy.events.named("next_hop_failed")[0]["next_hop"] == "smtp://mail.example:25"

    async def test_one_that_lacks_it_settles_it_whatever_the_others_have(self) -> None:
        policy = Policy(forward((ONE, TWO)))
        policy.next_hop.at(ONE).drop("connect")
        policy.next_hop.at(TWO).extensions = ["SMTPUTF8"]
        assert await offered(policy) == []

    async def test_each_new_connection_tells_anew(self) -> None:
        policy = Policy(forward())
        policy.next_hop.extensions = BOTH
        assert await offered(policy) == BOTH
        change(policy)
        assert (await (await client_of(policy)).transaction()).code == 250
        assert await offered(policy) == []


class TestUnasked:
    async def test_smtputf8_that_was_not_offered_is_555(self) -> None:
        policy = Policy(forward())
        client = await client_of(policy)
        assert said(await client.mail(parameters="SMTPUTF8")) == "555 5.5.4"
        assert said(await client.mail("jörg@a.example")) == "553 5.6.7"

    @pytest.mark.parametrize("verify", [True, False])
    async def test_8_bit_content_that_was_not_announced_goes_on_as_it_came(self, verify: bool) -> None:
        policy = Policy(forward(verify=verify))
        policy.next_hop.extensions = []
        client = await client_of(policy)
        assert (await client.transaction(content=EIGHT_BIT)).code == 250
        (message,) = policy.next_hop.messages
        assert message.content.endswith(EIGHT_BIT) and message.parameters == ""
        assert policy.next_hop.connections[0].verbs.count("MAIL") == 1


class TestChanged:
    """The next hop had it when the client asked, and has it no longer: 451."""

    async def begin(self, policy: Policy, sender: str, parameters: str) -> Client:
        policy.next_hop.extensions = BOTH
        client = await client_of(policy)
        assert (await client.mail(sender, parameters)).code == 250
        change(policy)
        return client

    @pytest.mark.parametrize("verify", [True, False])
    async def test_announced_8_bit_content_is_451(self, verify: bool) -> None:
        policy = Policy(forward(verify=verify))
        client = await self.begin(policy, "a@example.com", "BODY=8BITMIME")
        assert (await client.rcpt()).code == 250
        assert said(await client.data(EIGHT_BIT)) == "451 4.4.0"
        assert not policy.next_hop.messages

    @pytest.mark.parametrize("verify", [True, False])
    async def test_announced_8_bit_content_that_is_7_bit_goes_on(self, verify: bool) -> None:
        policy = Policy(forward(verify=verify))
        client = await self.begin(policy, "a@example.com", "BODY=8BITMIME")
        await client.rcpt()
        assert (await client.data()).code == 250

    @pytest.mark.parametrize("verify", [True, False])
    @pytest.mark.parametrize(
        ("sender", "recipient"), [("jörg@a.example", "b@c.example"), ("a@b.example", "ü@c.example")]
    )
    async def test_an_address_beyond_ascii_is_451(self, sender: str, recipient: str, verify: bool) -> None:
        policy = Policy(forward(verify=verify))
        client = await self.begin(policy, sender, "SMTPUTF8")
        replies = [await client.rcpt(recipient)]
        if not verify:
            replies.append(await client.data())
        assert said(replies[-1]) == "451 4.4.0"
        assert not policy.next_hop.messages
        assert all(line.isascii() for connection in policy.next_hop.connections for line in connection.commands)

    async def test_one_that_changes_between_rcpt_and_data_is_451(self) -> None:
        policy = Policy(forward())
        policy.next_hop.extensions = BOTH
        client = await client_of(policy)
        await client.mail(parameters="SMTPUTF8")
        assert (await client.rcpt("jörg@example.org")).code == 250
        change(policy)
        assert said(await client.data()) == "451 4.4.0"
        assert all(line.isascii() for line in policy.next_hop.connections[-1].commands)


async def test_a_plugin_behind_forward_may_still_change_what_is_offered() -> None:
    class Quiet:
        @hookimpl
        def capabilities(self, keywords: list[str]) -> Any:
            keywords.remove("8BITMIME")

    policy = Policy(forward(), Quiet)
    policy.next_hop.extensions = BOTH
    assert await offered(policy) == ["SMTPUTF8"]
