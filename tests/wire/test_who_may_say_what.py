"""Privacy and relaying: nobody learns who lives here, nobody is relayed, and nobody gets a bounce."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gatepost_builtin.delivery.forward import Forward
from gatepost_builtin.envelope.recipients import Recipients, RecipientsOptions
from tests.door import Keeping, live
from tests.peers.mail_server import MailServer
from tests.policy import Policy, vouching


def ours(*addresses: str) -> Recipients:
    return Recipients(RecipientsOptions(domains=frozenset({"example.org"}), addresses=frozenset(addresses)))


class TestNeverAnOpenRelay:
    async def rcpt(self, policy: Policy, path: bytes) -> bytes:
        async with live(policy) as door:
            wire = await door.hello()
            await wire.say(b"MAIL FROM:<a@example.com>")
            return await wire.say(b"RCPT TO:" + path)

    async def test_a_recipient_that_no_plugin_vouched_for(self) -> None:
        assert (await self.rcpt(Policy(Keeping()), b"<b@example.org>")).startswith(b"450 4.7.1 ")

    @pytest.mark.parametrize("path", [b"<b@elsewhere.example>", b"<b@sub.example.org>", b"<b@[192.0.2.1]>"])
    async def test_a_foreign_recipient(self, path: bytes) -> None:
        assert (await self.rcpt(Policy(ours(), Keeping()), path)).startswith(b"550 5.7.1 ")

    @pytest.mark.parametrize(
        "path",
        [
            b"<victim%elsewhere.example@example.org>",
            b"<elsewhere.example!victim@example.org>",
            b'<"victim@elsewhere.example"@example.org>',
            b'<"victim%elsewhere.example"@example.org>',
            b'<"elsewhere.example!victim"@example.org>',
            b"<@example.org:victim%elsewhere.example@example.org>",
        ],
    )
    async def test_an_order_to_send_on_in_the_local_part(self, path: bytes) -> None:
        assert (await self.rcpt(Policy(ours(), Keeping()), path)).startswith(b"550 5.7.1 ")

    async def test_an_address_that_is_listed_as_it_stands(self) -> None:
        policy = Policy(ours("50%off@example.org"), Keeping())
        assert (await self.rcpt(policy, b"<50%off@example.org>")).startswith(b"250 ")

    async def test_a_source_route_is_judged_as_what_stands_behind_it(self) -> None:
        policy = Policy(ours(), Keeping())
        assert (await self.rcpt(policy, b"<@example.org:victim@elsewhere.example>")).startswith(b"550 5.7.1 ")
        assert (await self.rcpt(policy, b"<@elsewhere.example:b@example.org>")).startswith(b"250 ")

    async def test_the_message_goes_to_nobody_who_was_refused(self) -> None:
        async with live(Policy(ours(), keeping := Keeping())) as door:
            wire = await door.hello()
            await wire.say(b"MAIL FROM:<a@example.com>")
            assert (await wire.say(b"RCPT TO:<b@elsewhere.example>")).startswith(b"550 5.7.1 ")
            assert (await wire.say(b"DATA")).startswith(b"503 5.5.1 ")
            assert not keeping.contents


@pytest.mark.parametrize("answer", ["550 5.7.1 no", "450 4.2.0 later"])
async def test_no_bounces_are_made(forward_to: Callable[..., Forward], answer: str) -> None:
    """A refusal of the next hop is the reply to the client; neither then nor later is a message made of it."""
    async with MailServer(answers={".": answer}) as server, live(Policy(vouching(), forward_to(server))) as door:
        wire = await door.hello()
        await wire.envelope()
        reply = await wire.message()
        assert reply[:1] == answer[:1].encode()
        assert (await wire.say(b"QUIT")).startswith(b"221 ")
        await wire.close()
        await door.left()
        said = [command for dialogue in server.connections for command in dialogue.commands]
        assert [command for command in said if command.startswith("MAIL")] == ["MAIL FROM:<a@example.com>"]
        assert len(server.messages) == 1
