"""Reversed addresses, and the names that lead back to a client."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.errors import DNSError, DNSTemporaryError
from gatepost.services.dns.resolver import Resolver, reversed_address


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("127.0.0.2", "2.0.0.127"),
        ("2001:db8:1:2:3:4:567:89ab", "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2"),
        ("::ffff:7f00:2", "2.0.0.0.0.0.f.7.f.f.f.f" + ".0" * 20),
        ("fe80::1%eth0", "1" + ".0" * 28 + ".8.e.f"),
    ],
)
def test_an_address_is_reversed_for_a_list(address: str, text: str) -> None:
    assert reversed_address(address) == text


@given(st.ip_addresses())
def test_a_reversed_address_can_be_turned_back(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    parts = reversed_address(str(address)).split(".")[::-1]
    groups = ["".join(parts[at : at + 4]) for at in range(0, 32, 4)]

    assert ipaddress.ip_address(".".join(parts) if len(parts) == 4 else ":".join(groups)) == address


class Book(Resolver):
    """Answers from a table, as a fake of a plugin's test does; an exception in it is raised."""

    def __init__(self, records: dict[tuple[str, str], tuple[str, ...] | DNSError]) -> None:
        self.records = records
        self.asked: list[tuple[str, str]] = []

    async def query(self, name: str, kind: str, *, timeout: float | None = None) -> tuple[str, ...]:
        self.asked.append((name, kind))
        answer = self.records.get((name, kind), ())
        if isinstance(answer, DNSError):
            raise answer
        return answer


PTR4 = ("1.2.0.192.in-addr.arpa", "PTR")
PTR6 = (f"{reversed_address('2001:db8::1')}.ip6.arpa", "PTR")
UNKNOWN = DNSTemporaryError("nobody knows")


@pytest.mark.parametrize(
    ("address", "records", "name"),
    [
        ("192.0.2.1", {PTR4: ("a.x",), ("a.x", "A"): ("192.0.2.9", "192.0.2.1")}, "a.x"),
        ("::ffff:192.0.2.1", {PTR4: ("a.x",), ("a.x", "A"): ("192.0.2.1",)}, "a.x"),
        ("2001:DB8:0::1", {PTR6: ("a.x",), ("a.x", "AAAA"): ("2001:db8::1",)}, "a.x"),
        ("192.0.2.1", {}, None),
        ("192.0.2.1", {PTR4: ("a.x",)}, None),
        ("192.0.2.1", {PTR4: ("a.x",), ("a.x", "A"): ("192.0.2.9",)}, None),
        ("192.0.2.1", {PTR4: ("a.x", "b.x"), ("b.x", "A"): ("192.0.2.1",)}, "b.x"),
        ("192.0.2.1", {PTR4: ("a.x", "b.x"), ("a.x", "A"): UNKNOWN, ("b.x", "A"): ("192.0.2.1",)}, "b.x"),
        ("192.0.2.1", {PTR4: ("..", "b.x"), ("..", "A"): DNSError("no name"), ("b.x", "A"): ("192.0.2.1",)}, "b.x"),
        ("192.0.2.1", {PTR4: tuple("abcdef"), ("f", "A"): ("192.0.2.1",)}, None),
    ],
    ids=[
        "confirmed",
        "an IPv4 client on an IPv6 socket",
        "IPv6",
        "no name",
        "a name without addresses",
        "the name of another",
        "the second name is confirmed",
        "the first is unknown and the second is confirmed",
        "the first is no name",
        "only five are looked at",
    ],
)
async def test_a_name_counts_when_it_leads_back(
    address: str, records: dict[tuple[str, str], Any], name: str | None
) -> None:
    assert await Book(records).verified_name(address) == name


@pytest.mark.parametrize(
    "records",
    [{PTR4: UNKNOWN}, {PTR4: ("a.x",), ("a.x", "A"): UNKNOWN}, {PTR4: ("a.x", "b.x"), ("a.x", "A"): UNKNOWN}],
    ids=["the names are unknown", "the addresses are unknown", "the first is unknown and the second is not confirmed"],
)
async def test_a_name_that_cannot_be_confirmed_now_is_not_known(records: dict[tuple[str, str], Any]) -> None:
    with pytest.raises(DNSTemporaryError):
        await Book(records).verified_name("192.0.2.1")


async def test_what_is_no_address_has_no_name() -> None:
    for ask in (Book({}).reverse, Book({}).verified_name):
        with pytest.raises(DNSError, match="is not an IP address"):
            await ask("mx.example")
    with pytest.raises(DNSError, match="is not an IP address"):
        reversed_address("1.2.3")
