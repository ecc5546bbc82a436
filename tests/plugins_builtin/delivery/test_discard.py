"""discard: every message is taken and nothing is kept, and the log says so at start."""

from __future__ import annotations

from gatepost import accept
from gatepost.testing import Policy, saying
from gatepost_builtin.delivery.discard import Discard


async def test_a_message_is_accepted_for_all_recipients() -> None:
    policy = Policy(Discard)
    client = await policy.connect()
    await client.ehlo()
    await client.mail()
    for name in ("bob", "alice"):
        assert (await client.rcpt(f"{name}@example.org")).code == 250
    reply = await client.data()
    assert (reply.code, reply.status) == (250, "2.0.0")
    assert "discarded" in reply.text


async def test_a_delivery_plugin_behind_it_is_never_reached() -> None:
    policy = Policy(Discard, saying("queue", accept("taken by another"), grants="delivery"))
    client = await policy.connect()
    assert "taken by another" not in (await client.transaction()).text


async def test_it_vouches_for_nobody() -> None:
    client = await Policy(Discard, bare=True).connect()
    assert (await client.transaction()).code == 450


async def test_it_says_at_start_that_mail_is_thrown_away() -> None:
    policy = Policy(Discard)
    await policy.start()
    assert [line.name for line in policy.log.warnings] == ["mail_is_discarded"]


def test_what_it_may_do_is_declared() -> None:
    made = Policy(Discard).gate.instance("discard")
    assert made is not None and made.declaration.grants == {"delivery"}
    assert made.plugin.takes_everything
