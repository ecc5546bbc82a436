"""Reading what a DNS server, or somebody who would like to be one, sends."""

from __future__ import annotations

import itertools
import string
import struct
from typing import Any

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.errors import DNSError, DNSTemporaryError
from gatepost.services.dns.message import Answer, Question, is_truncated, read_answer

MX = Question.parse("mx.example", "A")
SOA = "example. {ttl} IN SOA ns.example. hostmaster.example. 1 2 3 4 {minimum}"


def response(*answer: str, authority: tuple[str, ...] = (), question: Question = MX) -> dns.message.Message:
    """Return a response to query 7 with the records given as "owner TTL IN KIND data"."""
    message = dns.message.make_response(dns.message.from_wire(question.query(7)))
    message.answer = [dns.rrset.from_text(*_fields(line)) for line in answer]
    message.authority = [dns.rrset.from_text(*_fields(line)) for line in authority]
    return message


def _fields(line: str) -> tuple[str, int, str, str, str]:
    owner, ttl, rdataclass, kind, rdata = line.split(maxsplit=4)
    return owner, int(ttl), rdataclass, kind, rdata


def answer(*lines: str, **more: tuple[str, ...]) -> Answer:
    return read_answer(MX, response(*lines, **more).to_wire(max_size=65_535))


def test_a_query_is_one_that_others_can_read() -> None:
    query = dns.message.from_wire(MX.query(513))

    assert query.id == 513 and query.flags == dns.flags.RD
    assert str(query.question[0]) == "mx.example. IN A"
    assert (query.edns, query.payload) == (0, 1232)


def test_the_shortest_ttl_on_the_way_counts() -> None:
    lines = ("mx.example. 300 IN CNAME a.example.", "a.example. 40 IN CNAME b.example.", "b.example. 60 IN A 192.0.2.1")

    assert answer(*lines) == answer(*reversed(lines)) == Answer(("192.0.2.1",), 40)


def test_the_case_of_names_does_not_count() -> None:
    octets = response("mx.example. 300 IN CNAME a.example.", "b.example. 300 IN A 192.0.2.1").to_wire()

    assert read_answer(MX, octets).texts == ()
    assert read_answer(MX, octets.replace(b"\x01b", b"\x01A")).texts == ("192.0.2.1",)
    assert Question.parse("M\\088.Example", "a") == MX


@given(st.text(string.ascii_letters + string.digits + "-_.@\\*\0\n\u212aé", max_size=12) | st.text(max_size=300))
def test_a_name_is_written_as_dnspython_writes_it(name: str) -> None:
    try:
        octets = dns.name.from_text("\\@" if name == "@" else name).to_digestable() if name.isascii() and name else None
    except (dns.exception.DNSException, struct.error):
        octets = None
    if octets is None:
        with pytest.raises(DNSError):
            Question.parse(name, "A")
    else:
        assert Question.parse(name, "A").octets == octets + b"\0\1\0\1"


@pytest.mark.parametrize("length", [252, 253, 254])
@pytest.mark.parametrize("end", ["", "."])
def test_a_name_has_253_octets_at_most(length: int, end: str) -> None:
    name = ("x" * 49 + ".") * 5 + "y" * (length - 250)
    if length > 253:
        with pytest.raises(DNSError):
            Question.parse(name + end, "A")
    else:
        assert Question.parse(name + end, "A").octets == dns.name.from_text(name).to_wire() + b"\0\1\0\1"
        assert str(Question.parse(name + end, "A")) == f"{name} A"


def test_the_sign_for_the_origin_is_a_name_like_any_other() -> None:
    assert Question.parse("@", "A").octets == b"\x01@\x00\x00\x01\x00\x01"


def test_records_of_other_names_are_not_ours() -> None:
    assert answer("mx2.example. 300 IN A 192.0.2.1", "mx.example. 300 IN AAAA ::1").texts == ()


