"""Limits and replies: what a client gets that says too much, too little, too often or in the wrong order."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatepost import Decision, Envelope, accept, deny, hookimpl
from gatepost.config import Limits
from gatepost.config.model import Spool
from gatepost.doors import pregreet
from gatepost.doors.listener import client_address, network_of
from gatepost_builtin.delivery.forward import Forward
from tests.door import Keeping, live, until
from tests.peers.mail_server import MailServer
from tests.policy import MESSAGE, Policy, saying, vouching

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
            for _ in range(2):
                await wire.envelope()
                for number in range(20):
                    assert (await wire.say(b"RCPT TO:<x%d@example.org>" % number)).startswith(b"550 5.1.1 ")
                if _ == 0:
                    assert (await wire.message()).startswith(b"250 ")
            assert await wire.say(b"RCPT TO:<x@example.org>") == b"421 4.7.0 too many refused commands\r\n"
            assert await wire.rest() == b""


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


class TestTime:
    async def test_client_idle_5_min(self) -> None:
        policy = Policy()
        async with live(policy) as door:
            wire = await door.hello()
            for _ in range(3):
                await policy.clock.advance(299)
                assert (await wire.say(b"NOOP")).startswith(b"250 ")
            await policy.clock.advance(300)
            assert await wire.rest() == b"421 4.4.2 idle too long\r\n"

    async def test_client_idle_5_min_within_a_line(self) -> None:
        """An octet now and then keeps nobody: what counts is the time until the command is whole."""
        policy = Policy()
        async with live(policy) as door:
            wire = await door.hello()
            wire.send(b"NO")
            for octets in range(2, 5):
                await door.buffered(octets)
                await policy.clock.advance(100)
                wire.send(b"x")
            assert await wire.rest() == b"421 4.4.2 idle too long\r\n"

    async def test_data_below_100_octets_a_second_over_a_minute(self) -> None:
        policy = Policy(vouching(), keeping := Keeping())
        async with live(policy) as door:
            wire = await door.connect()
            await wire.to_data()
            for minute in range(3):
                wire.send(HEAD + b"x" * (5998 - len(HEAD)) + b"\r\n")
                await door.received(6000 * (minute + 1))
                await policy.clock.advance(60)
            wire.send(b"x" * 5999)
            await door.received(6000 * 3 + 5999)
            await policy.clock.advance(60)
            assert await wire.rest() == b"421 4.4.2 data too slow\r\n"
            assert not keeping.contents

    async def test_session_over_1_h_ends_between_transactions_only(self) -> None:
        release = asyncio.Event()

        class Slow:
            grants = "delivery"

            @hookimpl
            async def queue(self) -> Decision:
                await release.wait()
                return accept()

        policy = Policy(vouching(), Slow())
        async with live(policy) as door:
            wire = await door.hello()
            for _ in range(11):
                await policy.clock.advance(299)
                assert (await wire.say(b"NOOP")).startswith(b"250 ")
            await wire.envelope()
            await policy.clock.advance(299)
            assert (await wire.say(b"DATA")).startswith(b"354 ")
            for minute in range(4):
                wire.send(b"X-Line: " + b"x" * 9990 + b"\r\n")
                await door.received(10_000 * (minute + 1))
                await policy.clock.advance(60)
            wire.send(b".\r\n")
            await until(lambda: door.client.conversation.intake is None)
            await policy.clock.advance(600)
            release.set()
            assert (await wire.reply()).startswith(b"250 ")
            assert await wire.rest() == b"421 4.4.2 session too long\r\n"

    async def test_session_over_1_h_ends_also_for_a_client_that_never_pauses(self) -> None:
        policy = Policy(vouching(), Keeping())
        async with live(policy) as door:
            wire = await door.hello()
            await wire.envelope()
            next_one = MESSAGE + b".\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"
            for _ in range(12):
                await policy.clock.advance(299)
                assert (await wire.say(b"DATA")).startswith(b"354 ")
                wire.send(next_one)
                assert {reply[:4] for reply in await wire.replies(3)} == {b"250 "}
            await policy.clock.advance(299)
            assert (await wire.say(b"DATA")).startswith(b"354 ")
            wire.send(next_one)
            assert (await wire.reply()).startswith(b"250 ")
            assert await wire.rest() == b"421 4.4.2 session too long\r\n"


class TestRoom:
    @pytest.fixture
    def strangers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Give clients from 127.0.0.x the address 192.0.2.x, since loopback is not counted."""
        monkeypatch.setattr(pregreet, "client_address", lambda peer: peer.replace("127.0.0.", "192.0.2."))

    async def test_connections_over_20000_in_all(self) -> None:
        asked: list[str] = []

        class Watching:
            @hookimpl
            def connect(self, session: Any) -> None:
                asked.append(session.id)

            @hookimpl
            def disconnect(self, session: Any) -> None:
                asked.append("disconnect")

        async with live(Policy(Watching()), most=3) as door:
            wires = [await door.hello() for _ in range(3)]
            for _ in range(2):
                turned_away = await door.connect()
                assert await turned_away.rest() == b"421 4.7.0 too many connections\r\n"
                await turned_away.close()
            assert len(asked) == 3
            assert (await wires[0].say(b"QUIT")).startswith(b"221 ")
            await wires[0].close()
            await until(lambda: door.listener.connections.total == 2)
            await door.hello()
            assert (await wires[1].say(b"NOOP")).startswith(b"250 ")

    @pytest.mark.usefixtures("strangers")
    async def test_connections_over_50_per_address(self) -> None:
        async with live(Policy()) as door:
            wires = [await door.connect("127.0.0.1") for _ in range(50)]
            for wire in wires:
                assert (await wire.reply()).startswith(b"220 ")
            turned_away = await door.connect("127.0.0.1")
            assert await turned_away.rest() == b"421 4.7.0 too many connections\r\n"
            await turned_away.close()
            assert (await (await door.connect("127.0.0.2")).reply()).startswith(b"220 ")
            await wires[0].close()
            await until(lambda: door.listener.connections.total == 50)
            assert (await (await door.connect("127.0.0.1")).reply()).startswith(b"220 ")

    async def test_connections_over_50_per_ipv6_64(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hosts = iter([*(f"2001:db8::{number:x}" for number in range(51)), "2001:db8:0:1::1"])
        monkeypatch.setattr(pregreet, "client_address", lambda peer: next(hosts))
        async with live(Policy(), host="::1") as door:
            for _ in range(50):
                assert (await (await door.connect("::1", "::1")).reply()).startswith(b"220 ")
            turned_away = await door.connect("::1", "::1")
            assert await turned_away.rest() == b"421 4.7.0 too many connections\r\n"
            assert (await (await door.connect("::1", "::1")).reply()).startswith(b"220 ")

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
    async def test_loopback_is_exempt_from_the_limit_of_each_address(self, host: str) -> None:
        async with live(Policy(), most_each=2, host=host) as door:
            for _ in range(4):
                assert (await (await door.connect(host, host)).reply()).startswith(b"220 ")

    @pytest.mark.parametrize(
        ("client", "unit"),
        [
            ("192.0.2.1", "192.0.2.1"),
            ("127.1.2.3", ""),
            ("::1", ""),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
            ("fe80::1%eth0", "fe80::/64"),
        ],
    )
    def test_what_is_counted_as_one_client(self, client: str, unit: str) -> None:
        assert network_of(client) == unit

    def test_an_ipv4_client_of_an_ipv6_socket_is_an_ipv4_client(self) -> None:
        assert client_address("::ffff:192.0.2.1") == "192.0.2.1"

    async def test_messages_in_flight_over_256_mib_of_memory(self) -> None:
        policy = Policy(vouching(), keeping := Keeping())
        policy.site.spool.budget, policy.site.spool.memory = 600_000, 512_000
        async with live(policy) as door:
            first, second = await door.hello(), await door.hello()
            await first.envelope()
            await first.say(b"DATA")
            first.send(HEAD + b"\r\n" + b"x" * 1000 + b"\r\n" + (b"x" * 998 + b"\r\n") * 100)
            await until(lambda: policy.site.spool.in_memory > 100_000)
            await second.envelope()
            assert await second.say(b"DATA") == b"452 4.3.1 no room for mail at the moment\r\n"
            first.send(b".\r\n")
            assert (await first.reply()).startswith(b"250 ")
            assert (await second.message()).startswith(b"250 ")
            assert len(keeping.contents) == 2
            assert policy.site.spool.in_memory == 0

    async def test_spool_disk_below_min_free(self, tmp_path: Path) -> None:
        policy = Policy(vouching(), Keeping(), folder=tmp_path)
        policy.site.spool.min_free = 1 << 60
        async with live(policy) as door:
            wire = await door.hello()
            await wire.envelope()
            assert await wire.say(b"DATA") == b"452 4.3.1 no room for mail at the moment\r\n"
            policy.site.spool.min_free = 1
            assert (await wire.message()).startswith(b"250 ")

    @pytest.mark.parametrize("fails", ["make", "write"])
    async def test_spool_disk_says_eio_or_enospc(
        self, fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """``/dev/full`` answers ENOSPC to every write; a folder that is gone cannot take a file."""
        policy = Policy(vouching(), keeping := Keeping(), folder=tmp_path / ("gone" if fails == "make" else ""))
        policy.site.spool.memory = 1000
        if fails == "write":
            monkeypatch.setattr("tempfile.TemporaryFile", lambda **how: io.FileIO("/dev/full", "w"))
        async with live(policy) as door:
            wire = await door.hello()
            await wire.envelope()
            big = HEAD + b"\r\n" + (b"x" * 98 + b"\r\n") * 50
            assert (await wire.message(big)).startswith(b"452 4.3.1 no room for mail at the moment")
            assert os.listdir(tmp_path) == []
            assert policy.site.spool.in_memory == 0
            await wire.envelope()
            assert (await wire.message(MESSAGE)).startswith(b"250 ")
            assert len(keeping.contents) == 1


class TestRefusedData:
    BODY = b"Subject: x\r\n\r\nNOOP\r\nMAIL FROM:<evil@example.com>\r\n.\r\nQUIT\r\n"

    async def test_body_behind_a_refused_data(self) -> None:
        async with live(Policy(vouching(), saying("data", deny("not now")))) as door:
            wire = await door.hello()
            await wire.envelope()
            wire.send(b"DATA\r\n" + self.BODY)
            assert (await wire.rest()).startswith(b"554 5.7.1 not now")

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
            assert (await wire.rest()).startswith(b"554 5.7.1 not now")

    async def test_a_refused_data_without_a_body_leaves_the_session(self) -> None:
        async with live(Policy(vouching(), saying("data", deny("not now")))) as door:
            wire = await door.hello()
            await wire.envelope()
            assert (await wire.say(b"DATA")).startswith(b"554 5.7.1 not now")
            await wire.envelope()


class TestNextHop:
    @pytest.mark.parametrize(
        ("parameters", "recipient", "content", "reply"),
        [
            (b" BODY=8BITMIME", b"<b@example.org>", "Subject: x\r\n\r\nGrüße\r\n".encode(), b"554 5.6.3 "),
            (b" SMTPUTF8", "<jörg@example.org>".encode(), MESSAGE, b"553 5.6.7 "),
        ],
        ids=["8BITMIME", "SMTPUTF8"],
    )
    async def test_8bitmime_body_or_smtputf8_address_for_a_next_hop_that_lacks_it(
        self, forward_to: Callable[..., Forward], parameters: bytes, recipient: bytes, content: bytes, reply: bytes
    ) -> None:
        async with (
            MailServer(extensions=["SIZE"]) as server,
            live(Policy(vouching(), forward_to(server, verify=False))) as door,
        ):
            wire = await door.hello()
            await wire.envelope(b"<a@example.com>" + parameters, recipient)
            assert (await wire.message(content)).startswith(reply)
            assert not server.messages
