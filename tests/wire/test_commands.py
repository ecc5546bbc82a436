"""Commands: what a client gets that says them wrongly, in the wrong order, or with a body behind a refused DATA."""

from __future__ import annotations

import asyncio
import re

import pytest

from gatepost import Decision, deny, hookimpl
from tests.door import Keeping, live
from tests.policy import Policy, saying, vouching


class TestCommands:
    @pytest.mark.parametrize("parameter", [b"FOO", b"FOO=1", b"RET=HDRS", b"ENVID=x", b"REQUIRETLS"])
    async def test_unknown_mail_parameter(self, parameter: bytes) -> None:
        async with live(Policy()) as door:
            wire = await door.hello()
            unknown = await wire.say(b"MAIL FROM:<a@example.com> " + parameter)
            assert unknown == b"555 5.5.4 parameter not recognized\r\n"
            assert (await wire.say(b"MAIL FROM:<a@example.com>")).startswith(b"250 ")

    @pytest.mark.parametrize("parameter", [b"FOO", b"NOTIFY=NEVER", b"ORCPT=rfc822;x"])
    async def test_unknown_rcpt_parameter(self, parameter: bytes) -> None:
        async with live(Policy(vouching())) as door:
            wire = await door.hello()
            await wire.say(b"MAIL FROM:<a@example.com>")
            unknown = await wire.say(b"RCPT TO:<b@example.org> " + parameter)
            assert unknown == b"555 5.5.4 parameter not recognized\r\n"
            assert (await wire.say(b"RCPT TO:<b@example.org>")).startswith(b"250 ")

    @pytest.mark.parametrize(
        "parameters", [b"AUTH=<>", b"AUTH=<a@example.com>", b"AUTH=e+3Dmc2", b"SIZE=5", b"BODY=8BITMIME", b"SMTPUTF8"]
    )
    async def test_parameters_that_are_always_known(self, parameters: bytes) -> None:
        async with live(Policy()) as door:
            wire = await door.hello()
            assert (await wire.say(b"MAIL FROM:<a@example.com> " + parameters)).startswith(b"250 ")

    async def test_requiretls_asked(self) -> None:
        async with live(Policy()) as door:
            wire = await door.connect()
            await wire.reply()
            assert b"REQUIRETLS" not in await wire.say(b"EHLO client.example.com")
            assert (await wire.say(b"MAIL FROM:<a@example.com> REQUIRETLS")).startswith(b"555 ")

    async def test_commands_out_of_order(self) -> None:
        async with live(Policy(vouching(), keeping := Keeping())) as door:
            wire = await door.connect()
            await wire.reply()
            for line in (b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>", b"DATA"):
                assert (await wire.say(line)).startswith(b"503 5.5.1 ")
            await wire.say(b"EHLO client.example.com")
            assert (await wire.say(b"RCPT TO:<b@example.org>")).startswith(b"503 5.5.1 ")
            await wire.say(b"MAIL FROM:<a@example.com>")
            for line in (b"DATA", b"MAIL FROM:<c@example.com>"):
                assert (await wire.say(line)).startswith(b"503 5.5.1 ")
            assert (await wire.say(b"RCPT TO:<b@example.org>")).startswith(b"250 ")
            assert (await wire.say(b"MAIL FROM:<c@example.com>")).startswith(b"503 5.5.1 ")
            assert (await wire.message()).startswith(b"250 ")
            assert len(keeping.contents) == 1

    async def test_8_bit_octets_in_an_envelope_without_smtputf8(self) -> None:
        async with live(Policy(vouching())) as door:
            wire = await door.hello()
            for sender in (
                "jörg@example.com".encode(),
                "jörg@example.com".encode("latin-1"),
                "a@bücher.example".encode(),
            ):
                assert (await wire.say(b"MAIL FROM:<" + sender + b">")).startswith(b"553 5.6.7 ")
            await wire.say(b"MAIL FROM:<a@example.com>")
            assert (await wire.say("RCPT TO:<jörg@example.org>".encode())).startswith(b"553 5.6.7 ")
            await wire.say(b"RSET")
            await wire.envelope("<jörg@example.com> SMTPUTF8".encode(), "<jörg@example.org>".encode())

    @pytest.mark.parametrize("octet", [b"\0", b"\1", b"\t", b"\x0b", b"\r", b"\x1b", b"\x7f"])
    async def test_nul_or_control_octets_in_a_command(self, octet: bytes) -> None:
        async with live(Policy(vouching())) as door:
            wire = await door.hello()
            for line in (
                b"MAIL FROM:<a" + octet + b"b@example.com>",
                b"NOOP " + octet + b"x",
                b"EHLO x" + octet + b"y",
            ):
                assert (await wire.say(line)).startswith(b"501 5.5.2 ")
            await wire.envelope()


class TestRefusedData:
    BODY = b"Subject: x\r\n\r\nNOOP\r\nMAIL FROM:<evil@example.com>\r\n.\r\nQUIT\r\n"

    async def test_body_behind_a_refused_data(self) -> None:
        async with live(Policy(vouching(), saying("data", deny("not now")))) as door:
            wire = await door.hello()
            await wire.envelope()
            wire.send(b"DATA\r\n" + self.BODY)
            assert re.fullmatch(rb"554 5\.7\.1 not now \[\w+\]\r\n", await wire.rest())

    @pytest.mark.parametrize("line", [b"DATA", b"DATA now"])
    async def test_body_behind_a_data_that_is_out_of_order_or_wrong(self, line: bytes) -> None:
        async with live(Policy(vouching())) as door:
            wire = await door.hello()
            wire.send(line + b"\r\n" + self.BODY)
            assert (await wire.rest()).count(b"\r\n") == 1

    async def test_body_behind_a_data_that_is_refused_while_the_body_comes(self) -> None:
        asked, release = asyncio.Event(), asyncio.Event()

        class Slow:
            @hookimpl
            async def data(self) -> Decision:
                asked.set()
                await release.wait()
                return deny("not now")

        async with live(Policy(vouching(), Slow())) as door:
            wire = await door.hello()
            await wire.envelope()
            wire.send(b"DATA\r\n")
            await asked.wait()
            wire.send(self.BODY)
            await door.buffered(len(self.BODY))
            release.set()
            assert re.fullmatch(rb"554 5\.7\.1 not now \[\w+\]\r\n", await wire.rest())

    async def test_a_refused_data_without_a_body_leaves_the_session(self) -> None:
        async with live(Policy(vouching(), saying("data", deny("not now")))) as door:
            wire = await door.hello()
            await wire.envelope()
            assert (await wire.say(b"DATA")).startswith(b"554 5.7.1 not now")
            await wire.envelope()
