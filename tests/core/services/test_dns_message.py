"""Reading what a DNS server, or somebody who would like to be one, sends."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.errors import DNSTemporaryError
from gatepost.services.dns_message import MAX_ALIASES, MAX_RECORDS, Answer, Question, is_truncated, read

MX = Question.parse("mx.example", "A")
SOA = "example. {ttl} IN SOA ns.example. hostmaster.example. 1 2 3 4 {minimum}"


def response(*answer: str, authority: tuple[str, ...] = (), question: Question = MX) -> dns.message.Message:
    """Return a response to query 7 with the records given as "owner TTL IN KIND data"."""
    message = dns.message.make_response(dns.message.from_wire(question.asked(7)))
    message.answer = [dns.rrset.from_text(*_fields(line)) for line in answer]
    message.authority = [dns.rrset.from_text(*_fields(line)) for line in authority]
    return message


def _fields(line: str) -> tuple[str, int, str, str, str]:
    owner, ttl, rdataclass, kind, rdata = line.split(maxsplit=4)
    return owner, int(ttl), rdataclass, kind, rdata


def answer(*lines: str, **more: tuple[str, ...]) -> Answer:
    return read(MX, response(*lines, **more).to_wire(max_size=65_535))


def test_a_query_is_one_that_others_can_read() -> None:
    query = dns.message.from_wire(MX.asked(513))

    assert query.id == 513 and query.flags == dns.flags.RD
    assert str(query.question[0]) == "mx.example. IN A"
    assert (query.edns, query.payload) == (0, 1232)


def test_the_shortest_ttl_on_the_way_counts() -> None:
    lines = ("mx.example. 300 IN CNAME a.example.", "a.example. 40 IN CNAME b.example.", "b.example. 60 IN A 192.0.2.1")

    assert answer(*lines) == answer(*reversed(lines)) == Answer(("192.0.2.1",), 40)


def test_the_case_of_names_does_not_count() -> None:
    octets = response("mx.example. 300 IN CNAME a.example.", "b.example. 300 IN A 192.0.2.1").to_wire()

    assert read(MX, octets).texts == ()
    assert read(MX, octets.replace(b"\x01b", b"\x01A")).texts == ("192.0.2.1",)
    assert Question.parse("M\\088.Example", "a") == MX


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

    assert read(MX, message.to_wire()) == Answer((), kept)


def test_an_alias_to_nothing_holds_no_longer_than_the_alias() -> None:
    soa = SOA.format(ttl=300, minimum=300)

    assert answer("mx.example. 30 IN CNAME a.example.", authority=(soa,)) == Answer((), 30)


def test_a_ttl_over_31_bits_is_none() -> None:
    octets = bytearray(response("mx.example. 1 IN A 192.0.2.1").to_wire())
    octets[octets.rindex(b"\x00\x00\x00\x01\x00\x04")] = 0x80

    assert read(MX, bytes(octets)) == Answer(("192.0.2.1",), 0)


def test_a_name_server_and_nothing_else_is_a_referral_and_no_answer() -> None:
    authority = ("example. 300 IN NS ns.example.",)
    with pytest.raises(DNSTemporaryError, match="referral"):
        answer(authority=authority)

    assert answer(authority=(*authority, SOA.format(ttl=9, minimum=9))) == Answer((), 9)


def test_nxdomain_is_nothing_whatever_else_is_in_the_answer() -> None:
    message = response("mx.example. 300 IN A 192.0.2.1", authority=("example. 300 IN NS ns.example.",))
    message.set_rcode(dns.rcode.NXDOMAIN)

    assert read(MX, message.to_wire()) == Answer((), 0)


def test_an_endless_chain_of_aliases_ends() -> None:
    with pytest.raises(DNSTemporaryError, match=f"more than {MAX_ALIASES} aliases"):
        answer("mx.example. 300 IN CNAME a.example.", "a.example. 300 IN CNAME mx.example.")


def test_an_answer_with_absurdly_many_records_is_not_read() -> None:
    lines = [f"mx.example. 300 IN A 10.0.{number >> 8}.{number & 255}" for number in range(MAX_RECORDS + 1)]

    assert len(answer(*lines[1:]).texts) == MAX_RECORDS
    for sections in ({"answer": lines}, {"answer": lines[:400], "authority": lines[400:]}):
        with pytest.raises(DNSTemporaryError, match=f"more than {MAX_RECORDS} records"):
            read(
                MX,
                response(*sections["answer"], authority=tuple(sections.get("authority", ()))).to_wire(max_size=65_535),
            )


@pytest.mark.parametrize("rcode", ["FORMERR", "SERVFAIL", "NOTIMP", "REFUSED", "YXDOMAIN"])
def test_every_other_rcode_means_that_nobody_knows(rcode: str) -> None:
    message = response("mx.example. 300 IN A 192.0.2.1")
    message.set_rcode(dns.rcode.from_text(rcode))

    with pytest.raises(DNSTemporaryError, match=rcode):
        read(MX, message.to_wire())


def test_only_a_response_to_this_query_is_an_answer() -> None:
    good = response("mx.example. 300 IN A 192.0.2.1").to_wire()
    status = response()
    status.set_opcode(dns.opcode.STATUS)
    others = [Question.parse(*asked).asked(7) for asked in (("mx.example", "AAAA"), ("mx2.example", "A"))]

    assert MX.is_answered(7, good) and not is_truncated(good)
    assert not MX.is_answered(8, good)
    assert not MX.is_answered(7, MX.asked(7))
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
        texts = read(question, bytes(octets[: max(end % 200, 12 + len(question.octets))])).texts
    except DNSTemporaryError:
        return
    assert all(text.isascii() and text.isprintable() for text in texts)
