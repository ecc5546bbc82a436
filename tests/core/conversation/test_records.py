"""Every refusal leaves a record, also one that no plugin was asked for, and every session says how it ended."""

from __future__ import annotations

import pytest

from gatepost import Address, Decision, accept, defer, deny, hookimpl, points
from gatepost.replies import IDLE
from tests.core.conversation.clients import connected, dialogue
from tests.policy import MESSAGE, Policy, delivering, instance, saying, vouching


async def test_the_record_of_a_refused_recipient_names_that_one_alone() -> None:
    class Picky:
        @hookimpl
        def rcpt(self, recipient: Address) -> Decision | None:
            return defer("later") if recipient.local == "c" else None

    client = await connected(Picky())
    await dialogue(client, "EHLO x", "MAIL FROM:<>", "RCPT TO:<a@example.org>", "RCPT TO:<c@example.org>")
    (record,) = client.policy.events.records
    assert record.recipients == ("c@example.org",)


async def test_the_record_of_a_message_names_it_all() -> None:
    client = await connected(instance(saying("mail", points(1, "odd")), "odd"))
    reply = await client.transaction()
    record = client.policy.events.records[-1]
    assert (record.event, record.plugin, record.phase, record.size) == ("accepted", "delivering", "queue", len(MESSAGE))
    assert f"queued as {record.id}: taken" in reply.lines()[0]
    assert record.reply == f"250 2.0.0 queued as {record.id}: taken"
    assert [ruling.phase for ruling in record.rulings] == ["connect", "mail", "rcpt", "queue"]


@pytest.mark.parametrize(
    ("answer", "content", "code"),
    [(accept("taken"), MESSAGE, 250), (defer("later"), MESSAGE, 451), (accept("taken"), MESSAGE + b"x" * 5000, 552)],
    ids=["accepted", "refused", "refused_data"],
)
async def test_a_record_holds_at_most_ten_recipients_and_a_count(answer: Decision, content: bytes, code: int) -> None:
    client = await connected(saying("queue", answer, grants="delivery"), limits={"max_size": 5000})
    await dialogue(client, "EHLO x", "MAIL FROM:<>", *[f"RCPT TO:<b{number}@example.org>" for number in range(1000)])
    assert (await client.data(content)).code == code
    (record,) = client.policy.events.records
    assert record.recipients == tuple(f"b{number}@example.org" for number in range(10))
    assert record.facts()["recipient_count"] == record.recipient_count == 1000


async def test_without_anybody_who_keeps_records_the_same_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    client = await connected(saying("mail", deny("no")))
    monkeypatch.setattr(client.policy.events, "keeps", lambda event: False)
    assert (await client.transaction()).wire.startswith(b"550 5.7.1 no [")
    assert await dialogue(client, "NONSENSE") == [500]
    await client.close()
    assert client.policy.events.records == []


async def test_rulings_of_one_transaction_do_not_show_in_the_record_of_the_next() -> None:
    client = await connected()
    await client.transaction()
    await client.transaction("c@example.com")
    record = client.policy.events.records[-1]
    assert [ruling.phase for ruling in record.rulings] == ["connect", "rcpt", "queue"]
    assert record.sender == "c@example.com"


@pytest.mark.parametrize(
    ("line", "phase", "reply"),
    [
        ("MAIL FROM:<a@example.com> SIZE=99999999999", "mail", "552 5.3.4"),
        ("MAIL FROM:<a@example.com> FOO=bar", "mail", "555 5.5.4"),
        ("RCPT TO:<b@example.org>", "rcpt", "503 5.5.1"),
        ("DATA", "data", "503 5.5.1"),
        ("EXPN list", "unknown_command", "502 5.5.1"),
        ("NONSENSE", "unknown_command", "500 5.5.1"),
        ("GET / HTTP/1.1", "unknown_command", "421 4.7.0"),
    ],
)
async def test_a_refusal_by_a_rule_of_the_wire_is_recorded(line: str, phase: str, reply: str) -> None:
    policy = Policy(vouching(), delivering())
    client = await policy.connect()
    await client.ehlo()
    await client.say(line)
    (record,) = policy.events.records
    assert (record.event, record.plugin, record.phase) == ("refused", "gatepost", phase)
    assert record.reply.startswith(reply)


async def test_a_refusal_by_a_plugin_is_recorded_once() -> None:
    class Busy:
        @hookimpl
        def rcpt(self) -> object:
            return defer("busy")

    policy = Policy(instance(Busy(), "busy"), vouching(), delivering())
    client = await policy.connect()
    await client.transaction()
    (record,) = policy.events.records
    assert record.plugin == "busy"


async def test_the_end_of_a_session_says_why_the_door_ended_it() -> None:
    policy = Policy(vouching(), delivering())
    client = await policy.connect()
    await client.rehearsal.conversation.close(IDLE)
    (record,) = policy.events.records
    assert (record.event, record.reply) == ("disconnected", "421 4.4.2 idle too long")
