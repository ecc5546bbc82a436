"""The output of the gate: our own trace, no forged results, nothing of a client unescaped, and no exception."""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost import Decision, Session, deny, hookimpl
from gatepost.conversation.conversation import Conversation
from gatepost.hookspecs import PHASES
from gatepost.telemetry.log import EventLog
from tests.door import Keeping, Wire, live
from tests.policy import MESSAGE, Policy, saying, vouching

REPLIES = re.compile(rb"(\d{3}[ -][\x20-\x7e]{0,506}\r\n)*")
ID = re.compile(rb"\[([0-9a-z]{10})\]")


class TestReceived:
    @pytest.mark.parametrize(
        ("hello", "parameters", "protocol"),
        [(b"HELO", b"", "SMTP"), (b"EHLO", b"", "ESMTP"), (b"EHLO", b" SMTPUTF8", "UTF8SMTP")],
    )
    async def test_received_header_of_our_own(self, hello: bytes, parameters: bytes, protocol: str) -> None:
        policy = Policy(vouching(), keeping := Keeping())
        async with live(policy) as door:
            wire = await door.connect("127.0.0.9")
            await wire.reply()
            await wire.say(hello + b" client.example.com")
            await wire.envelope(b"<a@example.com>" + parameters)
            queued_as = re.search(rb"queued as (\w+)", await wire.message())
            assert queued_as is not None
            (sent,) = keeping.sent
            field, _, rest = sent.partition(b";\r\n\t")
            assert field.decode() == (
                "Received: from client.example.com (unknown [127.0.0.9])\r\n"
                f"\tby mx.example.org (gatepost) with {protocol} id {queued_as[1].decode()}\r\n"
                "\tfor <b@example.org>"
            )
            date, _, content = rest.partition(b"\r\n")
            assert parsedate_to_datetime(date.decode()) == datetime.fromtimestamp(
                policy.clock.now(), parsedate_to_datetime(date.decode()).tzinfo
            )
            assert content == MESSAGE

    async def test_received_names_nobody_when_there_are_several_recipients(self) -> None:
        """The others might be there in secret (RFC 5321 §7.2)."""
        async with live(Policy(vouching(), keeping := Keeping())) as door:
            wire = await door.hello()
            await wire.envelope()
            await wire.say(b"RCPT TO:<secret@example.org>")
            await wire.message()
            assert b"example.org>" not in keeping.sent[0].partition(b"\r\nFrom: ")[0]

    @pytest.mark.parametrize("name", ["(", "x)y", "x(by mx.example.org)", "[127.0.0.1];", "a\\b", "ü\u2028y"])
    async def test_a_helo_cannot_forge_a_trace(self, name: str) -> None:
        async with live(Policy(vouching(), keeping := Keeping())) as door:
            wire = await door.connect()
            await wire.reply()
            await wire.say(b"EHLO " + name.encode())
            await wire.envelope()
            assert (await wire.message()).startswith(b"250 ")
            trace = keeping.sent[0].partition(b"\r\nFrom: ")[0]
            assert re.match(rb"Received: from [\x21-\x27\x2a-\x7e]+ \(unknown \[127\.0\.0\.1\]\)\r\n\tby ", trace)
            assert trace.count(b"\r\n") == 3

    @pytest.mark.parametrize(
        ("value", "is_forged"),
        [
            (b"mx.example.org; spf=pass", True),
            (b"MX.Example.ORG. 1; spf=pass", True),
            (b'"mx.example.org"; spf=pass', True),
            (b"(trust me) mx.example.org; spf=pass", True),
            (b"\r\n mx.example.org;\r\n spf=pass", True),
            (b"mx.elsewhere.example; spf=pass", False),
            (b"xmx.example.org; spf=pass", False),
        ],
    )
    async def test_forged_authentication_results_that_bear_our_name(self, value: bytes, is_forged: bool) -> None:
        async with live(Policy(vouching(), keeping := Keeping())) as door:
            wire = await door.hello()
            await wire.envelope()
            await wire.message(b"Authentication-Results: " + value + b"\r\n" + MESSAGE)
            assert (b"spf=pass" not in keeping.sent[0]) == is_forged
            assert keeping.sent[0].endswith(MESSAGE)


@given(
    line=st.binary(max_size=600).filter(lambda line: b"\n" not in line),
    verb=st.sampled_from([b"", b"EHLO ", b"HELO ", b"MAIL FROM:<", b"RCPT TO:<", b"VRFY ", b"NOOP ", b"QUIT "]),
)
async def test_whatever_a_client_sent_is_no_octet_of_a_reply_unless_printable(line: bytes, verb: bytes) -> None:
    async with live(Policy(vouching())) as door:
        wire = await door.hello()
        await wire.say(b"MAIL FROM:<a@example.com> SMTPUTF8")
        wire.send(verb + line + b"\r\n")
        wire.half_close()
        assert REPLIES.fullmatch(await wire.rest())


