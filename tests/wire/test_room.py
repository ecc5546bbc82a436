"""Room: too many connections, too many messages at a time, a full disk, a next hop that cannot take it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatepost import hookimpl
from gatepost.doors import pregreet
from gatepost.ip import client_address, network_of
from gatepost_builtin.delivery.forward import Forward
from tests.door import Keeping, live, until
from tests.peers.mail_server import MailServer
from tests.policy import MESSAGE, Policy, vouching

HEAD = b"From: a@example.com\r\nSubject: hello\r\n"


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

    @pytest.mark.patches
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

    @pytest.mark.patches
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
        policy.runtime.spool.budget, policy.runtime.spool.memory = 600_000, 512_000
        async with live(policy) as door:
            first, second = await door.hello(), await door.hello()
            await first.envelope()
            await first.say(b"DATA")
            first.send(HEAD + b"\r\n" + b"x" * 1000 + b"\r\n" + (b"x" * 998 + b"\r\n") * 100)
            await until(lambda: policy.runtime.spool.in_memory > 100_000)
            await second.envelope()
            assert await second.say(b"DATA") == b"452 4.3.1 no room for mail at the moment\r\n"
            first.send(b".\r\n")
            assert (await first.reply()).startswith(b"250 ")
            assert (await second.message()).startswith(b"250 ")
            assert len(keeping.contents) == 2
            assert policy.runtime.spool.in_memory == 0

    async def test_messages_in_flight_that_began_when_there_was_room_go_to_disk(self, tmp_path: Path) -> None:
        policy = Policy(vouching(), keeping := Keeping(), folder=tmp_path)
        policy.runtime.spool.budget, policy.runtime.spool.memory = 250_000, 100_000
        async with live(policy) as door:
            wires = [await door.hello() for _ in range(5)]
            for wire in wires:
                await wire.envelope()
                assert (await wire.say(b"DATA")).startswith(b"354 ")
            for wire in wires:
                wire.send(HEAD + b"\r\n" + (b"x" * 98 + b"\r\n") * 950)
            await until(lambda: all(client.conversation.transaction.reader.size > 95_000 for client in door.clients))
            assert policy.runtime.spool.in_memory <= 250_000
            for wire in wires:
                wire.send(b".\r\n")
                assert (await wire.reply()).startswith(b"250 ")
            assert len(keeping.contents) == 5

    async def test_spool_disk_below_min_free(self, tmp_path: Path) -> None:
        policy = Policy(vouching(), Keeping(), folder=tmp_path)
        policy.runtime.spool.min_free = 1 << 60
        async with live(policy) as door:
            wire = await door.hello()
            await wire.envelope()
            assert await wire.say(b"DATA") == b"452 4.3.1 no room for mail at the moment\r\n"
            policy.runtime.spool.min_free = 1
            assert (await wire.message()).startswith(b"250 ")

    @pytest.mark.parametrize("fails", ["make", "write"])
    async def test_spool_disk_says_eio_or_enospc(
        self, fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """``/dev/full`` answers ENOSPC to every write; a folder that is gone cannot take a file."""
        policy = Policy(vouching(), keeping := Keeping(), folder=tmp_path / ("gone" if fails == "make" else ""))
        policy.runtime.spool.memory = 1000
        if fails == "write":
            monkeypatch.setattr("tempfile.TemporaryFile", lambda **how: io.FileIO("/dev/full", "w"))
        async with live(policy) as door:
            wire = await door.hello()
            await wire.envelope()
            big = HEAD + b"\r\n" + (b"x" * 98 + b"\r\n") * 50
            assert (await wire.message(big)).startswith(b"452 4.3.1 no room for mail at the moment")
            assert os.listdir(tmp_path) == []
            assert policy.runtime.spool.in_memory == 0
            await wire.envelope()
            assert (await wire.message(MESSAGE)).startswith(b"250 ")
            assert len(keeping.contents) == 1


class TestNextHop:
    async def test_8bitmime_and_smtputf8_are_announced_only_if_the_next_hop_has_them(
        self, forward_to: Callable[..., Forward]
    ) -> None:
        content = "Subject: x\r\n\r\nGrüße\r\n".encode()
        async with MailServer(extensions=["SIZE"]) as server:
            forward = forward_to(server, verify=False)
            forward.startup()
            await until(lambda: forward.next_hop.has("8BITMIME") is not None)
            async with live(Policy(vouching(), forward)) as door:
                wire = await door.hello()
                keywords = await wire.say(b"EHLO client.example")
                assert b"8BITMIME" not in keywords and b"SMTPUTF8" not in keywords
                assert (await wire.say(b"MAIL FROM:<a@example.com> SMTPUTF8")).startswith(b"555 5.5.4 ")
                assert (await wire.say("MAIL FROM:<jörg@example.com>".encode())).startswith(b"553 5.6.7 ")
                # Asked for all the same, or not: 8-bit content goes on as it came.
                for parameters in (b"", b" BODY=8BITMIME"):
                    await wire.envelope(b"<a@example.com>" + parameters, b"<b@example.org>")
                    assert (await wire.message(content)).startswith(b"250 ")
        assert [message.content.endswith(content) for message in server.messages] == [True, True]
        assert [message.mail.partition(">")[2].partition("SIZE")[0].strip() for message in server.messages] == ["", ""]

    async def test_8bitmime_body_for_a_next_hop_that_has_lost_it_is_451(
        self, forward_to: Callable[..., Forward]
    ) -> None:
        async with (
            MailServer(extensions=["SIZE"]) as server,
            live(Policy(vouching(), forward_to(server, verify=False))) as door,
        ):
            wire = await door.hello()
            await wire.envelope(b"<a@example.com> BODY=8BITMIME", b"<b@example.org>")
            assert (await wire.message("Subject: x\r\n\r\nGrüße\r\n".encode())).startswith(b"451 4.4.0 ")
            assert not server.messages


async def test_an_address_that_has_left_leaves_nothing_behind() -> None:
    """One entry for each address that ever connected would fill the memory in months."""
    async with live(Policy(vouching())) as door:
        connections = door.listener.connections
        for address in ("192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8::2", "127.0.0.1"):
            connections.enter(address)
        assert (connections.total, dict(connections._by_client)) == (5, {"192.0.2.1": 2, "2001:db8::/64": 2})
        for address in ("192.0.2.1", "2001:db8::1", "127.0.0.1"):
            connections.leave(address)
        assert (connections.total, dict(connections._by_client)) == (2, {"192.0.2.1": 1, "2001:db8::/64": 1})
        for address in ("192.0.2.1", "2001:db8::2"):
            connections.leave(address)
        assert (connections.total, dict(connections._by_client)) == (0, {})