@pytest.mark.parametrize(("ttl", "minimum", "kept"), [(60, 300, 60), (300, 60, 60), (86_400, 86_400, 900), (0, 9, 0)])
@pytest.mark.parametrize("rcode", [dns.rcode.NOERROR, dns.rcode.NXDOMAIN])
def test_a_negative_answer_holds_for_the_lesser_of_the_soa_s_ttl_and_minimum(
    rcode: dns.rcode.Rcode, ttl: int, minimum: int, kept: int
) -> None:
    message = response(authority=(SOA.format(ttl=ttl, minimum=minimum),))
    message.set_rcode(rcode)

    assert read_answer(MX, message.to_wire()) == Answer((), kept)


def test_an_alias_to_nothing_holds_no_longer_than_the_alias() -> None:
    soa = SOA.format(ttl=300, minimum=300)

    assert answer("mx.example. 30 IN CNAME a.example.", authority=(soa,)) == Answer((), 30)


def test_a_ttl_over_31_bits_counts_as_zero() -> None:
    octets = bytearray(response("mx.example. 1 IN A 192.0.2.1").to_wire())
    octets[octets.rindex(b"\x00\x00\x00\x01\x00\x04")] = 0x80

    assert read_answer(MX, bytes(octets)) == Answer(("192.0.2.1",), 0)


def test_a_minimum_over_31_bits_counts_as_zero() -> None:
    octets = response(authority=(SOA.format(ttl=300, minimum=1),)).to_wire()
    octets = octets[: octets.rindex(b"\0\0\0\1")]

    assert read_answer(MX, octets + b"\x80\0\0\1") == Answer((), 0)


def test_a_name_server_and_nothing_else_is_a_referral_and_no_answer() -> None:
    authority = ("example. 300 IN NS ns.example.",)
    with pytest.raises(DNSTemporaryError, match="referral"):
        answer(authority=authority)

    assert answer(authority=(*authority, SOA.format(ttl=9, minimum=9))) == Answer((), 9)


def test_nxdomain_is_nothing_whatever_else_is_in_the_answer() -> None:
    message = response("mx.example. 300 IN A 192.0.2.1", authority=("example. 300 IN NS ns.example.",))
    message.set_rcode(dns.rcode.NXDOMAIN)

    assert read_answer(MX, message.to_wire()) == Answer((), 0)


def test_an_endless_chain_of_aliases_ends() -> None:
    with pytest.raises(DNSTemporaryError, match="more than 16 aliases"):
        answer("mx.example. 300 IN CNAME a.example.", "a.example. 300 IN CNAME mx.example.")


def test_an_answer_with_absurdly_many_records_is_not_read() -> None:
    lines = [f"mx.example. 300 IN A 10.0.{number >> 8}.{number & 255}" for number in range(501)]

    assert len(answer(*lines[1:]).texts) == 500
    for sections in ({"answer": lines}, {"answer": lines[:400], "authority": lines[400:]}):
        with pytest.raises(DNSTemporaryError, match="more than 500 records"):
            read_answer(
                MX,
                response(*sections["answer"], authority=tuple(sections.get("authority", ()))).to_wire(max_size=65_535),
            )


@pytest.mark.parametrize("rcode", ["FORMERR", "SERVFAIL", "NOTIMP", "REFUSED", "YXDOMAIN"])
def test_every_other_rcode_means_that_nobody_knows(rcode: str) -> None:
    message = response("mx.example. 300 IN A 192.0.2.1")
    message.set_rcode(dns.rcode.from_text(rcode))

    with pytest.raises(DNSTemporaryError, match=rcode):
        read_answer(MX, message.to_wire())


def test_only_a_response_to_this_query_is_an_answer() -> None:
    good = response("mx.example. 300 IN A 192.0.2.1").to_wire()
    status = response()
    status.set_opcode(dns.opcode.STATUS)
    others = [Question.parse(*asked).query(7) for asked in (("mx.example", "AAAA"), ("mx2.example", "A"))]

    assert MX.is_answered(7, good) and not is_truncated(good)
    assert not MX.is_answered(8, good)
    assert not MX.is_answered(7, MX.query(7))
    assert not MX.is_answered(7, status.to_wire())
    assert not MX.is_answered(7, good[:5] + b"\x02" + good[6:])
    assert not any(MX.is_answered(7, dns.message.make_response(dns.message.from_wire(o)).to_wire()) for o in others)
    assert not any(MX.is_answered(7, good[:length]) for length in range(12 + len(MX.octets)))


