"""The work that goes into one response is bounded, since strangers choose what stands in their reverse zones."""

from __future__ import annotations

import struct

import pytest

from gatepost.errors import DNSTemporaryError
from gatepost.services.dns.message import Answer, Question, read_answer

OURS = b"\xc0\x0c"
"""A pointer to the name in the question."""
FIRST = b"\1a" * 126 + b"\0"
ODD = (b"\x3f" + b"\1" * 63) * 3 + b"\x3d" + b"\1" * 61 + b"\0"
"""A name of 255 octets, all of which must be escaped."""
POINTER = Question.parse("1.2.0.192.in-addr.arpa", "PTR")

Row = tuple[bytes, str, bytes]


def read(question: Question, rows: list[Row], *, authorities: int = 0) -> Answer:
    """Read a response with these records: owner, type, data."""
    octets = struct.pack("!6H", 7, 0x8180, 1, len(rows) - authorities, authorities, 0) + question.octets
    for owner, kind, data in rows:
        octets += owner + struct.pack("!HHIH", Question.parse("x", kind).kind, 1, 300, len(data)) + data
    assert len(octets) < 65_536
    return read_answer(question, octets)


def named(number: int) -> Row:
    return OURS, "PTR", b"\3%03d\7example\3com\0" % number


@pytest.mark.parametrize("count", [5, 6, 21, 500, 1500])
def test_of_a_reverse_zone_five_names_are_read_however_many_there_are(count: int) -> None:
    names = tuple(f"{number:03d}.example.com" for number in range(5))
    assert read(POINTER, [named(number % 1000) for number in range(count)]) == Answer(names, 300)


def test_names_behind_the_aliases_of_a_delegated_reverse_zone_are_read() -> None:
    alias = (OURS, "CNAME", b"\1x" + OURS)
    names = [(b"\1x" + OURS, "PTR", b"\3%03d\0" % number) for number in range(400)]
    assert read(POINTER, [alias, *names]) == Answer(("000", "001", "002", "003", "004"), 300)


def test_names_of_other_addresses_are_no_answer_and_not_the_lack_of_one() -> None:
    others = [(b"\1x\0", "PTR", b"\1y\0")] * 22
    with pytest.raises(DNSTemporaryError, match="names of other addresses"):
        read(POINTER, others)
    assert read(POINTER, others[:21]) == Answer((), 0)


LONG = struct.pack("!H", 0xC000 | 12 + len(POINTER.octets))
"""A pointer to the owner of the first record."""


@pytest.mark.parametrize(
    ("kind", "rows", "authorities"),
    [
        ("A", [(FIRST, "A", bytes(4))] * 240, 0),
        ("A", [(FIRST, "A", bytes(4)), *[(LONG, "A", bytes(4))] * 499], 0),
        ("A", [(FIRST, "NS", b"\0")] * 240, 240),
        ("MX", [(FIRST, "MX", b"\0\1" + LONG), *[(OURS, "MX", b"\0\1" + LONG)] * 499], 0),
        ("MX", [(ODD, "MX", b"\0\1" + LONG), *[(OURS, "MX", b"\0\1" + LONG)] * 499], 0),
        ("TXT", [(OURS, "TXT", b"\0" * 60_000)], 0),
        ("TXT", [(OURS, "TXT", (b"\xff" + b"\1" * 255) * 230)], 0),
        ("SRV", [(OURS, "SRV", bytes(6) + b"\4name\7example\3com\0")] * 500, 0),
        ("NSEC", [(OURS, "NSEC", b"\0" + b"".join(bytes([n, 32]) + b"\xff" * 32 for n in range(100)))], 0),
    ],
    ids=["owners", "pointers", "authority", "targets", "escapes", "strings", "octets", "dnspython", "bitmaps"],
)
def test_an_answer_that_takes_more_than_2_ms_of_cpu_is_not_read(kind: str, rows: list[Row], authorities: int) -> None:
    """Without a bound these took 4 to 225 ms of CPU."""
    name = "1.2.0.192.in-addr.arpa"  # as long as in LONG
    with pytest.raises(DNSTemporaryError, match="it takes too long to read"):
        read(Question.parse(name, kind), rows, authorities=authorities)


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        ("A", [(OURS, "A", bytes(4))] * 500),
        ("AAAA", [(OURS, "AAAA", bytes(16))] * 500),
        ("MX", [(OURS, "MX", b"\0\1\2mx\7example\3com\0")] * 200),
        ("NS", [(OURS, "NS", b"\2ns\7example\3com\0")] * 200),
        ("TXT", [(OURS, "TXT", b"\xc8" + b"x" * 200)] * 250),
        ("TXT", [(OURS, "TXT", b"\xc8" + b"\xe4" * 200)] * 40),
        ("SRV", [(OURS, "SRV", bytes(6) + b"\4name\7example\3com\0")] * 15),
        ("TLSA", [(OURS, "TLSA", b"\3\1\1" + bytes(32))] * 10),
    ],
)
def test_answers_far_beyond_the_usual_are_read(kind: str, rows: list[Row]) -> None:
    assert len(read(Question.parse("mx.example", kind), rows).texts) == len(rows)
