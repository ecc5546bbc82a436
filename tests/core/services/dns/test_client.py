"""The answers of the DNS client, and the servers that it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gatepost.errors import DNSError, DNSTemporaryError
from gatepost.ip import SocketAddress
from gatepost.services.clock import SystemClock
from gatepost.services.dns import client as module
from gatepost.services.dns.client import DNS, server_address, skipped_servers, system_servers
from gatepost.services.virtual_clock import VirtualClock
from tests.core.services.dns.zones import RECORDS
from tests.peers.dns_server import DNSServer, Fault


@pytest.mark.parametrize(
    ("name", "kind", "texts"),
    [
        ("mx.example", "A", ("192.0.2.1", "192.0.2.2")),
        ("mx.example.", "A", ("192.0.2.1", "192.0.2.2")),
        ("MX.Example", "A", ("192.0.2.1", "192.0.2.2")),
        ("mx.example", "AAAA", ("2001:db8::1",)),
        ("mx.example", "TXT", ("one two",)),
        ("example", "MX", ("10 mx.example", "0 .")),
        ("example", "NS", ("ns1.example",)),
        ("www.example", "A", ("192.0.2.1", "192.0.2.2")),
        ("www.example", "CNAME", ("web.example",)),
        ("1.2.0.192.in-addr.arpa", "PTR", ("mx.example",)),
        ("odd.example", "TXT", ("a\\010b\\200c",)),
        ("odd.example", "PTR", ("we\\032ird.example",)),
    ],
)
async def test_records_come_as_text(dns: DNS, name: str, kind: str, texts: tuple[str, ...]) -> None:
    assert sorted(await dns.query(name, kind)) == sorted(texts)


@pytest.mark.parametrize(
    ("name", "kind"), [("gone.example", "A"), ("example", "A"), ("lost.example", "A"), ("web.example", "MX")]
)
async def test_nxdomain_and_nodata_are_empty(dns: DNS, name: str, kind: str) -> None:
    assert await dns.query(name, kind) == ()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault.SERVFAIL, "SERVFAIL"),
        (Fault.REFUSED, "REFUSED"),
        (Fault.REFERRAL, "a referral"),
        (Fault.GARBAGE, "cannot be read"),
        (Fault.HANG_UP, "0 bytes read"),
        (Fault.CUT, "truncates its answer over TCP too"),
        (Fault.CROSS, "answers another question"),
    ],
)
@pytest.mark.parametrize("name", ["example", "gone.example"])
async def test_a_failure_is_never_an_empty_answer(
    dns: DNS, server: DNSServer, fault: Fault, reason: str, name: str
) -> None:
    server.faults[name] = fault

    with pytest.raises(DNSTemporaryError, match=rf"^{name} A: {server.address}: .*{reason}"):
        await dns.query(name, "A")


@pytest.mark.parametrize(
    "name", ["", "a..example", ".example", "x" * 64, "é.example", "\u212a.example", "a\\300.example"]
)
async def test_an_invalid_name_is_never_queried(dns: DNS, server: DNSServer, name: str) -> None:
    with pytest.raises(DNSError) as caught:
        await dns.query(name, "A")

    assert type(caught.value) is DNSError and not server.received


@pytest.mark.parametrize("kind", ["", "ADDRESS", "ANY", "AXFR", "OPT"])
async def test_an_invalid_kind_is_never_queried(dns: DNS, server: DNSServer, kind: str) -> None:
    with pytest.raises(DNSError) as caught:
        await dns.query("mx.example", kind)

    assert type(caught.value) is DNSError and not server.received


async def test_a_truncated_answer_is_asked_for_over_tcp(dns: DNS, server: DNSServer) -> None:
    server.faults["big.example"] = Fault.TRUNCATE

    assert len(await dns.query("big.example", "TXT")) == 60
    assert [transport for *_, transport in server.received] == ["udp", "tcp"]


async def test_forged_answers_are_not_heard(dns: DNS, server: DNSServer) -> None:
    server.faults["mx.example"] = Fault.FORGERY

    assert "203.0.113.66" not in await dns.query("mx.example", "A")


async def test_neither_id_nor_port_of_a_query_can_be_told_beforehand(dns: DNS, server: DNSServer) -> None:
    await asyncio.gather(*(dns.query(f"{number}.example", "A") for number in range(50)))

    ids, ports = map(set, zip(*server.origins, strict=True))
    assert len(ids) > 45 and len(ports) > 45


async def test_a_server_may_have_an_ipv6_address(clock: VirtualClock) -> None:
    async with DNSServer(RECORDS, host="::1") as server:
        dns = DNS([server.address], clock=clock)
        server.faults["big.example"] = Fault.TRUNCATE

        assert await dns.query("mx.example", "AAAA") == ("2001:db8::1",)
        assert len(await dns.query("big.example", "TXT")) == 60
        await dns.close()


# Several servers


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.REFUSED, Fault.GARBAGE, Fault.HANG_UP, Fault.REFERRAL])
async def test_the_next_server_is_asked_when_one_fails(server: DNSServer, clock: VirtualClock, fault: Fault) -> None:
    async with DNSServer({}) as broken:
        broken.faults[""] = fault
        dns = DNS([broken.address, server.address], clock=clock)

        assert await dns.query("mx.example", "AAAA") == ("2001:db8::1",)
        await dns.close()


async def test_the_next_server_is_asked_when_one_is_silent_and_is_preferred_then(
    server: DNSServer, clock: VirtualClock
) -> None:
    async with DNSServer({}) as silent:
        silent.faults[""] = Fault.DROP
        dns = DNS([silent.address, server.address], clock=clock)
        asker = asyncio.create_task(dns.query("mx.example", "AAAA"))
        await silent.wait_for(1)
        await clock.advance(1.25)
        assert await asker == ("2001:db8::1",)

        assert await dns.query("www.example", "AAAA") == ("2001:db8::1",)
        assert len(silent.received) == 1
        await dns.close()


async def test_the_next_server_is_asked_when_nobody_listens_at_one(server: DNSServer, clock: VirtualClock) -> None:
    async with DNSServer({}) as gone:
        address = gone.address
    dns = DNS([address, server.address], clock=clock)

    assert await dns.query("mx.example", "AAAA") == ("2001:db8::1",)
    await dns.close()


async def test_the_error_names_every_server_and_what_it_did(server: DNSServer, clock: VirtualClock) -> None:
    async with DNSServer({}) as other:
        server.faults[""], other.faults[""] = Fault.SERVFAIL, Fault.REFUSED
        dns = DNS([server.address, other.address], clock=clock)

        with pytest.raises(DNSTemporaryError, match=f"{server.address}: SERVFAIL, {other.address}: REFUSED$"):
            await dns.query("mx.example", "A")
        assert len(server.received) == len(other.received) == 1
        await dns.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_either_loop_will_do(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def ask() -> None:
        async with DNSServer(RECORDS) as server, DNSServer({}) as gone:
            await gone.__aexit__()
            server.faults["big.example"] = Fault.TRUNCATE
            dns = DNS([gone.address, server.address], timeout=5, clock=SystemClock())
            assert await dns.query("mx.example", "AAAA") == ("2001:db8::1",)
            assert len(await dns.query("big.example", "TXT")) == 60
            server.faults[""] = Fault.DROP
            asker = asyncio.create_task(dns.query("silent.example", "A"))
            await server.wait_for(4)
            await dns.close()
            with pytest.raises(DNSTemporaryError):
                await asker

    run(ask())


async def test_a_name_is_verified_over_the_wire(dns: DNS, server: DNSServer) -> None:
    assert await dns.verified_name("192.0.2.1") == "mx.example"
    assert server.received == [("1.2.0.192.in-addr.arpa", "PTR", "udp"), ("mx.example", "A", "udp")]


# The addresses of servers


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.1", SocketAddress("192.0.2.1", 53)),
        ("127.0.0.1:5300", SocketAddress("127.0.0.1", 5300)),
        ("2001:db8::1", SocketAddress("2001:db8::1", 53)),
        ("::", SocketAddress("::", 53)),
        ("[::1]", SocketAddress("::1", 53)),
        ("[::1]:5300", SocketAddress("::1", 5300)),
        ("fe80::1%eth0", SocketAddress("fe80::1%eth0", 53)),
    ],
)
def test_a_server_is_an_address_with_or_without_a_port(text: str, server: SocketAddress) -> None:
    assert server_address(text) == server
    assert server_address(str(server)) == server


@pytest.mark.parametrize("text", ["", "localhost", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "::1]x:5", "1:x"])
def test_what_is_no_server_is_refused_at_once(text: str) -> None:
    with pytest.raises(DNSError):
        DNS([text], clock=VirtualClock())


@pytest.mark.patches
@pytest.mark.parametrize(
    ("text", "servers"),
    [
        (
            "# ours\nsearch example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n",
            ("192.0.2.1:53", "[2001:db8::1]:53"),
        ),
        ("options ndots:2\n", ("127.0.0.1:53",)),
        ("\ufeffnameserver 192.0.2.1\nnameserver 192.0.2.300\nnameserver\nnameserver ns.example\n", ("192.0.2.1:53",)),
        ("nameserver 192.0.2.300\n", ("127.0.0.1:53",)),
        (None, ("127.0.0.1:53",)),
    ],
)
def test_without_servers_those_of_the_system_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, servers: tuple[str, ...]
) -> None:
    monkeypatch.setattr(module, "RESOLV_CONF", tmp_path / "resolv.conf")
    if text is not None:
        (tmp_path / "resolv.conf").write_text(text)

    assert tuple(map(str, system_servers())) == servers


@pytest.mark.patches
def test_lines_of_resolv_conf_that_cannot_be_read_are_named_with_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr(module, "RESOLV_CONF", path)
    assert skipped_servers() == []
    path.write_text("search example\nnameserver 192.0.2.1\nnameserver 192.0.2.300\nnameserver\n")
    third, fourth = map(str, skipped_servers())
    assert third.startswith(f"{path}:3: the line is skipped: '192.0.2.300' is not the address of a DNS server")
    assert fourth.startswith(f"{path}:4: the line is skipped: '' is not the address of a DNS server")
