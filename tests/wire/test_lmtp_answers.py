"""A thousand recipients behind LMTP: each gets the message once, wherever the answers end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from gatepost_builtin.delivery.forward import Forward
from tests.door import LiveDoor, live
from tests.peers.mail_server import DROP, MailServer
from tests.policy import MESSAGE, Policy, instance, vouching

EVERYBODY = [f"r{number}@example.org" for number in range(1000)]


async def send(door: LiveDoor) -> bytes:
    """Send a message to everybody; the reply to it."""
    wire = await door.hello()
    wire.send(b"MAIL FROM:<a@example.com>\r\n" + b"".join(b"RCPT TO:<%b>\r\n" % each.encode() for each in EVERYBODY))
    assert {reply[:3] for reply in await wire.replies(1001)} == {b"250"}
    reply = await wire.message(MESSAGE)
    await wire.close()
    return reply


@pytest.mark.parametrize("answered", [1000, 400])
async def test_a_thousand_recipients_get_the_message_once_though_the_connection_breaks_in_the_midst_of_the_answers(
    answered: int, forward_to: Callable[..., Forward]
) -> None:
    async with MailServer(lmtp=True) as server:
        if answered < 1000:
            server.answers[f". <{EVERYBODY[answered]}>"] = DROP
        policy = Policy(vouching(), instance(forward_to(server, verify=False), "forward"))
        async with live(policy) as door:
            replies = [await send(door)]
            server.answers.clear()
            server.messages = [each for each in server.messages if each.recipients]
            given = Counter(server.messages[0].recipients[:answered])
            if answered < 1000:
                replies.append(await send(door))
                given += Counter(server.messages[1].recipients)
        assert [reply[:9] for reply in replies] == (
            [b"250 2.0.0"] if answered == 1000 else [b"451 4.3.0", b"250 2.0.0"]
        )
        assert given == Counter(EVERYBODY)