class TestEscaped:
    """Whatever a client sent is escaped before it reaches a reply or a log line."""

    @pytest.mark.parametrize("said", ["x\u202ey", "\u2028250", "ü", "x\x85y", "x" * 450, "%s%n{0}"])
    async def test_what_a_plugin_repeats_is_printable(self, said: str) -> None:
        class Repeating:
            @hookimpl
            def rcpt(self, session: Session, recipient: Any) -> Decision:
                return deny(f"{recipient} and {session.helo}\r\n250 are not welcome")

        async with live(Policy(Repeating())) as door:
            wire = await door.connect()
            await wire.reply()
            await wire.say(b"EHLO " + said.encode())
            await wire.say(b"MAIL FROM:<a@example.com> SMTPUTF8")
            reply = await wire.say('RCPT TO:<"\u202e ü"@example.org>'.encode())
            assert REPLIES.fullmatch(reply)
            assert re.fullmatch(rb"(550[ -]5\.7\.1 [^\r]*\r\n)+", reply)

    @pytest.mark.parametrize("human", [True, False])
    async def test_whatever_a_client_sent_is_one_line_of_the_log(self, human: bool) -> None:
        policy = Policy(saying("rcpt", deny("no")))
        async with live(policy) as door:
            wire = await door.connect()
            await wire.reply()
            await wire.say('EHLO x" level=error\u202e\u0085\x9b'.encode())
            assert (await wire.say(b'MAIL FROM:<"a\\" outcome=accepted"@example.com> SMTPUTF8')).startswith(b"250 ")
            assert (await wire.say('RCPT TO:<"\u202e ü"@example.org>'.encode())).startswith(b"550 ")
            assert (await wire.say(b"QUIT")).startswith(b"221 ")
        written: list[bytes] = []
        log = EventLog(written.append, human=human)
        for record in policy.events.records:
            log.record(record)
        log.close()
        lines = b"".join(written).decode().splitlines()
        assert len(lines) == len(policy.events.records) == 2
        assert all(line.isprintable() for line in lines)
        assert all(" outcome=accepted" not in re.sub(r'"(\\.|[^"])*"', "", line) for line in lines)


class TestExceptions:
    """An exception never reaches the wire: 451 4.3.0 with the id of the incident."""

    async def dialogue(self, wire: Wire) -> bytes:
        """Everything that a server can be asked; all its replies."""
        wire.send(
            b"EHLO x\r\nNOOP\r\nVRFY x\r\nHELP\r\nFROB\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"
        )
        replies = b"".join(await wire.replies(8))
        reply = await wire.say(b"DATA")
        if reply.startswith(b"354 "):
            wire.send(MESSAGE + b".\r\n")
            reply = await wire.reply()
        return replies + reply + await wire.say(b"QUIT") + await wire.rest()

    @pytest.mark.parametrize("error", [ValueError("secret"), SystemExit("secret"), KeyboardInterrupt("secret")])
    @pytest.mark.parametrize("phase", [phase for phase in PHASES if phase not in {"startup", "shutdown"}])
    async def test_an_exception_never_reaches_the_wire(self, phase: str, error: BaseException) -> None:
        policy = Policy(saying(phase, error), vouching(), Keeping())
        async with live(policy) as door:
            wire = await door.connect()
            replies = await self.dialogue(wire)
            assert b"secret" not in replies
            assert b"Error" not in replies
            assert b"Exit" not in replies
        failed = policy.events.named("plugin_failed")
        if phase in {"starttls", "auth"}:
            assert not failed
            return
        assert failed, f"{phase} was not asked: ``dialogue`` lacks what brings it about"
        assert "secret" in str(failed[0]["error"])
        if phase == "connect":
            assert re.fullmatch(rb"421 4\.3\.0 [^\r]*\r\n", replies)
        elif phase in {"greeting", "capabilities", "queued", "reset", "quit", "disconnect", "ruled"}:
            assert b"250 2.0.0 queued as " in replies
        else:
            refused = re.search(rb"451 4\.3\.0 local error[^\r]*\r\n", replies)
            assert refused is not None
            incident = ID.search(refused[0])
            assert incident is not None
            record = next(record for record in policy.events.records if record.id == incident[1].decode())
            assert any("secret" in said.error for ruling in record.rulings for said in ruling.said)
            assert b"221 " in replies

    @pytest.mark.patches
    async def test_a_fault_of_the_core_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(self: Conversation, line: bytes, behind: bool) -> None:
            raise RuntimeError("secret")

        policy = Policy()
        async with live(policy) as door:
            wire = await door.hello()
            with monkeypatch.context() as broken:
                broken.setattr(Conversation, "_answer", fail)
                reply = await wire.say(b"NOOP")
            incident = ID.search(reply)
            assert incident is not None
            assert reply.startswith(b"451 4.3.0 ")
            assert b"secret" not in reply
            assert policy.events.named("internal_error")[0]["id"] == incident[1].decode()
            assert (await wire.say(b"NOOP")).startswith(b"250 ")
