"""A refusal is spoken at its phase or at the later one that reject_at names, once for each recipient."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost import Address, Decision, defer, deny, hookimpl
from gatepost.replies import Reply
from tests.core.conversation.clients import connected, dialogue
from tests.policy import Client, instance, saying


@pytest.mark.parametrize(
    ("answer", "start"),
    [
        (deny("go away"), "554 5.7.1 go away ["),
        (defer("busy"), "421 4.7.0 busy ["),
        (ValueError("x"), "421 4.3.0 local error"),
    ],
)
async def test_a_refusal_at_connect_is_spoken_instead_of_the_banner_and_closes(answer: Any, start: str) -> None:
    client = await connected(saying("connect", answer))
    assert client.banner.wire.decode().startswith(start)
    assert client.banner.close


async def refusals(client: Client) -> tuple[list[int], Reply]:
    """The codes of EHLO, MAIL and RCPT, and the last reply."""
    replies = [await client.ehlo(), await client.mail(), await client.rcpt()]
    return [client.banner.code, *(reply.code for reply in replies)], replies[-1]


@pytest.mark.parametrize("phase", ["helo", "mail"])
@pytest.mark.parametrize(
    ("answer", "start"),
    [
        (deny("no", code=554, status="5.7.9"), "550 5.7.9 no ["),
        (defer("x"), "450 4.7.1 x ["),
        (ValueError(), "451 4.3.0 local"),
    ],
)
async def test_a_refusal_at_helo_or_mail_is_spoken_at_rcpt(phase: str, answer: Any, start: str) -> None:
    client = await connected(instance(saying(phase, answer), "refuses"))
    codes, reply = await refusals(client)
    assert codes[:3] == [220, 250, 250]
    assert reply.wire.decode().startswith(start)
    assert not reply.close
    record = client.policy.events.records[-1]
    assert (record.phase, record.plugin, record.sender, record.recipients) == (
        phase,
        "refuses",
        "a@example.com",
        ("b@example.org",),
    )
    assert reply.lines()[-1].endswith(f"[{record.id}]")


@pytest.mark.parametrize("phase", ["helo", "mail"])
async def test_a_refusal_that_was_delayed_stands_once_in_each_record(phase: str) -> None:
    client = await connected(instance(saying(phase, deny("no")), "refuses"))
    await dialogue(client, "EHLO x", "MAIL FROM:<>", "RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>")
    records = client.policy.events.records
    assert [record.recipients for record in records] == [("b@example.org",), ("c@example.org",)]
    for record in records:
        (told,) = [ruling for ruling in record.rulings if ruling.phase == phase]
        assert (told.id, str(told.recipient), told.spoken_at) == (record.id, record.recipients[0], "rcpt")


SPOKEN = {"connect": 0, "helo": 1, "mail": 2, "rcpt": 3}


@pytest.mark.parametrize("phase", ["connect", "helo", "mail"])
@pytest.mark.parametrize("reject_at", [None, "connect", "helo", "mail", "rcpt"])
async def test_reject_at_says_when_a_refusal_is_spoken(phase: str, reject_at: str | None) -> None:
    client = await connected(instance(saying(phase, deny("no")), reject_at=reject_at))
    spoken = max(SPOKEN[reject_at or ("connect" if phase == "connect" else "rcpt")], SPOKEN[phase])
    replies = [client.banner, await client.ehlo(), await client.mail()]
    if spoken <= 2:
        assert [reply.code < 400 for reply in replies[: spoken + 1]] == [True] * spoken + [False]
    else:
        assert all(reply.code < 400 for reply in replies)
        assert (await client.rcpt()).code == 550
    if spoken == 2:
        assert client.session.envelope is None
        assert (await client.mail()).code == 550


async def test_a_refusal_at_helo_that_is_spoken_there_makes_mail_503_until_a_helo_is_accepted() -> None:
    class ByName:
        @hookimpl
        def helo(self, hostname: str) -> Decision | None:
            return deny("bad name") if hostname == "bad" else None

    client = await connected(instance(ByName(), reject_at="helo"))
    assert await dialogue(client, "EHLO bad", "MAIL FROM:<>", "EHLO good", "MAIL FROM:<>") == [550, 503, 250, 250]
    assert await dialogue(client, "EHLO bad", "MAIL FROM:<>", "RCPT TO:<b@example.org>") == [550, 503, 503]


@pytest.mark.parametrize(
    ("helo", "mail", "start"),
    [
        (deny("helo"), deny("mail"), "550 5.7.1 helo"),
        (defer("helo"), deny("mail"), "550 5.7.1 mail"),
        (defer("helo"), defer("mail"), "450 4.7.1 helo"),
        (deny("helo"), defer("mail"), "550 5.7.1 helo"),
        (ValueError(), deny("mail"), "550 5.7.1 mail"),
    ],
)
async def test_the_first_permanent_refusal_wins_else_the_first_temporary_one(helo: Any, mail: Any, start: str) -> None:
    client = await connected(saying("helo", helo), saying("mail", mail))
    _, reply = await refusals(client)
    assert reply.wire.decode().startswith(start)


async def test_a_new_helo_clears_the_refusals_of_helo_and_a_new_mail_those_of_mail() -> None:
    class ByName:
        @hookimpl
        def helo(self, hostname: str) -> Decision | None:
            return deny("bad name") if hostname == "bad" else None

        @hookimpl
        def mail(self, sender: Address) -> Decision | None:
            return deny("bad sender") if sender.local == "bad" else None

    client = await connected(ByName())
    texts = []
    for helo, sender in [("bad", "bad"), ("bad", "good"), ("good", "bad"), ("good", "good")]:
        await client.ehlo(helo)
        await client.mail(f"{sender}@example.com")
        texts.append((await client.rcpt()).text)
    assert [str(text).partition(" [")[0] for text in texts] == ["bad name", "bad name", "bad sender", "recipient OK"]
    await client.say("RSET")
    await client.mail("bad@example.com")
    assert (await client.rcpt()).code == 550
    await client.say("RSET")
    await client.mail("good@example.com")
    assert (await client.rcpt()).code == 250


async def test_who_may_relay_is_free_of_delayed_refusals() -> None:
    client = await connected(saying("helo", deny("no")), instance(saying("connect", deny("no")), "c", reject_at="rcpt"))
    await client.ehlo()
    client.session._may_relay = True
    await client.mail()
    assert (await client.rcpt()).code == 250


@pytest.mark.parametrize("phase", ["helo", "mail"])
@pytest.mark.parametrize(("answer", "code"), [(deny("no", disconnect=True), 550), (defer("x", disconnect=True), 421)])
async def test_a_refusal_that_disconnects_is_never_delayed(phase: str, answer: Decision, code: int) -> None:
    client = await connected(saying(phase, answer))
    replies = [await client.ehlo(), await client.mail()]
    reply = replies[0 if phase == "helo" else 1]
    assert (reply.code, reply.close) == (code, True)
