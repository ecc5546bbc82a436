"""Refusals that only follow on another, to a client that did not wait: no record, and no sign of an address harvest."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost import Address, Decision, defer, deny, hookimpl
from tests.core.conversation.clients import connected, dialogue
from tests.policy import Client, instance, saying

RECIPIENT = "RCPT TO:<b@example.org>"


class Greylisting:
    """Asks everybody to come back, except for mail to ``c``."""

    @hookimpl
    def rcpt(self, recipient: Address) -> Decision | None:
        return None if recipient.local == "c" else defer("greylisted")


def outcomes(client: Client) -> list[str]:
    """The codes of all records."""
    return [record.reply[:3] for record in client.policy.events.records]


async def test_pipelined_data_behind_a_greylisted_rcpt_leaves_no_second_refusal() -> None:
    client = await connected(Greylisting())
    await dialogue(client, "EHLO x")
    assert await dialogue(client, "MAIL FROM:<>", RECIPIENT, "DATA") == [250, 450, 503]
    assert outcomes(client) == ["450"]


async def test_pipelined_data_behind_a_greylisted_rcpt_does_not_count_as_harvest() -> None:
    client = await connected(Greylisting(), limits={"refusals": 3, "noise_commands": 1000})
    await dialogue(client, "EHLO x")
    for _ in range(20):
        assert await dialogue(client, "MAIL FROM:<>", RECIPIENT, "DATA", "RSET") == [250, 450, 503, 250]
    assert not client.closed


@pytest.mark.parametrize("refusal", [defer("later"), deny("no")])
async def test_what_is_pipelined_behind_a_refused_mail_leaves_no_second_refusal(refusal: Decision) -> None:
    client = await connected(instance(saying("mail", refusal), reject_at="mail"), limits={"refusals": 1})
    await dialogue(client, "EHLO x")
    mail = 550 if refusal.permanent else 450
    assert await dialogue(client, "MAIL FROM:<>", RECIPIENT, RECIPIENT, "DATA") == [mail, 503, 503, 503]
    assert outcomes(client) == [str(mail)]


async def test_what_follows_a_mail_without_helo_or_with_a_wrong_size_leaves_no_second_refusal() -> None:
    client = await connected(limits={"refusals": 2})
    assert await dialogue(client, "MAIL FROM:<>", RECIPIENT, "DATA") == [503, 503, 503]
    await dialogue(client, "EHLO x")
    assert await dialogue(client, "MAIL FROM:<> SIZE=99999999999", RECIPIENT, "DATA") == [552, 503, 503]
    assert outcomes(client) == ["503", "552"]


@pytest.mark.parametrize(
    "lines",
    [
        ["DATA"],
        [RECIPIENT],
        ["MAIL FROM:<>", "DATA"],
        ["MAIL FROM:<>", RECIPIENT, "DATA", "DATA"],  # the first one followed
        ["MAIL FROM:<>", RECIPIENT, "RSET", RECIPIENT],
        ["MAIL FROM:<>", RECIPIENT, "RSET", "MAIL FROM:<>", "DATA"],
        ["MAIL FROM:<> FOO=bar", "RSET", "DATA"],
        ["MAIL FROM:<> FOO=bar", "EHLO x", "DATA"],
        ["MAIL FROM:<> FOO=bar", "MAIL FROM:<>", "DATA"],
    ],
)
async def test_what_follows_on_nothing_is_recorded_and_counts(lines: list[str]) -> None:
    client = await connected(Greylisting(), limits={"refusals": 1})
    await dialogue(client, "EHLO x")
    *_, last = await dialogue(client, *lines)
    assert last in {503, 421}
    assert outcomes(client)[-1] == str(last)
    assert await dialogue(client, "DATA") == [421]


async def over_the_limit(count: int, **limits: Any) -> tuple[Client, list[int]]:
    """A client that has named three recipients and ``count`` over the limit, and the replies to those."""
    client = await connected(limits={"recipients": 3, **limits})
    await dialogue(client, "EHLO x", "MAIL FROM:<>", *[f"RCPT TO:<b{number}@example.org>" for number in range(3)])
    return client, await dialogue(client, *[f"RCPT TO:<c{number}@example.org>" for number in range(count)])


async def test_of_many_recipients_over_the_limit_the_first_is_recorded() -> None:
    client, codes = await over_the_limit(4)
    assert codes == [452] * 4
    assert outcomes(client) == ["452"]
    assert (await client.data()).code == 250


async def test_repeated_452_close_the_session() -> None:
    client, codes = await over_the_limit(7, refusals=2)
    assert codes == [452] * 6 + [421]  # the first, as many as a message may have recipients, and two refusals
    assert client.closed
    assert len(client.policy.events.records) == 4


async def test_mail_that_is_accepted_begins_the_count_of_452_anew() -> None:
    client, _ = await over_the_limit(6, refusals=2)
    assert (await client.data()).code == 250
    await dialogue(client, "MAIL FROM:<>", *[f"RCPT TO:<b{number}@example.org>" for number in range(3)])
    assert await dialogue(client, *[RECIPIENT.replace("b@", f"c{number}@") for number in range(6)]) == [452] * 6


async def test_repeated_503_behind_a_refused_mail_close_the_session_too() -> None:
    client = await connected(limits={"recipients": 3, "refusals": 2})
    await dialogue(client, "EHLO x", "MAIL FROM:<> FOO=bar")
    assert await dialogue(client, *[RECIPIENT] * 5) == [503] * 4 + [421]
