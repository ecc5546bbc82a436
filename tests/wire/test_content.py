"""The content of a message, as real senders send it, when it has come through the door."""

from __future__ import annotations

import asyncio
import itertools
import re
import smtplib
from email.message import EmailMessage

import pytest

from gatepost import Message, hookimpl
from tests.door import Keeping, live
from tests.patience import PATIENCE
from tests.policy import Policy, vouching


async def kept(octets: bytes, border: int | None = None) -> bytes:
    """Send ``octets`` and CRLF.CRLF after 354, in two segments if there is a border, and return what was taken.

    It leaves below our Received field.
    """
    async with live(Policy(vouching(), keeping := Keeping())) as door:
        wire = await door.connect()
        assert (await wire.to_data()).startswith(b"354 ")
        if border is not None:
            wire.send(octets[:border])
            await door.received(border)
        wire.send(octets[border or 0 :] + b"\r\n.\r\n")
        assert (await wire.reply()).startswith(b"250 ")
        (content,), (sent,) = keeping.contents, keeping.sent
        assert re.fullmatch(rb"Received: from [^\r]*\r\n(\t[^\r]*\r\n){3}", sent.removesuffix(content))
        return content


# Lone CR and LF.


@pytest.mark.parametrize("border", [None, 43, 44, 45, 46, 47])
async def test_what_was_stuffed_behind_each_lf_loses_that_dot(border: int | None) -> None:
    sent = b"Subject: sent with LF, stuffed after each LF\n\n..button { color: red }\nend"
    assert await kept(sent, border) == (
        b"Subject: sent with LF, stuffed after each LF\r\n\r\n.button { color: red }\r\nend\r\n"
    )


@pytest.mark.parametrize("linesep", ["\n", "\r\n"])
async def test_smtplib_sends_dots_that_arrive_as_they_were(linesep: str) -> None:
    message = EmailMessage()
    message["Subject"] = "dots"
    message.set_content(".one {\n..two\n.\n...\nend\n")
    sent = message.as_bytes(policy=message.policy.clone(linesep=linesep))

    def send(port: int) -> None:
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example.com", timeout=PATIENCE) as client:
            client.sendmail("a@example.com", ["b@example.org"], sent)

    async with live(Policy(vouching(), keeping := Keeping())) as door:
        await asyncio.to_thread(send, door.port)
        (content,) = keeping.contents
        assert b"\r\n\r\n.one {\r\n..two\r\n.\r\n...\r\nend\r\n" in content


# Several CRs before LF.


@pytest.mark.parametrize("border", [None, *range(17, 25), 73, 74, 75])
async def test_lines_that_end_in_cr_cr_lf_stay_fields(border: int | None) -> None:
    sent = (
        b"From: a@example.com\r\r\nTo: b@example.org\r\r\nSubject: every line ends in\r\r\n CR CR LF\r\r\n\r\r\nbody\r"
    )
    assert await kept(sent, border) == (
        b"From: a@example.com\r\nTo: b@example.org\r\nSubject: every line ends in\r\n CR CR LF\r\n\r\nbody\r\n"
    )


# Header blocks that do not begin or end as they should.


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        (
            b"Paper jam in tray 2.\r\nCall 12:30: ask for Bob.",
            b"\r\nPaper jam in tray 2.\r\nCall 12:30: ask for Bob.\r\n",
        ),
        (
            b"Subject: no empty line\r\nThis is text already.\r\n..and so is this",
            b"Subject: no empty line\r\n\r\nThis is text already.\r\n.and so is this\r\n",
        ),
        (
            b"From a@example.com Tue Dec  1 10:00:00 2026\r\nFrom: a@example.com\r\nSubject: x\r\n\r\nbody",
            b"From: a@example.com\r\nSubject: x\r\n\r\nbody\r\n",
        ),
        (b" folded\r\nSubject: x", b"\r\n folded\r\nSubject: x\r\n"),
        (b"From: a@example.com", b"From: a@example.com\r\n"),
    ],
    ids=["text only", "fields and then text", "an mbox line first", "a folded line first", "fields only"],
)
@pytest.mark.parametrize("border", [None, 1, 5, 20, 22, 24, 26])
async def test_text_is_body_and_fields_are_header(sent: bytes, arrives: bytes, border: int | None) -> None:
    assert await kept(sent, min(border, len(sent)) if border else None) == arrives


