"""The dialogue keeps its order and its limits, delays refusals as it is told, and never shows a fault of ours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gatepost import Address, Decision, Receipt, Session, accept, defer, deny, hookimpl, points
from gatepost.gate.score import Score
from gatepost.replies import Reply
from tests.policy import MESSAGE, Client, Policy, delivering, instance, saying, vouching


class Notes:
    """Writes down every hook of the end of things, as it fires."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @hookimpl
    def reset(self, envelope: Any) -> None:
        self.log.append(f"reset {envelope.sender}")

    @hookimpl
    def quit(self) -> None:
        self.log.append("quit")

    @hookimpl
    async def disconnect(self) -> None:
        await asyncio.sleep(0)
        self.log.append("disconnect")

    @hookimpl
    async def queued(self, receipt: Receipt, envelope: Any, message: Any) -> None:
        await asyncio.sleep(0)
        with message.open() as content:
            self.log.append(f"queued {len(content.read())} {receipt.id == envelope.id} {','.join(receipt.plugins)}")


async def connected(*plugins: Any, client: str = "192.0.2.1", **how: Any) -> Client:
    """A client of a policy that vouches for every recipient and takes every message."""
    return await Policy(
        *plugins, instance(vouching(), "vouching"), instance(delivering(), "delivering"), **how
    ).connect(client)


async def dialogue(client: Client, *lines: str) -> list[int]:
    """The codes of the replies to ``lines``; ``.`` sends a message."""
    return [
        (await client.wait_for(client.rehearsal.send(MESSAGE)) if line == "." else await client.say(line)).code
        for line in lines
    ]


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


async def test_the_record_of_a_refused_recipient_names_that_one_alone() -> None:
    class Picky:
        @hookimpl
        def rcpt(self, recipient: Address) -> Decision | None:
            return defer("later") if recipient.local == "c" else None

    client = await connected(Picky())
    await dialogue(client, "EHLO x", "MAIL FROM:<>", "RCPT TO:<a@example.org>", "RCPT TO:<c@example.org>")
    (record,) = client.policy.events.records
    assert record.recipients == ("c@example.org",)


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
        ("EHLO a\tb", "501 5.5.2"),
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


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("MAIL FROM: <a@example.com>", "250"),
        ("mail from:<a@example.com>", "250"),
        ("MAIL FROM:<>", "250"),
        ("MAIL FROM:<@relay.example:a@example.com>", "250"),
        ("MAIL FROM:a@example.com", "501 5.5.4"),
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
    assert (await client.say("MAIL FROM:<a@straße.example> SMTPUTF8")).code == 501
    assert (await client.mail("grüße@grün.example", "SMTPUTF8")).code == 250
    assert (await client.rcpt("müller@example.org")).code == 250
    assert (await client.rcpt("müller@straße.example")).code == 501


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


# Refusals at connect, and delayed ones.


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
    client.session.may_relay = True
    await client.mail()
    assert (await client.rcpt()).code == 250


@pytest.mark.parametrize("phase", ["helo", "mail"])
@pytest.mark.parametrize(("answer", "code"), [(deny("no", disconnect=True), 550), (defer("x", disconnect=True), 421)])
async def test_a_refusal_that_disconnects_is_never_delayed(phase: str, answer: Decision, code: int) -> None:
    client = await connected(saying(phase, answer))
    replies = [await client.ehlo(), await client.mail()]
    reply = replies[0 if phase == "helo" else 1]
    assert (reply.code, reply.close) == (code, True)


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


async def test_the_record_of_a_message_names_it_all() -> None:
    client = await connected(instance(saying("mail", points(1, "odd")), "odd"))
    reply = await client.transaction()
    record = client.policy.events.records[-1]
    assert (record.event, record.plugin, record.phase, record.size) == ("accepted", "delivering", "queue", len(MESSAGE))
    assert f"queued as {record.id}: taken" in reply.lines()[0]
    assert record.reply == f"250 2.0.0 queued as {record.id}: taken"
    assert [ruling.phase for ruling in record.rulings] == ["connect", "mail", "rcpt", "queue"]


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


async def test_a_session_knows_its_client() -> None:
    client = await connected(client="2001:db8::1")
    session: Session = client.session
    assert (session.client, str(session.ip), session.listener) == ("2001:db8::1", "2001:db8::1", "smtp")
