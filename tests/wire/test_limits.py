"""Limits: what a client gets that says too much, too long or too often."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost import Decision, Envelope, accept, deny, hookimpl
from gatepost.config import Limits
from gatepost.config.model import Spool
from tests.door import Keeping, live
from tests.policy import Policy, vouching

HEAD = b"From: a@example.com\r\nSubject: hello\r\n"


def test_the_defaults_are_those_of_the_table() -> None:
    limits = Limits()
    assert limits.max_size == 50 * 2**20
    assert (limits.recipients, limits.received) == (1000, 100)
    assert (limits.header_size, limits.header_fields) == (2**20, 1000)
    assert limits.line_length == 65_536
    assert (limits.idle, limits.session, limits.data_rate) == (5 * 60, 60 * 60, 100)
    assert (limits.unknown_commands, limits.noise_commands, limits.refusals) == (10, 100, 20)
    assert (limits.connections, limits.connections_per_client) == (20_000, 50)
    assert Spool().budget == 256 * 2**20


class TestLines:
    async def test_command_line_over_512_octets(self) -> None:
        async with live(Policy()) as door:
            wire = await door.hello()
            assert (await wire.say(b"NOOP " + b"x" * 505)).startswith(b"250 ")
            assert await wire.say(b"NOOP " + b"x" * 506) == b"500 5.5.2 line too long\r\n"
            assert (await wire.say(b"NOOP")).startswith(b"250 ")

    @pytest.mark.parametrize(("verb", "most"), [(b"MAIL", 1065), (b"RCPT", 512), (b"AUTH", 12_288)])
    async def test_command_line_of_a_verb_with_a_limit_of_its_own(self, verb: bytes, most: int) -> None:
        async with live(Policy()) as door:
            wire = await door.hello()
            assert b"too long" not in await wire.say(verb.ljust(most - 2, b" "))
            assert await wire.say(verb.ljust(most - 1, b" ")) == b"500 5.5.2 line too long\r\n"

    async def test_command_line_over_512_octets_is_swallowed_to_its_end(self) -> None:
        async with live(Policy()) as door:
            wire = await door.hello()
            wire.send(b"NOOP " + b"x" * 65_000)
            await door.buffered(65_005)
            wire.send(b"\r\nNOOP\r\n")
            assert [reply[:3] for reply in await wire.replies(2)] == [b"500", b"250"]

    @pytest.mark.parametrize("octets", [65_537, 200_000, 2_000_000])
    async def test_command_line_without_end_within_64_kib(self, octets: int) -> None:
        async with live(Policy()) as door:
            wire = await door.hello()
            wire.send(b"x" * octets + b"\r\nNOOP\r\n")
            assert await wire.rest() == b"421 4.5.2 line without end\r\n"

    async def test_text_line_over_1000_octets(self) -> None:
        keeping = Keeping()
        async with live(Policy(vouching(), keeping)) as door:
            wire = await door.hello()
            for length in (1_001, 65_536):
                await wire.envelope()
                assert (await wire.message(HEAD + b"\r\n" + b"x" * (length - 2) + b"\r\n")).startswith(b"250 ")
            await wire.envelope()
            too_long = await wire.message(HEAD + b"\r\n" + b"x" * 65_535 + b"\r\n")
            assert too_long.startswith(b"554 5.6.0 text line too long")
            assert len(keeping.contents) == 2
            await wire.envelope()
            assert (await wire.message()).startswith(b"250 ")


class TestSizes:
    @pytest.mark.parametrize("announced", [b" SIZE=1", b""])
    async def test_message_over_max_size_is_counted_not_believed(self, announced: bytes) -> None:
        keeping = Keeping()
        async with live(Policy(vouching(), keeping, limits={"max_size": 200_000})) as door:
            wire = await door.hello()
            await wire.envelope(b"<a@example.com>" + announced)
            line = b"x" * 98 + b"\r\n"
            assert (await wire.message(HEAD + b"\r\n" + line * 2000)).startswith(b"552 5.3.4 message too big")
            await wire.envelope()
            assert (await wire.message(HEAD + b"\r\n" + line * 1900)).startswith(b"250 ")
            assert len(keeping.contents) == 1

    async def test_message_over_max_size_is_refused_at_mail_if_size_says_so(self) -> None:
        async with live(Policy()) as door:
            wire = await door.hello()
            too_big = await wire.say(b"MAIL FROM:<a@example.com> SIZE=52428801")
            assert too_big == b"552 5.3.4 message too big\r\n"
            assert (await wire.say(b"MAIL FROM:<a@example.com> SIZE=52428800")).startswith(b"250 ")

    @pytest.mark.parametrize("size", [b"x", b"-1", b"", b"1e3", b"0x10", b"9" * 21, "١".encode()])
    async def test_size_not_digits_negative_absurd(self, size: bytes) -> None:
        async with live(Policy()) as door:
            wire = await door.hello()
            assert (await wire.say(b"MAIL FROM:<a@example.com> SIZE=" + size)).startswith(b"501 5.5.4 ")
            assert (await wire.say(b"MAIL FROM:<a@example.com> SIZE=" + b"9" * 20)).startswith(b"552 5.3.4 ")

    async def test_more_than_1000_recipients(self) -> None:
        takers: list[int] = []

        class Counting:
            grants = "delivery"

            @hookimpl
            def queue(self, envelope: Envelope) -> Decision:
                takers.append(len(envelope.recipients))
                return accept()

        async with live(Policy(vouching(), Counting())) as door:
            wire = await door.hello()
            await wire.say(b"MAIL FROM:<a@example.com>")
            wire.send(b"".join(b"RCPT TO:<b%d@example.org>\r\n" % number for number in range(1002)))
            replies = await wire.replies(1002)
            assert {reply[:9] for reply in replies[:1000]} == {b"250 2.1.5"}
            assert replies[1000:] == [b"452 4.5.3 too many recipients\r\n"] * 2
            assert (await wire.message()).startswith(b"250 ")
            assert takers == [1000]

    async def test_the_1021st_recipient_over_the_limit(self) -> None:
        async with live(Policy(vouching(), Keeping())) as door:
            wire = await door.hello()
            await wire.say(b"MAIL FROM:<a@example.com>")
            wire.send(b"".join(b"RCPT TO:<b%d@example.org>\r\n" % number for number in range(2023)))
            replies = await wire.replies(2022)
            assert set(replies[1000:2021]) == {b"452 4.5.3 too many recipients\r\n"}
            assert replies[2021] == b"421 4.7.0 too many refused commands\r\n"
            assert await wire.rest() == b""

    @pytest.mark.parametrize(
        ("field", "most"), [(b"X-Big: " + b"x" * 1991 + b"\r\n", 524), (b"X: y\r\n", 1000)], ids=["octets", "fields"]
    )
    async def test_headers_over_1_mib_or_1000_fields(self, field: bytes, most: int) -> None:
        async with live(Policy(vouching(), keeping := Keeping())) as door:
            wire = await door.hello()
            await wire.envelope()
            assert (await wire.message(field * most + b"\r\nBody\r\n")).startswith(b"250 ")
            await wire.envelope()
            assert (await wire.message(field * (most + 1) + b"\r\nBody\r\n")).startswith(b"552 5.3.4 headers too big")
            assert len(keeping.contents) == 1

    async def test_over_100_received_fields(self) -> None:
        async with live(Policy(vouching(), keeping := Keeping())) as door:
            wire = await door.hello()
            hop = b"Received: from a by b; x\r\n"
            await wire.envelope()
            assert (await wire.message(hop * 100 + HEAD + b"\r\n")).startswith(b"250 ")
            await wire.envelope()
            assert (await wire.message(hop * 101 + HEAD + b"\r\n")).startswith(b"554 5.4.6 ")
            assert len(keeping.contents) == 1


class TestCounts:
    async def test_unknown_verb(self) -> None:
        async with live(Policy()) as door:
            wire = await door.hello()
            for _ in range(9):
                assert await wire.say(b"FROB") == b"500 5.5.1 command not recognized\r\n"
            assert (await wire.say(b"NOOP")).startswith(b"250 ")
            wire.send(b"FROB\r\n" * 12)
            assert {reply[:9] for reply in await wire.replies(9)} == {b"500 5.5.1"}
            assert (await wire.rest()).startswith(b"421 4.7.0 too many unknown commands\r\n")

    @pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"CONNECT a:25 HTTP/1.1", b"Host: a"])
    async def test_http_words_at_the_start(self, line: bytes) -> None:
        async with live(Policy()) as door:
            wire = await door.connect()
            await wire.reply()
            wire.send(line + b"\r\nEHLO x\r\nMAIL FROM:<a@example.com>\r\n")
            assert await wire.rest() == b"421 4.7.0 this is a mail server\r\n"

    async def test_over_100_noop_rset_helo_vrfy(self) -> None:
        async with live(Policy(vouching(), Keeping())) as door:
            wire = await door.hello()  # its EHLO counts
            wire.send(b"NOOP\r\nRSET\r\nVRFY x\r\n" * 33)
            assert {reply[:2] for reply in await wire.replies(99)} == {b"25"}
            await wire.envelope()
            assert (await wire.message()).startswith(b"250 ")
            wire.send(b"NOOP\r\nHELO x\r\n" * 50)
            assert {reply[:4] for reply in await wire.replies(100)} == {b"250 "}
            assert await wire.say(b"RSET") == b"421 4.7.0 too many commands without mail\r\n"
            assert await wire.rest() == b""

    async def test_over_20_refusals(self) -> None:
        class Choosing:
            grants = "recipients"

            @hookimpl
            def rcpt(self, recipient: Any) -> Decision:
                return accept() if recipient.local == "b" else deny("no such user", 550, "5.1.1")

        async with live(Policy(Choosing(), Keeping())) as door:
            wire = await door.hello()
            for accepted in (True, False):
                await wire.envelope()
                for number in range(20):
                    assert (await wire.say(b"RCPT TO:<x%d@example.org>" % number)).startswith(b"550 5.1.1 ")
                if accepted:
                    assert (await wire.message()).startswith(b"250 ")
            assert await wire.say(b"RCPT TO:<x@example.org>") == b"421 4.7.0 too many refused commands\r\n"
            assert await wire.rest() == b""
