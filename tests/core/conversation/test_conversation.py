"""The dialogue keeps the syntax, the order and the limits of commands, and knows who talks before its turn."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost import Session, accept, defer, deny, hookimpl
from tests.core.conversation.clients import Notes, connected, dialogue
from tests.policy import MESSAGE, Client, Policy, saying

# The order of commands.


MAIL, RCPT = "MAIL FROM:<>", "RCPT TO:<b@example.org>"


@pytest.mark.parametrize(
    ("lines", "codes"),
    [
        (["MAIL FROM:<a@example.com>"], [503]),
        ([RCPT, "DATA"], [503, 503]),
        (["EHLO x", RCPT, MAIL], [250, 503, 250]),
        (["EHLO x", MAIL, "DATA", RCPT, "DATA"], [250, 250, 503, 250, 354]),
        (["HELO x", MAIL, "MAIL FROM:<a@example.com>", RCPT, "DATA", "."], [250, 250, 503, 250, 354, 250]),
        (["EHLO x", MAIL, RCPT, "NOOP", "VRFY b", "HELP", "DATA", "."], [250, 250, 250, 250, 252, 214, 354, 250]),
        (["EHLO x", MAIL, RCPT, "RSET", "DATA", MAIL], [250, 250, 250, 250, 503, 250]),
        (["EHLO x", MAIL, RCPT, "EHLO y", "DATA", MAIL], [250, 250, 250, 250, 503, 250]),
        (["EHLO x", MAIL, RCPT, "DATA", ".", RCPT, MAIL], [250, 250, 250, 354, 250, 503, 250]),
        (["RSET", "NOOP", "QUIT"], [250, 250, 221]),
    ],
)
async def test_commands_out_of_order_get_503_and_nothing_is_forgotten(lines: list[str], codes: list[int]) -> None:
    assert await dialogue(await connected(), *lines) == codes


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("HELO", "501 5.5.4"),
        ("EHLO   ", "501 5.5.4"),
        ("ehlo client.example.com  ", "250-mx.example.org\r\n"),
        ("HELO client.example.com", "250 mx.example.org\r\n"),
        ("EHLO [192.0.2.1]", "250-mx.example.org\r\n"),
        ("EHLO anything goes", "250-mx.example.org\r\n"),
        ("RSET now", "501 5.5.4"),
        ("DATA now", "501 5.5.4"),
        ("QUIT now", "501 5.5.4"),
        ("NOOP with a word", "250 2.0.0"),
        ("VRFY", "501 5.5.4"),
        ("VRFY postmaster", "252 2.1.5"),
        ("EXPN list", "502 5.5.1"),
        ("HELP", "214 2.0.0 HELO EHLO MAIL RCPT"),
        ("HELP MAIL", "214 2.0.0"),
        ("quit", "221 2.0.0"),
        ("", "500 5.5.1"),
        (" EHLO x", "500 5.5.1"),
        ("STARTTLS", "500 5.5.1"),
        ("XYZZY", "500 5.5.1"),
        ("NOOP\x00", "501 5.5.2"),
        ("EHLO a\x0bb", "501 5.5.2"),
        ("EHLO a\x7f", "501 5.5.2"),
        ("MAIL FROM:<a@example.com>\r", "501 5.5.2"),
    ],
)
async def test_each_command_has_its_reply(line: str, start: str) -> None:
    reply = await (await connected()).say(line)
    assert reply.wire.decode().startswith(start)


async def test_the_answer_to_ehlo_names_the_extensions_and_that_to_helo_none() -> None:
    client = await connected(limits={"max_size": 1000})
    assert (await client.ehlo()).lines()[1:] == [
        "PIPELINING",
        "SIZE 1000",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
    ]
    assert client.session.esmtp
    assert (await client.say("HELO other.example.com")).lines() == ["mx.example.org"]
    assert (client.session.helo, client.session.esmtp) == ("other.example.com", False)


async def test_a_plugin_may_change_the_banner_and_the_extensions() -> None:
    class Changes:
        @hookimpl
        def capabilities(self, keywords: list[str]) -> None:
            keywords.append("XTRA\r\n250 OK")

    client = await connected(Changes(), saying("greeting", "welcome\r\n220 evil"))
    assert client.banner.wire == b"220 welcome 220 evil\r\n"
    assert (await client.ehlo()).lines()[-1] == "XTRA 250 OK"


async def test_a_banner_that_fails_is_the_usual_one() -> None:
    assert (await connected(saying("greeting", ValueError("x")))).banner.wire == b"220 mx.example.org ESMTP\r\n"


@pytest.mark.parametrize(
    ("phase", "line", "answer", "start"),
    [
        ("vrfy", "VRFY b", accept("Bee <b@example.org>"), "250 2.0.0 Bee <b@example.org>"),
        ("vrfy", "VRFY b", deny("no such user"), "550 5.7.1 no such user ["),
        ("help", "HELP", accept("see our page"), "214 2.0.0 see our page"),
        ("noop", "NOOP", defer("too busy"), "450 4.7.1 too busy ["),
        ("unknown_command", "XYZZY 1", accept("nothing happens"), "250 2.0.0 nothing happens"),
        ("unknown_command", "XYZZY 1", deny("no magic"), "500 5.5.1 no magic ["),
        ("unknown_command", "XYZZY 1", ValueError("x"), "451 4.3.0 local error"),
        ("help", "HELP", None, "214 2.0.0 HELO"),
    ],
)
async def test_plugins_may_answer_the_simple_commands(phase: str, line: str, answer: Any, start: str) -> None:
    client = await connected(saying(phase, answer))
    assert (await client.say(line)).wire.decode().startswith(start)


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("MAIL FROM: <a@example.com>", "250"),
        ("mail from:<a@example.com>", "250"),
        ("MAIL FROM:<>", "250"),
        ("MAIL FROM:<@relay.example:a@example.com>", "250"),
        ("MAIL FROM:a@example.com", "250"),
        ("MAIL FROM:a@example.com SIZE=1", "250"),
        ("MAIL FROM:<a..b@example.com>", "250"),
        ("MAIL FROM:<a@example.com.>", "250"),
        ("MAIL FROM:<a@straße.example>", "553 5.6.7"),
        ("MAIL FROM:<a@straße.example> SMTPUTF8", "250"),
        ("MAIL FROM:a", "501 5.5.4"),
        ("MAIL FROM:<a@example.com", "501 5.5.4"),
        ("MAIL FROM:<a>", "501 5.5.4"),
        ("MAIL TO:<a@example.com>", "501 5.5.4"),
        ("MAIL", "501 5.5.4"),
    ],
)
async def test_paths_of_mail(line: str, start: str) -> None:
    client = await connected()
    await client.ehlo()
    assert (await client.say(line)).wire.decode().startswith(start)


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("RCPT TO:<b@example.org>", "250 2.1.5"),
        ("RCPT TO:<Postmaster>", "250"),
        ("RCPT TO:<>", "501 5.5.4"),
        ("RCPT FROM:<b@example.org>", "501 5.5.4"),
        ("RCPT TO:<b>", "501 5.5.4"),
    ],
)
async def test_paths_of_rcpt(line: str, start: str) -> None:
    client = await connected()
    await client.ehlo()
    await client.mail()
    assert (await client.say(line)).wire.decode().startswith(start)


@pytest.mark.parametrize(
    "address", ["grüße@example.com", "a@grüße.example", "a@straße.example", "ab\udcff@example.com"]
)
async def test_octets_beyond_ascii_in_an_envelope_need_smtputf8(address: str) -> None:
    client = await connected()
    await client.ehlo()
    octets = address.encode("utf-8", "surrogateescape")
    assert (await client.say(b"MAIL FROM:<" + octets + b">")).wire.startswith(b"553 5.6.7")
    await client.mail()
    assert (await client.say(b"RCPT TO:<" + octets + b">")).wire.startswith(b"553 5.6.7")


async def test_with_smtputf8_they_are_taken_and_what_cannot_be_read_is_501() -> None:
    client = await connected()
    await client.ehlo()
    assert (await client.say("MAIL FROM:<a@ｅxample.org> SMTPUTF8")).code == 501
    assert (await client.mail("grüße@grün.example", "SMTPUTF8")).code == 250
    assert (await client.rcpt("müller@example.org")).code == 250
    assert (await client.rcpt("müller@ｅxample.org")).code == 501


async def test_octets_that_are_no_utf_8_in_another_command_are_501() -> None:
    client = await connected()
    assert (await client.say(b"EHLO gr\xfc")).wire.startswith(b"501 5.5.2")


def test_the_limit_of_a_line_grows_with_the_extensions() -> None:
    conversation = Client(Policy(), "192.0.2.1").rehearsal.conversation
    assert conversation.line_limit(b"noop") == conversation.line_limit(b"RCPT") == 512
    assert conversation.line_limit(b"mail") == 1065
    assert conversation.line_limit(b"AUTH") == 12288
    assert conversation.line_too_long().wire == b"500 5.5.2 line too long\r\n"


# Limits.


@pytest.mark.parametrize(
    "line", ["GET / HTTP/1.1", "POST /x HTTP/1.0", "Host: mx.example.org", "User-Agent: x", "CONNECT mx:25", "put /"]
)
async def test_the_words_of_http_end_the_connection(line: str) -> None:
    reply = await (await connected()).say(line)
    assert (reply.code, reply.close) == (421, True)


@pytest.mark.parametrize("line", ["NOOP", "RSET", "HELO x", "EHLO x", "VRFY b"])
async def test_too_many_commands_without_mail_end_the_connection(line: str) -> None:
    client = await connected(limits={"noise_commands": 5})
    codes = await dialogue(client, *[line] * 6)
    assert codes[:5] == [codes[0]] * 5
    assert codes[0] < 400
    assert codes[5] == 421


async def test_an_accepted_message_begins_the_count_anew() -> None:
    client = await connected(limits={"noise_commands": 5, "refusals": 3})
    for _ in range(3):
        await client.ehlo()
        assert await dialogue(client, "NOOP", "NOOP", "RCPT TO:<b@example.org>", "VRFY", "NOOP") == [
            250,
            250,
            503,
            501,
            250,
        ]
        assert (await client.transaction()).code == 250


async def test_too_many_permanent_refusals_end_the_connection() -> None:
    client = await connected(saying("rcpt", deny("unknown")), limits={"refusals": 3})
    await client.ehlo()
    await client.mail()
    replies = [await client.rcpt(f"user{number}@example.org") for number in range(4)]
    assert [(reply.code, reply.close) for reply in replies] == [(550, False)] * 3 + [(421, True)]


async def test_temporary_refusals_do_not_count() -> None:
    client = await connected(saying("rcpt", defer("greylisted")), limits={"refusals": 3})
    await client.ehlo()
    await client.mail()
    assert {(await client.rcpt()).code for _ in range(10)} == {450}


async def test_ten_unknown_commands_in_a_row_end_the_connection_and_a_known_one_begins_anew() -> None:
    client = await connected(limits={"unknown_commands": 3, "refusals": 100})
    assert await dialogue(client, "A", "B", "NOOP", "C", "D", "E") == [500, 500, 250, 500, 500, 421]


# Early talk.


async def test_who_does_not_wait_for_its_turn_is_known_by_phase() -> None:
    client = await connected()
    assert client.session.early_talk == frozenset()
    await client.say("EHLO x", behind=True)
    await client.say("MAIL FROM:<>", behind=True)
    await client.say("RCPT TO:<b@example.org>", behind=True)
    assert client.session.early_talk == {"helo"}
    await client.say("EHLO x")
    assert client.session.early_talk == frozenset()
    await client.say("QUIT", behind=True)
    assert client.session.early_talk == {"quit"}


@pytest.mark.parametrize(
    "plugins", [[saying("data", deny("no"))], [saying("data", defer("later"))], [saying("data", ValueError())]]
)
async def test_a_body_that_came_behind_a_refused_data_closes_the_connection(plugins: list[Any]) -> None:
    for behind in (False, True):
        client = await connected(*plugins)
        await client.ehlo()
        await client.mail()
        await client.rcpt()
        reply = await client.say("DATA", behind=behind)
        assert reply.code in {451, 554}
        assert reply.close == behind
        assert client.session.envelope is None


@pytest.mark.parametrize("lines", [[], ["EHLO x"], ["EHLO x", "MAIL FROM:<>"]])
@pytest.mark.parametrize("data", ["DATA", "DATA now"])
async def test_also_when_data_is_refused_by_the_order_of_commands(lines: list[str], data: str) -> None:
    client = await connected()
    await dialogue(client, *lines)
    assert not (await client.say(data)).close
    assert (await client.say(data, behind=True)).close


async def test_the_next_command_waits_for_what_follows_a_message_also_when_replies_leave_in_one_write() -> None:
    notes = Notes()
    client = await connected(notes)
    conversation = client.rehearsal.conversation
    await client.ehlo()
    for sender in ("one", "two"):
        assert (await conversation.command(f"MAIL FROM:<{sender}@example.com>".encode())).code == 250
        assert (await conversation.command(b"RCPT TO:<b@example.org>")).code == 250
        assert (await conversation.command(b"DATA")).code == 354
        await client.rehearsal.feed(MESSAGE + b".\r\n")
        assert (await conversation.end_of_data()).code == 250
    assert (await conversation.command(b"QUIT")).code == 221
    conversation.after_reply()
    await conversation.close()
    took = f"queued {len(MESSAGE)} True delivering"
    assert notes.log == [took, "reset one@example.com", took, "reset two@example.com", "quit", "disconnect"]


@pytest.mark.parametrize(
    ("lines", "log"),
    [
        (["QUIT"], ["quit", "disconnect"]),
        ([], ["disconnect"]),
        (["EHLO x", "MAIL FROM:<a@example.com>"], ["reset a@example.com", "disconnect"]),
        (["EHLO x", "MAIL FROM:<>", "RSET", "RSET"], ["reset ", "disconnect"]),
        (["EHLO x", "MAIL FROM:<>", "HELO x"], ["reset ", "disconnect"]),
        (["EHLO x", "MAIL FROM:<>", "RCPT TO:<b@example.org>", "DATA"], ["reset ", "disconnect"]),
        (["EHLO x", "MAIL FROM:<>", "QUIT"], ["quit", "reset ", "disconnect"]),
    ],
)
async def test_reset_quit_and_disconnect_always_fire(lines: list[str], log: list[str]) -> None:
    notes = Notes()
    client = await connected(notes)
    await dialogue(client, *lines)
    await client.close()
    assert notes.log == log
    last = client.policy.events.records[-1]
    assert (last.event, last.id, last.client) == ("disconnected", client.session.id, "192.0.2.1")
    assert client.policy.runtime.spool.in_memory == 0


async def test_disconnect_fires_for_a_client_that_was_refused_at_connect() -> None:
    notes = Notes()
    client = await connected(saying("connect", deny("no")), notes)
    await client.close()
    assert notes.log == ["disconnect"]


async def test_a_session_knows_its_client() -> None:
    client = await connected(client="2001:db8::1")
    session: Session = client.session
    assert (session.client, str(session.ip), session.listener) == ("2001:db8::1", "2001:db8::1", "smtp")
