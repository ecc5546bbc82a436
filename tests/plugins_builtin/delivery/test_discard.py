"""discard: every message is taken and nothing is kept, and the log says so at start."""

from __future__ import annotations

from gatepost_builtin.delivery.discard import Discard
from tests.policy import Policy, delivering, instance, vouching


class Lines:
    """A log that keeps its warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warning(self, event: str, **facts: object) -> None:
        self.warnings.append(event)

    info = error = warning


async def test_a_message_is_accepted_for_all_recipients() -> None:
    policy = Policy(vouching(), Discard(Lines()))
    client = await policy.connect()
    await client.ehlo()
    await client.mail()
    for name in ("bob", "alice"):
        assert (await client.rcpt(f"{name}@example.org")).code == 250
    reply = await client.data()
    assert (reply.code, reply.status) == (250, "2.0.0")
    assert "discarded" in reply.lines()[0]


async def test_a_delivery_plugin_behind_it_is_never_reached() -> None:
    policy = Policy(vouching(), Discard(Lines()), delivering("taken by another"))
    client = await policy.connect()
    assert "taken by another" not in (await client.transaction()).lines()[0]


async def test_it_vouches_for_nobody() -> None:
    client = await Policy(Discard(Lines())).connect()
    assert (await client.transaction()).code == 450


def test_it_says_at_start_that_mail_is_thrown_away() -> None:
    log = Lines()
    Discard(log).startup()
    assert log.warnings == ["all accepted mail is thrown away: discard is for trials"]


def test_what_it_may_do_is_declared() -> None:
    made = instance(Discard(Lines()))
    assert made.grants == {"delivery"}
    assert made.plugin.takes_everything
