"""One question of DNS and the answer to it, as octets and as values.

dnspython's ``Message`` would do all of this in one call, at 145 µs a question; its parts (names, record data and the
parser that checks every bound) take 40 µs and are what is used here. Pure: this module knows no sockets, no servers,
no clock and no cache.

* RFC 1035 §4.1: the message; §5.1: how record data is written as text. RFC 6891 §6.1.2: the OPT record.
* RFC 1034 §3.6.2: aliases are followed inside the answer, as the resolver gave them.
* RFC 2308 §2.1, §2.2: NXDOMAIN, NODATA, and a referral, which is neither; §5: how long a negative answer may be kept.
* RFC 2181 §5.2, §8: the shortest TTL counts, and one over 31 bits is none.
* RFC 5452 §9.1: what a datagram must hold to be the answer; §9.2: unpredictable numbers are the caller's part.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self, cast

import dns.exception
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.wire
from dns.rdatatype import RdataType
from dns.rdtypes.ANY.CNAME import CNAME
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.NS import NS
from dns.rdtypes.ANY.PTR import PTR
from dns.rdtypes.ANY.SOA import SOA
from dns.rdtypes.ANY.TXT import TXT
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.AAAA import AAAA

from gatepost.errors import DNSError, DNSTemporaryError

MAX_TTL = 86_400
"""Seconds that an answer is kept at most."""

MAX_NEGATIVE_TTL = 900
"""Seconds that a negative answer is kept at most: a new listing or host name is seen within a quarter of an hour."""

MAX_RECORDS = 500
"""A client owns its reverse zone. An answer with more records than this would stall the loop, and is not read."""

MAX_ALIASES = 16
"""Aliases followed in one answer."""

_HEADER = struct.Struct("!6H")
_PAYLOAD = 1232  # what passes every path in one piece
_OPT = struct.pack("!BHHIH", 0, RdataType.OPT, _PAYLOAD, 0, 0)

_RESPONSE, _TRUNCATED, _RECURSION_DESIRED = 0x8000, 0x0200, 0x0100
_OPCODE, _RCODE = 0x7800, 0x000F


@dataclass(frozen=True, slots=True)
class Answer:
    """What DNS says: ``texts``, empty for NXDOMAIN and NODATA, and for how many seconds it holds (0: only now)."""

    texts: tuple[str, ...]
    ttl: int


@dataclass(frozen=True, slots=True)
class Question:
    """A name and a kind of record; ``octets`` is the entry of the question section."""

    name: dns.name.Name
    kind: RdataType
    octets: bytes

    @classmethod
    def parse(cls, name: str, kind: str) -> Self:
        """Return the question for ``name``, which is absolute with or without its last dot.

        Raises DNSError for a name that is none (RFC 1035 §2.3.4; names beyond ASCII are to be given as A-labels) and
        for a kind that nobody can ask for.
        """
        try:
            absolute = dns.name.from_text(_ascii(name))
            rdatatype = dns.rdatatype.from_text(kind)
        except (dns.exception.DNSException, ValueError, struct.error) as error:  # the last: dnspython before 2.9
            raise DNSError(f"{name!r} {kind}: not a question that DNS knows: {error}") from error
        if dns.rdatatype.is_metatype(rdatatype):
            raise DNSError(f"{name!r} {kind}: not a kind of record")
        octets = absolute.to_digestable() + struct.pack("!HH", rdatatype, dns.rdataclass.IN)
        return cls(absolute, rdatatype, octets)

    def asked(self, number: int) -> bytes:
        """Return the whole query with the id ``number``, recursion desired."""
        return _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 1) + self.octets + _OPT

    def is_answered(self, number: int, octets: bytes) -> bool:
        """Whether ``octets`` is a response to this very query: id, opcode, and the question octet for octet."""
        if len(octets) < _HEADER.size or not octets.startswith(self.octets, _HEADER.size):
            return False
        echo, flags, questions, *_ = _HEADER.unpack_from(octets)
        return bool(echo == number and flags & _RESPONSE and not flags & _OPCODE and questions == 1)

    def __str__(self) -> str:
        return f"{self.name.to_text(omit_final_dot=True)} {dns.rdatatype.to_text(self.kind)}"


def is_truncated(octets: bytes) -> bool:
    """Whether the response must be asked for again over TCP (RFC 1035 §4.2.1)."""
    return bool(_HEADER.unpack_from(octets)[1] & _TRUNCATED)


def read(question: Question, octets: bytes) -> Answer:
    """Return what the response ``octets``, for which ``is_answered`` holds, says.

    Raises DNSTemporaryError when it leaves us not knowing: SERVFAIL, REFUSED and their like, a referral, more than
    ``MAX_RECORDS`` records, or octets that are no message.
    """
    _, flags, _, answers, authorities, _ = _HEADER.unpack_from(octets)
    rcode = dns.rcode.Rcode(flags & _RCODE)
    if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise DNSTemporaryError(dns.rcode.to_text(rcode))
    if answers + authorities > MAX_RECORDS:
        raise DNSTemporaryError(f"more than {MAX_RECORDS} records")
    try:
        parser = dns.wire.Parser(octets, _HEADER.size + len(question.octets))
        found, ttl = _follow(question, _records(parser, answers))
        if found and rcode == dns.rcode.NOERROR:
            return Answer(tuple(_text(record.rdata) for record in found), ttl)
        return Answer((), min(ttl, _negative_ttl(rcode, list(_records(parser, authorities)))))
    except dns.exception.DNSException as error:
        raise DNSTemporaryError(f"an answer that cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class _Record:
    owner: tuple[bytes, ...]
    kind: int
    ttl: int
    rdata: dns.rdata.Rdata


def _records(parser: dns.wire.Parser, count: int) -> Iterator[_Record]:
    for _ in range(count):
        owner = dns.name.from_wire_parser(parser)
        kind, rdataclass, ttl, length = parser.get_struct("!HHIH")
        with parser.restrict_to(length):
            rdata = dns.rdata.from_wire_parser(rdataclass, kind, parser)
        yield _Record(_folded(owner), kind, ttl if ttl < 1 << 31 else 0, rdata)


def _folded(name: dns.name.Name) -> tuple[bytes, ...]:
    """Return the labels without regard to case; much cheaper to compare than a ``Name``."""
    return tuple([label.lower() for label in name.labels])


def _follow(question: Question, records: Iterable[_Record]) -> tuple[list[_Record], int]:
    """Return the records that answer, at the end of the aliases, and the shortest TTL on the way there."""
    owned: dict[tuple[bytes, ...], list[_Record]] = defaultdict(list)
    for record in records:
        owned[record.owner].append(record)
    owner, ttl = _folded(question.name), MAX_TTL
    for _ in range(MAX_ALIASES):
        found = [record for record in owned[owner] if record.kind == question.kind]
        ttl = min([ttl, *(record.ttl for record in found)])
        alias = next((record for record in owned[owner] if record.kind == RdataType.CNAME), None)
        if found or alias is None:
            return found, ttl
        owner, ttl = _folded(cast(CNAME, alias.rdata).target), min(ttl, alias.ttl)
    raise DNSTemporaryError(f"more than {MAX_ALIASES} aliases")


def _negative_ttl(rcode: int, authority: list[_Record]) -> int:
    for record in authority:
        if record.kind == RdataType.SOA:
            return min(record.ttl, cast(SOA, record.rdata).minimum, MAX_NEGATIVE_TTL)
    if rcode == dns.rcode.NOERROR and any(record.kind == RdataType.NS for record in authority):
        raise DNSTemporaryError("a referral: this server does not resolve for us")
    return 0


def _ascii(name: str) -> str:
    if not name or not name.isascii():
        raise ValueError("a name is A-labels with dots between them")
    # dnspython takes the zone file's sign for "the origin" as the root.
    return "\\@" if name == "@" else name


def _text(rdata: dns.rdata.Rdata) -> str:
    match rdata:
        case A() | AAAA():
            return str(rdata.address)
        case PTR() | NS() | CNAME():
            return _host(rdata.target)
        case MX():
            return f"{rdata.preference} {_host(rdata.exchange)}"
        case TXT():
            return _printable(b"".join(rdata.strings))
    return str(rdata.to_text())


def _host(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _printable(octets: bytes) -> str:
    """Return text that is fit for a log or a reply: whatever is not printable ASCII as \\DDD (RFC 1035 §5.1)."""
    return "".join(chr(octet) if 32 <= octet < 127 else f"\\{octet:03d}" for octet in octets)