@given(
    st.lists(st.tuples(st.integers(min_value=12 + len(MX.octets)), st.integers(0, 255)), max_size=6),
    st.integers(min_value=12 + len(MX.octets)),
    st.sampled_from(["A", "MX", "TXT", "SOA", "PTR", "SRV"]),
)
def test_a_damaged_response_gives_printable_text_or_a_temporary_error(
    damage: list[tuple[int, int]], end: int, kind: str
) -> None:
    question = Question.parse("mx.example", kind)
    rdata = {"A": "192.0.2.1", "MX": "10 a.example.", "TXT": '"a" "b"', "PTR": "a.example.", "SRV": "1 2 3 a.example."}
    line = f"mx.example. 300 IN {kind} {rdata.get(kind, 'a.example. b.example. 1 2 3 4 5')}"
    octets = bytearray(response("mx.example. 9 IN CNAME mx.example.", line, question=question).to_wire())
    for at, octet in damage:
        octets[at % len(octets) if at % len(octets) > 12 + len(question.octets) else -1] = octet

    try:
        texts = read_answer(question, bytes(octets[: max(end % 200, 12 + len(question.octets))])).texts
    except DNSTemporaryError:
        return
    assert all(text.isascii() and text.isprintable() for text in texts)


# What dnspython reads in the same octets

LABELS = st.sampled_from([b"mx", b"MX", b"a-b_c", b"we.ird", b'\\"@', b"\xff\x00 "]) | st.binary(
    min_size=1, max_size=40
)
NAMES = st.lists(LABELS, max_size=6).map(lambda labels: dns.name.Name([*labels, b""]))
HOSTS = NAMES.map(lambda name: name.to_text())
NUMBERS = st.integers(0, 65_535).map(str)
TTLS = st.integers(0, (1 << 31) - 1)
RDATA = {
    "A": st.ip_addresses(v=4).map(str),
    "AAAA": st.ip_addresses(v=6).map(str),
    "PTR": HOSTS,
    "NS": HOSTS,
    "MX": st.tuples(NUMBERS, HOSTS).map(" ".join),
    "SRV": st.tuples(NUMBERS, NUMBERS, NUMBERS, HOSTS).map(" ".join),
    "TXT": st.lists(st.binary(max_size=60), min_size=1, max_size=3).map(
        lambda strings: " ".join('"' + "".join(f"\\{octet:03d}" for octet in text) + '"' for text in strings)
    ),
}


@st.composite
def responses(draw: st.DrawFn) -> tuple[Question, dns.message.Message]:
    """A question, and a response whose records are in any order: aliases, the end of them, others', an authority."""
    kind = draw(st.sampled_from(sorted(RDATA)))
    names = draw(st.lists(NAMES, min_size=2, max_size=8, unique=True))
    other, *chain = names
    question = Question.parse(chain[0].to_text(), kind)
    message = dns.message.make_response(dns.message.from_wire(question.query(7)))
    for alias, target in itertools.pairwise(chain):
        message.answer.append(dns.rrset.from_text(_cased(draw, alias), draw(TTLS), "IN", "CNAME", target.to_text()))
    for owner in draw(st.sets(st.sampled_from([chain[-1], other]))):
        found = draw(st.lists(RDATA[kind], min_size=1, max_size=4, unique=True))
        message.answer.append(dns.rrset.from_text_list(_cased(draw, owner), draw(TTLS), "IN", kind, found))
    message.answer = draw(st.permutations(message.answer))
    for _ in range(draw(st.integers(0, 1))):
        message.authority.append(dns.rrset.from_text(".", draw(TTLS), "IN", "NS", draw(HOSTS)))
    soa = f"{draw(HOSTS)} {draw(HOSTS)} 1 2 3 4 {draw(TTLS)}"
    message.authority.append(dns.rrset.from_text(".", draw(TTLS), "IN", "SOA", soa))
    return question, message