# Our trace fields.


class Looking:
    """Notes how a message would leave when ``headers`` and ``message`` are asked, and adds a field in each."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    @hookimpl
    def headers(self, message: Message) -> None:
        self.seen.append(b"".join(message.blocks()))
        message.prepend("X-Headers", "1")

    @hookimpl
    def message(self, message: Message) -> None:
        self.seen.append(b"".join(message.blocks()))
        message.prepend("X-Message", "2")


@pytest.mark.parametrize("border", [None, 75, 90])
async def test_a_message_is_asked_about_when_our_received_stands_above_a_forged_one(border: int | None) -> None:
    forged = b"Received: from localhost ([127.0.0.1]) by mx.example.org; Tue, 1 Dec 2026 10:00:00 +0000\r\n"
    sent = b"Authentication-Results: mx.example.org; spf=pass\r\nSubject: x\r\n\r\nbody\r\n"
    async with live(Policy(vouching(), looking := Looking(), keeping := Keeping())) as door:
        wire = await door.connect()
        await wire.to_data()
        wire.send(forged + sent[:border])
        await door.received(len(forged) + len(sent[:border]) if border else 0)
        wire.send(sent[border or len(sent) :] + b".\r\n")
        assert (await wire.reply()).startswith(b"250 ")
    at_message = looking.seen[1]
    ours, _, rest = at_message.partition(b"\r\n" + forged)
    assert ours.startswith(b"X-Headers: 1\r\nReceived: from client.example.com (unknown [127.0.0.1])\r\n")
    assert ours.count(b"Received:") == 1
    assert rest == b"Subject: x\r\n\r\nbody\r\n"
    assert at_message.startswith(b"X-Headers: 1\r\n" + looking.seen[0])
    assert keeping.sent == [b"X-Message: 2\r\n" + at_message]


# A header that is made to be slow.


class Reading:
    """Reads every field, as a filter may."""

    @hookimpl
    def headers(self, message: Message) -> None:
        self.values = [value for _, value in message.headers]


async def test_a_header_of_slow_encoded_words_holds_up_nobody() -> None:
    words = b"".join(b"Authentication-Results: =?punycode?q?" + b"A" * 900 + b"?=\r\n" for _ in range(950))
    async with live(Policy(vouching(), reading := Reading(), keeping := Keeping())) as door:
        wire, other = await door.connect(), await door.hello()
        await wire.to_data()
        wire.send(words + b"Subject: s\r\n\r\nx\r\n.\r\n")
        assert (await wire.reply()).startswith(b"250 ")
        assert (await other.say(b"NOOP")).startswith(b"250 ")
        assert not door.policy.events.named("stall")
    assert reading.values[1:] == ["s"]  # behind our Received field; whose the results are is hidden, so they go
    assert keeping.contents == [words + b"Subject: s\r\n\r\nx\r\n"]


@pytest.mark.patches
async def test_a_stall_of_the_core_is_logged_as_one_of_a_plugin_is(monkeypatch: pytest.MonkeyPatch) -> None:
    times = itertools.count(0.0, 0.3)
    monkeypatch.setattr("gatepost.doors.smtp._now", lambda: next(times))
    async with live(Policy(vouching(), Keeping())) as door:
        wire = await door.hello()
        session = door.client.conversation.session.id
        await wire.envelope()
        assert (await wire.message(b"Subject: x\r\n\r\nbody\r\n")).startswith(b"250 ")
        (facts,) = door.policy.events.named("stall")
    assert facts == {"plugin": "gatepost", "phase": "data", "session": session, "seconds": 0.6}
