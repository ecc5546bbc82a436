"""A transaction takes a recipient only when a plugin vouches, judges the message once, and ends with it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatepost import Address, Decision, Session, accept, defer, deny, hookimpl, points
from gatepost.conversation.transaction import Transaction
from gatepost.errors import SpoolError
from gatepost.gate.score import Score
from gatepost.replies import (
    NEED_MAIL,
    NEED_RCPT,
    NEEDS_SMTPUTF8,
    NESTED_MAIL,
    RECIPIENT_OK,
    SENDER_OK,
    START_DATA,
    TOO_BIG,
    UNKNOWN_PARAMETER,
)
from tests.core.conversation.clients import Notes, connected, dialogue
from tests.policy import MESSAGE, Policy, delivering, instance, saying, vouching


@pytest.mark.parametrize(("phase", "how"), [("message", "cancels"), ("message", "closes"), ("headers", "closes")])
async def test_a_plugin_that_breaks_the_task_of_a_message_leaves_its_client_an_answer(phase: str, how: str) -> None:
    async def breaking(self: Any) -> None:
        if how == "closes":
            raise GeneratorExit
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    client = await connected(type("Breaking", (), {phase: hookimpl(breaking)})())
    assert (await client.transaction()).code == 451
    assert (await client.transaction()).code == 451
    await client.close()


# Parameters (RFC 1870, 6152, 6531, 4954).


@pytest.mark.parametrize(
    ("parameters", "start"),
    [
        ("", "250 2.1.0"),
        ("SIZE=1000", "250"),
        ("size=0", "250"),
        ("SIZE=1001", "552 5.3.4"),
        ("SIZE=99999999999999999999", "552 5.3.4"),
        ("SIZE=999999999999999999999", "501 5.5.4"),
        ("SIZE", "501 5.5.4"),
        ("SIZE=", "501 5.5.4"),
        ("SIZE=-1", "501 5.5.4"),
        ("SIZE=12x", "501 5.5.4"),
        ("SIZE=1 SIZE=2", "501 5.5.4"),
        ("BODY=7BIT", "250"),
        ("BODY=8bitmime", "250"),
        ("BODY=BINARYMIME", "501 5.5.4"),
        ("BODY", "501 5.5.4"),
        ("SMTPUTF8", "250"),
        ("SMTPUTF8=yes", "501 5.5.4"),
        ("AUTH=<>", "250"),
        ("AUTH=e+3Dmc2@example.com", "250"),
        ("AUTH", "250"),
        ("AUTH=", "250"),
        ("AUTH= SIZE=10", "250"),
        ("BODY=", "501 5.5.4"),
        ("SMTPUTF8=", "501 5.5.4"),
        ("RET=", "555 5.5.4"),
        ("SIZE=10 BODY=8BITMIME SMTPUTF8 AUTH=<>", "250"),
        ("RET=HDRS", "555 5.5.4"),
        ("ENVID=x", "555 5.5.4"),
        ("REQUIRETLS", "555 5.5.4"),
        ("XYZ=1", "555 5.5.4"),
        ("=", "501 5.5.4"),
    ],
)
async def test_parameters_of_mail(parameters: str, start: str) -> None:
    client = await connected(limits={"max_size": 1000})
    await client.ehlo()
    reply = await client.mail(parameters=parameters)
    assert reply.wire.decode().startswith(start)
    assert (client.session.envelope is None) == (reply.code >= 400)


async def test_the_envelope_holds_what_the_parameters_said() -> None:
    client = await connected()
    await client.ehlo()
    await client.mail(parameters="size=1234 body=8BitMime smtputf8 auth=<>")
    envelope = client.session.envelope
    assert envelope is not None
    assert (envelope.size, envelope.body, envelope.smtputf8) == (1234, "8BITMIME", True)
    assert dict(envelope.parameters) == {"SIZE": "1234", "BODY": "8BitMime", "SMTPUTF8": None, "AUTH": "<>"}


@pytest.mark.parametrize("parameter", ["NOTIFY=NEVER", "ORCPT=rfc822;b@example.org", "XYZ", "SIZE=1"])
async def test_parameters_of_rcpt_are_unknown(parameter: str) -> None:
    client = await connected()
    await client.ehlo()
    await client.mail()
    assert (await client.say(f"RCPT TO:<b@example.org> {parameter}")).wire.startswith(b"555 5.5.4")
    assert (await client.rcpt()).code == 250


async def test_each_recipient_over_the_limit_is_452_and_the_rest_stands() -> None:
    client = await connected(limits={"recipients": 2})
    await client.ehlo()
    await client.mail()
    replies = [await client.rcpt(f"user{number}@example.org") for number in range(4)]
    assert [(reply.code, reply.status) for reply in replies] == [(250, "2.1.5")] * 2 + [(452, "4.5.3")] * 2
    assert (await client.data()).code == 250


async def test_a_spool_without_room_is_452_at_data_and_the_client_may_go_on() -> None:
    client = await connected()
    spool = client.policy.runtime.spool
    spool.budget = 0
    await client.ehlo()
    await client.mail()
    await client.rcpt()
    assert (await client.say("DATA")).wire.startswith(b"452 4.3.1")
    spool.budget = 1 << 28
    assert (await client.data()).code == 250
    assert spool.in_memory == 0


# Pardons.


@pytest.mark.parametrize("recipient", ["postmaster", "Postmaster@example.org", "POSTMASTER@other.example.org"])
async def test_postmaster_is_pardoned_for_itself_only(recipient: str) -> None:
    client = await connected(
        saying("helo", deny("helo")), saying("mail", deny("mail")), saying("rcpt", points(9, "x")), score=Score(None, 3)
    )
    await client.ehlo()
    await client.mail()
    assert (await client.rcpt()).code == 550
    assert (await client.rcpt(recipient)).code == 250
    assert (await client.rcpt()).code == 550
    assert (await client.data()).code == 250


async def test_other_plugins_are_still_asked_at_rcpt_for_postmaster() -> None:
    client = await connected(saying("helo", deny("helo")), saying("rcpt", defer("greylisted")))
    await client.ehlo()
    await client.mail()
    assert (await client.rcpt("postmaster")).wire.startswith(b"450 4.7.1 greylisted")


async def test_the_score_of_a_message_is_ruled_unless_all_its_recipients_are_pardoned() -> None:
    for recipients, code in [(["postmaster"], 250), (["postmaster", "b@example.org"], 550)]:
        client = await connected(saying("message", points(9, "x")), score=Score(None, 3))
        await client.ehlo()
        await client.mail()
        for recipient in recipients:
            await client.rcpt(recipient)
        assert (await client.data()).code == code


# Vouching.


async def recipient_reply(*plugins: Any) -> str:
    client = await Policy(*plugins, delivering()).connect()
    await client.ehlo()
    await client.mail()
    return (await client.rcpt()).wire.decode()


async def test_250_means_that_somebody_vouched_and_nobody_refused() -> None:
    assert (await recipient_reply()).startswith("450 4.7.1 nobody here answers for this recipient [")
    assert (await recipient_reply(saying("rcpt", None))).startswith("450 4.7.1")
    assert (await recipient_reply(vouching())).startswith("250")
    assert (await recipient_reply(vouching(), saying("rcpt", deny("no")))).startswith("550")
    assert (await recipient_reply(saying("rcpt", deny("no")), vouching())).startswith("550")
    assert (await recipient_reply(vouching(), vouching(), saying("rcpt", None))).startswith("250")


async def test_trust_and_the_right_to_relay_do_not_vouch() -> None:
    client = await Policy(saying("rcpt", None), delivering()).connect()
    client.session.trust("network")
    await client.ehlo()
    await client.mail()
    assert (await client.rcpt()).code == 450
    assert (await client.say("DATA")).code == 503


async def test_a_recipient_that_is_given_twice_is_one() -> None:
    client = await connected()
    await client.ehlo()
    await client.mail()
    assert [(await client.rcpt(name)).code for name in ("b@example.org", "b@EXAMPLE.org", "B@example.org")] == [250] * 3
    assert client.session.envelope is not None
    assert [str(recipient) for recipient in client.session.envelope.recipients] == ["b@example.org", "B@example.org"]


# The message.


@pytest.mark.parametrize(
    ("answer", "start"),
    [(deny("spam"), "550 5.7.1 spam ["), (defer("x"), "451 4.7.1 x ["), (ValueError(), "451 4.3.0 local")],
)
async def test_a_refusal_at_headers_is_kept_and_spoken_at_the_final_dot(answer: Any, start: str) -> None:
    asked = Notes()
    client = await connected(saying("headers", answer), saying("message", deny("not reached")), asked)
    await client.ehlo()
    await client.mail()
    await client.rcpt()
    assert (await client.say("DATA")).code == 354
    rehearsal = client.rehearsal
    assert await rehearsal.feed(b"Subject: x\r\n\r\nbody") == b""
    await rehearsal.feed(b"y" * 100_000)
    assert client.policy.runtime.spool.in_memory == 0
    assert await rehearsal.feed(b"\r\n.\r\n") == b""
    reply = await rehearsal.conversation.end_of_data()
    await rehearsal.conversation.transaction.finish_message()
    assert reply.wire.decode().startswith(start)
    assert not reply.close
    assert asked.log == ["reset a@example.com"]


async def test_headers_are_asked_once_and_before_the_body() -> None:
    sizes: list[tuple[int, str | None]] = []

    class Looks:
        @hookimpl
        def headers(self, message: Any) -> None:
            sizes.append((message.size, message.headers.get("subject")))

    client = await connected(Looks())
    await client.ehlo()
    await client.mail()
    await client.rcpt()
    await client.say("DATA")
    for block in (b"Subject: x\r\n", b"\r\n", b"body\r\n", b"more\r\n", b".\r\n"):
        await client.rehearsal.feed(block)
    assert (await client.rehearsal.conversation.end_of_data()).code == 250
    assert sizes == [(len(b"Subject: x\r\n\r\nbody"), "x")]


async def test_what_smuggles_closes_the_connection_although_its_headers_were_refused() -> None:
    client = await connected(saying("headers", deny("spam")), line_ends="reject")
    reply = await client.transaction(content=b"Subject: x\r\n\r\n" + b"body\r\n" * 50_000 + b"\n.\nMAIL FROM:<>\r\n")
    assert (reply.code, reply.status, reply.close) == (550, "5.6.0", True)


@pytest.mark.parametrize("content", [b"Subject: x\r\n\r\n" + b"x" * 2000, b"a: b\r\n" * 500])
async def test_a_message_over_a_limit_is_refused_with_the_id_of_its_record(content: bytes) -> None:
    client = await connected(saying("message", deny("not reached")), limits={"max_size": 1000})
    reply = await client.transaction(content=content)
    record = client.policy.events.records[-1]
    assert (reply.code, record.event, record.plugin) == (552, "refused", "gatepost")
    assert record.size >= 1000
    assert reply.lines()[-1].endswith(f"[{record.id}]")
    assert client.policy.runtime.spool.in_memory == 0
    assert (await client.transaction(content=content)).lines() != reply.lines()


@pytest.mark.parametrize(
    ("phase", "answer"), [("data", deny("no")), ("message", deny("no")), ("queue", deny("no")), ("queue", None)]
)
async def test_a_transaction_ends_with_its_refusal_and_the_next_one_is_free(phase: str, answer: Any) -> None:
    notes = Notes()
    client = await Policy(saying(phase, answer), vouching(), notes).connect()
    reply = await client.transaction()
    assert reply.code >= 400
    assert notes.log == ["reset a@example.com"]
    assert client.session.envelope is None
    assert client.policy.runtime.spool.in_memory == 0
    assert await dialogue(client, "DATA", "MAIL FROM:<>") == [503, 250]


# The end of things.


async def test_queued_fires_after_the_reply_with_the_content_still_there() -> None:
    notes = Notes()
    client = await connected(notes)
    await client.ehlo()
    await client.mail()
    await client.rcpt()
    await client.say("DATA")
    await client.rehearsal.feed(MESSAGE + b".\r\n")
    conversation = client.rehearsal.conversation
    reply = await conversation.end_of_data()
    for _ in range(10):
        await asyncio.sleep(0)
    assert reply.code == 250
    assert notes.log == []
    conversation.after_reply()
    await conversation.transaction.finish_message()
    assert notes.log == [f"queued {len(MESSAGE)} True delivering", "reset a@example.com"]


async def test_stopping_waits_for_a_hand_over_and_what_follows_it_also_when_nobody_reads_the_reply() -> None:
    class Slow:
        grants = "delivery"

        def __init__(self) -> None:
            self.go_on = asyncio.Event()

        @hookimpl
        async def queue(self) -> Decision:
            await self.go_on.wait()
            return accept("taken")

    notes, slow = Notes(), Slow()
    client = await Policy(vouching(), instance(slow, "slow"), notes).connect()
    await client.ehlo()
    await client.mail()
    await client.rcpt()
    await client.say("DATA")
    await client.rehearsal.feed(MESSAGE + b".\r\n")
    conversation = client.rehearsal.conversation
    work = asyncio.ensure_future(conversation.end_of_data())
    await asyncio.sleep(0.001)
    assert conversation.delivering and client.policy.runtime.is_busy
    slow.go_on.set()
    await work
    assert notes.log == []
    assert conversation.delivering and client.policy.runtime.is_busy
    await conversation.close()
    assert notes.log == [f"queued {len(MESSAGE)} True slow", "reset a@example.com", "disconnect"]
    assert [record.event for record in client.policy.events.records] == ["accepted", "disconnected"]
    assert not client.policy.runtime.is_busy
    assert client.policy.runtime.spool.in_memory == 0


@pytest.mark.patches
async def test_a_fault_of_ours_is_451_with_an_id_and_not_a_word_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*arguments: object) -> None:
        raise RuntimeError("secret")

    notes = Notes()
    client = await connected(notes)
    monkeypatch.setattr("gatepost.conversation.transaction.hand_over", fail)
    reply = await client.transaction()
    (event,) = client.policy.events.named("internal_error")
    assert reply.wire.decode() == f"451 4.3.0 local error, try again later [{event['id']}]\r\n"
    assert event["error"] == "RuntimeError('secret')"
    assert notes.log == ["reset a@example.com"]
    monkeypatch.undo()
    assert (await client.transaction()).code == 250


async def test_a_plugin_whose_reset_cancels_the_session_leaves_no_transaction_open() -> None:
    class Cancelling:
        @hookimpl
        async def reset(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)

    client = await connected(Cancelling())
    assert [(await client.transaction()).code for _ in range(2)] == [250, 250]
    assert client.session.envelope is None
    assert client.policy.runtime.spool.in_memory == 0


# Without command lines: as doors for other protocols drive it.

SENDER, RECIPIENT = Address("a", "example.com"), Address("b", "example.org")


@pytest.mark.patches
async def test_a_spool_that_cannot_be_read_at_the_handover_is_451_and_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*arguments: object) -> None:
        raise SpoolError("cannot read the message: Input/output error")

    notes = Notes()
    client = await connected(notes)
    monkeypatch.setattr("gatepost.conversation.taken.Taken.recall", fail)
    reply = await client.transaction()
    assert reply.wire.startswith(b"451 4.3.0 local error, try again later [")
    (event,) = client.policy.events.named("hand_over_failed")
    assert event["error"] == "cannot read the message: Input/output error"
    assert not any(line.startswith("queued") for line in notes.log)


def transaction_of(*plugins: Any, **how: Any) -> tuple[Policy, Session, Transaction]:
    """A transaction of a policy that vouches for every recipient and takes every message, and its session."""
    policy = Policy(*plugins, instance(vouching(), "vouching"), instance(delivering(), "delivering"), **how)
    session = Session("192.0.2.1", runtime=policy.runtime, door=NoDoor())
    return policy, session, Transaction(policy.gate, policy.runtime, session)


class NoDoor:
    """Stands for a door at which no plugin waits for silence."""

    def silence(self, seconds: float) -> asyncio.Future[bool]:
        raise AssertionError("no plugin of these tests waits for silence")


async def feed(transaction: Transaction, octets: bytes) -> bytes | None:
    """Feed ``octets`` of DATA; what follows the end of data."""
    assert transaction.reader is not None
    rest = transaction.reader.feed(octets)
    if transaction.reader.headers_done:
        await transaction.headers()
    return rest


async def test_typed_calls_bring_a_message_to_its_next_hop() -> None:
    notes = Notes()
    policy, session, transaction = transaction_of(notes)
    assert await transaction.mail(SENDER, {"SIZE": "100", "BODY": "8BITMIME"}) is SENDER_OK
    assert session.envelope is not None
    assert (session.envelope.size, session.envelope.body) == (100, "8BITMIME")
    assert await transaction.rcpt(RECIPIENT, {}) is RECIPIENT_OK
    assert await transaction.data() is START_DATA
    assert await feed(transaction, b"Subject: x\r\n\r\nbo") is None
    assert session.envelope.message is not None
    assert session.envelope.message.headers.get("subject") == "x"
    assert await feed(transaction, b"dy\r\n.\r\nmore") == b"more"
    reply = await transaction.end_of_data()
    assert (reply.code, transaction.reader) == (250, None)
    assert notes.log == [] and policy.runtime.is_busy
    await transaction.finish_message()
    assert notes.log == ["queued 20 True delivering", "reset a@example.com"]
    assert session.envelope is None and not policy.runtime.is_busy
    assert [record.event for record in policy.events.records] == ["accepted"]


async def test_typed_calls_out_of_order_get_503_and_change_nothing() -> None:
    _, session, transaction = transaction_of()
    assert await transaction.rcpt(RECIPIENT, {}) is NEED_MAIL
    assert await transaction.data() is NEED_MAIL
    await transaction.headers()
    await transaction.finish_message()
    await transaction.reset()
    await transaction.mail(SENDER, {})
    envelope = session.envelope
    assert await transaction.mail(RECIPIENT, {}) is NESTED_MAIL
    assert await transaction.data() is NEED_RCPT
    assert session.envelope is envelope


async def test_the_parameters_of_typed_calls_are_checked() -> None:
    _, session, transaction = transaction_of(limits={"max_size": 1000})
    assert await transaction.mail(SENDER, {"SIZE": "1001"}) is TOO_BIG
    assert await transaction.mail(SENDER, {"RET": "HDRS"}) is UNKNOWN_PARAMETER
    assert await transaction.mail(Address("grüße", "example.com"), {}) is NEEDS_SMTPUTF8
    assert session.envelope is None
    await transaction.mail(SENDER, {})
    assert await transaction.rcpt(RECIPIENT, {"NOTIFY": "NEVER"}) is UNKNOWN_PARAMETER
    assert await transaction.rcpt(Address("grüße", "example.org"), {}) is NEEDS_SMTPUTF8
    assert session.envelope is not None and session.envelope.recipients == ()


async def test_a_refusal_of_a_plugin_bears_the_id_of_its_record_and_one_of_the_core_has_none() -> None:
    policy, _, transaction = transaction_of(saying("rcpt", deny("no such user")))
    assert (await transaction.rcpt(RECIPIENT, {})).id == ""
    await transaction.mail(SENDER, {})
    reply = await transaction.rcpt(RECIPIENT, {})
    (record,) = policy.events.records
    assert reply.id == record.id != ""
    assert reply.lines() == [f"no such user [{record.id}]"]


@pytest.mark.parametrize("octets", [b"", b"Subject: x\r\n", b"Subject: x\r\n\r\nbody"])
async def test_a_reset_while_a_message_is_received_gives_back_what_was_kept(octets: bytes) -> None:
    notes = Notes()
    policy, session, transaction = transaction_of(notes)
    await transaction.mail(SENDER, {})
    await transaction.rcpt(RECIPIENT, {})
    await transaction.data()
    await feed(transaction, octets)
    await transaction.reset()
    assert (session.envelope, transaction.reader, policy.runtime.spool.in_memory) == (None, None, 0)
    assert notes.log == ["reset a@example.com"]
    assert await transaction.mail(SENDER, {}) is SENDER_OK