def _cased(draw: st.DrawFn, name: dns.name.Name) -> dns.name.Name:
    return dns.name.Name([label.swapcase() for label in name.labels]) if draw(st.booleans()) else name


def expected(octets: bytes) -> Answer:
    """Return the records, aliases and TTL as dnspython reads them."""
    chain = dns.message.from_wire(octets).resolve_chaining()  # type: ignore[attr-defined]
    if chain.answer is None:
        return Answer((), min(chain.minimum_ttl, 900))
    return Answer(tuple(_text(rdata) for rdata in chain.answer), min(chain.minimum_ttl, 86_400))


def _text(rdata: Any) -> str:
    match dns.rdatatype.to_text(rdata.rdtype):
        case "A" | "AAAA":
            return str(rdata.address)
        case "PTR" | "NS":
            return str(rdata.target.to_text(omit_final_dot=True)).lower()
        case "MX":
            return f"{rdata.preference} {rdata.exchange.to_text(omit_final_dot=True).lower()}"
        case "TXT":
            return "".join(chr(o) if 32 <= o < 127 else f"\\{o:03d}" for o in b"".join(rdata.strings))
    return str(rdata.to_text())


@given(responses())
def test_a_response_says_what_dnspython_reads_in_it(case: tuple[Question, dns.message.Message]) -> None:
    question, message = case
    octets = message.to_wire(max_size=65_535)

    assert question.is_answered(7, octets)
    assert read_answer(question, octets) == expected(octets)


# What nobody should send


def raw(*records: tuple[bytes, int, bytes], question: Question = MX, authorities: int = 0) -> bytes:
    """Return a response with these records (owner, kind, data), written as they are; the last are the authority."""
    header = struct.pack("!6H", 7, 0x8180, 1, len(records) - authorities, authorities, 0)
    written = (owner + struct.pack("!HHIH", kind, 1, 300, len(rdata)) + rdata for owner, kind, rdata in records)
    return header + question.octets + b"".join(written)


OURS = b"\xc0\x0c"
HERE = 12 + len(MX.octets)
A, CNAME, SOA_KIND, ADDRESS = 1, 5, 6, bytes(4)


@pytest.mark.parametrize(
    "octets",
    [
        raw((bytes([0xC0, HERE]), A, ADDRESS)),
        raw((bytes([1, 120, 0xC0, HERE]), A, ADDRESS)),
        raw((bytes([0xC0, HERE + 2]), A, ADDRESS), (bytes([0xC0, HERE]), A, ADDRESS)),
        raw((b"\xff\xff", A, ADDRESS)),
        raw((b"\x40" + bytes(64) + b"\0", A, ADDRESS)),
        raw((b"\x80\0", A, ADDRESS)),
        raw((b"\x3f" + b"x" * 63 + b"\x3f", CNAME, b"")),
        raw((b"\x3f" + b"x" * 63 + OURS, A, ADDRESS))[:-20],
        raw(((b"\x3f" + b"x" * 63) * 4 + b"\0", A, ADDRESS)),
        raw((b"\1x" * 128 + b"\0", A, ADDRESS)),
        raw((OURS, A, bytes(3))),
        raw((OURS, A, bytes(5))),
        raw((OURS, A, ADDRESS))[:-1],
        raw((OURS, CNAME, b"")),
        raw((OURS, CNAME, b"\1x")),
        raw((OURS, CNAME, b"\1x\0\0")),
        raw((OURS, SOA_KIND, bytes(21)), authorities=1),
        raw((OURS, SOA_KIND, bytes(22)), authorities=1)[:-1],
        raw()[:7] + b"\1" + raw()[8:],
    ],
)
def test_octets_that_cannot_be_read_are_a_temporary_error(octets: bytes) -> None:
    assert MX.is_answered(7, octets)
    with pytest.raises(DNSTemporaryError, match="cannot be read"):
        read_answer(MX, octets)


@pytest.mark.parametrize(
    ("kind", "rdata"),
    [
        ("AAAA", bytes(15)),
        ("MX", b"\0"),
        ("MX", b"\0\1"),
        ("MX", b"\0\1\1x\0\0"),
        ("PTR", b""),
        ("NS", b"\1"),
        ("TXT", b"\2x"),
        ("SRV", bytes(6)),
        ("CAA", b""),
    ],
)
def test_data_that_is_not_of_its_kind_is_a_temporary_error(kind: str, rdata: bytes) -> None:
    question = Question.parse("mx.example", kind)

    with pytest.raises(DNSTemporaryError, match="cannot be read"):
        read_answer(question, raw((OURS, question.kind, rdata), question=question))


def test_a_record_of_another_class_is_not_ours() -> None:
    octets = raw((OURS, A, ADDRESS), (OURS, A, b"\1\2\3\4"))

    assert read_answer(MX, octets.replace(b"\0\1\0\1\0\0\1\x2c\0\4\0", b"\0\1\0\3\0\0\1\x2c\0\4\0")).texts == (
        "1.2.3.4",
    )


@pytest.mark.parametrize(("length", "reads"), [(61, True), (62, False)])
def test_a_name_of_255_octets_is_read_and_no_longer_one(length: int, reads: bool) -> None:
    name = (b"\x3f" + b"x" * 63) * 3 + bytes([length]) + b"y" * length + b"\0"
    question = Question.parse("mx.example", "PTR")
    octets = raw((OURS, question.kind, name), question=question)

    if reads:
        assert len(read_answer(question, octets).texts[0]) == 253
    else:
        with pytest.raises(DNSTemporaryError, match="too long"):
            read_answer(question, octets)


def test_pointers_to_pointers_end_soon() -> None:
    """Each leads back, so there is no loop; but 500 names of 8000 pointers would be read for seconds."""
    start = HERE + 12
    pointers = b"\0\0" + b"".join(struct.pack("!H", 0xC000 | start + at) for at in range(0, 16_000, 2))
    octets = raw((OURS, 65_280, pointers), *((struct.pack("!H", 0xC000 | start + 16_000), A, ADDRESS),) * 499)

    with pytest.raises(DNSTemporaryError, match="too many parts"):
        read_answer(MX, octets)


KINDS = st.sampled_from(
    ["A", "AAAA", "PTR", "MX", "TXT", "SOA", "SRV", "CAA", "LOC", "NAPTR", "URI", "SVCB", "CNAME", "TYPE65280"]
)
DATA = st.lists(
    st.sampled_from([b"\0", b"\1", b"\3abc", OURS, b"\xc0\x2a", b"\xff"]) | st.binary(max_size=8), max_size=8
).map(b"".join)
OWNERS = st.just(OURS) | DATA


@given(
    KINDS,
    st.lists(st.tuples(OWNERS, st.sampled_from([A, CNAME, SOA_KIND, 2, None]), DATA), max_size=5),
    st.integers(0, 5),
    st.integers(0, 200),
)
def test_whatever_follows_the_question_gives_printable_text_or_a_temporary_error(
    kind: str, records: list[tuple[bytes, int | None, bytes]], authorities: int, cut: int
) -> None:
    question = Question.parse("mx.example", kind)
    ours = ((owner, question.kind if number is None else number, rdata) for owner, number, rdata in records)
    octets = raw(*ours, question=question, authorities=min(authorities, len(records)))

    try:
        texts = read_answer(question, octets[: max(len(octets) - cut, 12 + len(question.octets))]).texts
    except DNSTemporaryError:
        return
    assert all(text.isascii() and text.isprintable() for text in texts)


@given(st.binary(max_size=80), st.integers(0, 600), st.integers(0, 600))
def test_any_octets_behind_the_question_give_an_answer_or_a_temporary_error(
    tail: bytes, answers: int, others: int
) -> None:
    octets = struct.pack("!6H", 7, 0x8180, 1, answers, others, 0) + MX.octets + tail

    try:
        assert all(text.count(".") == 3 for text in read_answer(MX, octets).texts)
    except DNSTemporaryError:
        return
