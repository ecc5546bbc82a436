"""One question of DNS and the answer to it, as octets and as values.

dnspython's ``Message`` would do all of this in one call, at 145 µs a question. Nearly all that a mail gate asks are
usual names, and nearly all that it is told are addresses, names and "nothing": these are written and read here. What
is left to dnspython is what is rare: names with other octets than host names have, and record data of other kinds.
Pure: this module knows no sockets, no servers, no clock and no cache.

* RFC 1035 §4.1: the message, §4.1.4: compressed names; §5.1: how record data is written as text. RFC 6891 §6.1.2: the
  OPT record.
* RFC 1034 §3.6.2: aliases are followed inside the answer, as the resolver gave them.
* RFC 2308 §2.1, §2.2: NXDOMAIN, NODATA, and a referral, which is neither; §5: how long a negative answer may be kept.
* RFC 2181 §5.2, §8: the shortest TTL counts, and one over 31 bits is none.
* RFC 5452 §9.1: what a datagram must hold to be the answer; §9.2: unpredictable numbers are the caller's part.
"""

from __future__ import annotations

import re
import struct
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Any, Final, NamedTuple, Self

import dns.exception
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.rdatatype import RdataType

from gatepost.errors import DNSError, DNSTemporaryError

MAX_TTL: Final = 86_400
"""Seconds that an answer is kept at most."""

MAX_NEGATIVE_TTL: Final = 900
"""Seconds that a negative answer is kept at most: a new listing or host name is seen within a quarter of an hour."""

MAX_RECORDS: Final = 500
"""A client owns its reverse zone. An answer with more records than this would stall the loop, and is not read."""

MAX_ALIASES: Final = 16
"""Aliases followed in one answer."""

Labels = tuple[bytes, ...]
"""A name without the root: (b"mx", b"example"), in lower case, for the case of names does not count."""

# Plain numbers: to look up a member of an enum, or to compare with it, takes longer than all the rest of a comparison.
_NOERROR, _NXDOMAIN, _IN = int(dns.rcode.NOERROR), int(dns.rcode.NXDOMAIN), int(dns.rdataclass.IN)
_A, _AAAA, _CNAME, _MX = int(RdataType.A), int(RdataType.AAAA), int(RdataType.CNAME), int(RdataType.MX)
_NS, _PTR, _SOA, _TXT = int(RdataType.NS), int(RdataType.PTR), int(RdataType.SOA), int(RdataType.TXT)

_HEADER: Final = struct.Struct("!6H")
_KIND_AND_CLASS: Final = struct.Struct("!HH")
_RECORD: Final = struct.Struct("!HHIH")
_PAYLOAD: Final = 1232  # what passes every path in one piece
_OPT: Final = struct.pack("!BHHIH", 0, RdataType.OPT, _PAYLOAD, 0, 0)

_RESPONSE, _TRUNCATED, _RECURSION_DESIRED = 0x8000, 0x0200, 0x0100
_OPCODE, _RCODE = 0x7800, 0x000F

_LABEL, _POINTER = 0x40, 0xC0  # a label is shorter than the one, a pointer begins with the other
_TO_QUESTION: Final = struct.pack("!H", _POINTER << 8 | _HEADER.size)
_MAX_NAME: Final = 254  # octets, without the root's
_MAX_STEPS: Final = 255  # a name has at most 127 labels; a pointer before each is more than any server writes
_NO_TTL: Final = 1 << 31
_MIN_SOA: Final = 22  # octets: two names and five numbers, of which the last is the minimum

_USUAL: Final = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}")


@dataclass(frozen=True, slots=True)
class Answer:
    """What DNS says: ``texts``, empty for NXDOMAIN and NODATA, and for how many seconds it holds (0: only now)."""

    texts: tuple[str, ...]
    ttl: int


@dataclass(frozen=True, slots=True)
class Question:
    """A name and a kind of record; ``octets`` is the entry of the question section."""

    name: Labels
    kind: int
    octets: bytes

    @classmethod
    def parse(cls, name: str, kind: str) -> Self:
        """Return the question for ``name``, which is absolute with or without its last dot.

        Raises DNSError for a name that is none (RFC 1035 §2.3.4; names beyond ASCII are to be given as A-labels) and
        for a kind that nobody can ask for.
        """
        try:
            labels = _labels_of(name)
            number = _kind(kind)
        except (dns.exception.DNSException, ValueError, struct.error) as error:  # the last: dnspython before 2.9
            raise DNSError(f"{name!r} {kind}: not a question that DNS knows: {error}") from error
        octets = b"".join([b"%c%b" % (len(label), label) for label in labels])
        return cls(labels, number, octets + b"\0" + _KIND_AND_CLASS.pack(number, _IN))

    def asked(self, number: int) -> bytes:
        """Return the whole query with the id ``number``, recursion desired."""
        return _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 1) + self.octets + _OPT

    def is_answered(self, number: int, octets: bytes) -> bool:
        """Whether ``octets`` is a response to this very query: id, opcode, and the question octet for octet."""
        if not octets.startswith(self.octets, _HEADER.size):
            return False
        echo, flags, questions, _, _, _ = _HEADER.unpack_from(octets)
        return bool(echo == number and flags & (_RESPONSE | _OPCODE) == _RESPONSE and questions == 1)

    def __str__(self) -> str:
        return f"{_host(self.name)} {dns.rdatatype.to_text(RdataType.make(self.kind))}"


def is_truncated(octets: bytes) -> bool:
    """Whether the response must be asked for again over TCP (RFC 1035 §4.2.1)."""
    return bool(octets[2] << 8 & _TRUNCATED)


def read(question: Question, octets: bytes) -> Answer:
    """Return what the response ``octets``, for which ``is_answered`` holds, says.

    Raises DNSTemporaryError when it leaves us not knowing: SERVFAIL, REFUSED and their like, a referral, more than
    ``MAX_RECORDS`` records, or octets that are no message.
    """
    _, flags, _, answers, authorities, _ = _HEADER.unpack_from(octets)
    rcode = flags & _RCODE
    if rcode not in (_NOERROR, _NXDOMAIN):
        raise DNSTemporaryError(dns.rcode.to_text(dns.rcode.Rcode(rcode)))
    if answers + authorities > MAX_RECORDS:
        raise DNSTemporaryError(f"more than {MAX_RECORDS} records")
    try:
        records, end = _records(octets, _HEADER.size + len(question.octets), answers)
        found, ttl = _follow(question, octets, records)
        if found and rcode == _NOERROR:
            return Answer(tuple([_text(octets, record) for record in found]), ttl)
        return Answer((), min(ttl, _negative_ttl(rcode, octets, _records(octets, end, authorities)[0])))
    except (dns.exception.DNSException, ValueError, IndexError, struct.error) as error:
        raise DNSTemporaryError(f"an answer that cannot be read: {error}") from error


class _Record(NamedTuple):
    """A record and where it stands: its name begins at ``owner``, its data is ``octets[start:end]``."""

    owner: int
    kind: int
    ttl: int
    start: int
    end: int


def _records(octets: bytes, at: int, count: int) -> tuple[list[_Record], int]:
    """Return the records of a section that begins at ``at``, and where it ends. Other classes than IN are left out."""
    records = []
    for _ in range(count):
        fixed = _behind(octets, at)
        kind, rdataclass, ttl, length = _RECORD.unpack_from(octets, fixed)
        start = fixed + _RECORD.size
        end = start + length
        if end > len(octets):
            raise ValueError("a record reaches beyond the end")
        if rdataclass == _IN:
            records.append(_Record(at, kind, ttl if ttl < _NO_TTL else 0, start, end))
        at = end
    return records, at


def _follow(question: Question, octets: bytes, records: list[_Record]) -> tuple[list[_Record], int]:
    """Return the records that answer, at the end of the aliases, and the shortest TTL on the way there."""
    if not records:
        return records, MAX_TTL
    owned: dict[Labels, list[_Record]] = defaultdict(list)
    for record in records:
        to_question = octets.startswith(_TO_QUESTION, record.owner)  # what nearly every server writes there
        owned[question.name if to_question else _labels_at(octets, record.owner)].append(record)
    owner, ttl = question.name, MAX_TTL
    for _ in range(MAX_ALIASES):
        found = [record for record in owned[owner] if record.kind == question.kind]
        if found:
            return found, min([ttl, *[record.ttl for record in found]])
        alias = next((record for record in owned[owner] if record.kind == _CNAME), None)
        if alias is None:
            return found, ttl
        owner, ttl = _target(octets, alias.start, alias.end), min(ttl, alias.ttl)
    raise DNSTemporaryError(f"more than {MAX_ALIASES} aliases")


def _negative_ttl(rcode: int, octets: bytes, authority: list[_Record]) -> int:
    for record in authority:
        if record.kind == _SOA:
            if record.end - record.start < _MIN_SOA:
                raise ValueError("an SOA that is too short")
            minimum = int.from_bytes(octets[record.end - 4 : record.end], "big")
            return min(record.ttl, minimum if minimum < _NO_TTL else 0, MAX_NEGATIVE_TTL)
    if rcode == _NOERROR and any(record.kind == _NS for record in authority):
        raise DNSTemporaryError("a referral: this server does not resolve for us")
    return 0


# Names


def _behind(octets: bytes, at: int) -> int:
    """Return where what follows the name at ``at`` begins."""
    while length := octets[at]:
        if length >= _POINTER:
            return at + 2
        if length >= _LABEL:
            raise ValueError("a label of a kind that nobody uses")
        at += 1 + length
    return at + 1


def _labels_at(octets: bytes, at: int) -> Labels:
    """Return the name at ``at``. A pointer may only lead back, and no name is read for ever."""
    labels: list[bytes] = []
    for _ in range(_MAX_STEPS):
        length = octets[at]
        if not length:
            break
        if length < _LABEL:
            at += 1 + length
            labels.append(octets[at - length : at].lower())  # one that is cut short has nothing behind it: IndexError
            continue
        target = (length - _POINTER) << 8 | octets[at + 1]
        if not 0 <= target < at:
            raise ValueError("a name that leads nowhere")
        at = target
    else:
        raise ValueError("a name without an end")
    if len(labels) + sum(map(len, labels)) > _MAX_NAME:
        raise ValueError("a name that is too long")
    return tuple(labels)


def _target(octets: bytes, start: int, end: int) -> Labels:
    """Return the name that is the whole of the record data, or the rest of it."""
    if _behind(octets, start) != end:
        raise ValueError("a name that is not as long as its record says")
    return _labels_at(octets, start)


def _labels_of(name: str) -> Labels:
    plain = name.removesuffix(".")
    if len(plain) < _MAX_NAME and _USUAL.fullmatch(plain):
        return tuple(plain.lower().encode("ascii").split(b"."))
    if not name or not name.isascii():
        raise ValueError("a name is A-labels with dots between them")
    # dnspython takes the zone file's sign for "the origin" as the root.
    return tuple([label.lower() for label in dns.name.from_text("\\@" if name == "@" else name).labels[:-1]])


def _host(name: Labels) -> str:
    text = b".".join(name).decode("latin-1")
    if text.count(".") < len(name) and _USUAL.fullmatch(text):  # no dot is part of a label
        return text
    return dns.name.Name([*name, b""]).to_text(omit_final_dot=True)


# Kinds of records


@lru_cache(maxsize=256)
def _kind(text: str) -> int:
    kind = dns.rdatatype.from_text(text)
    if dns.rdatatype.is_metatype(kind):
        raise ValueError("not a kind of record")
    return int(kind)


def _text(octets: bytes, record: _Record) -> str:
    _, kind, _, start, end = record
    if kind == _A:
        return inet_ntop(AF_INET, octets[start:end])
    if kind == _AAAA:
        return inet_ntop(AF_INET6, octets[start:end])
    if kind in (_PTR, _CNAME, _NS):
        return _host(_target(octets, start, end))
    if kind == _MX:
        return f"{int.from_bytes(octets[start : start + 2], 'big')} {_host(_target(octets, start + 2, end))}"
    rdata: Any = dns.rdata.from_wire(dns.rdataclass.IN, RdataType.make(kind), octets, start, end - start)
    return _printable(b"".join(rdata.strings) if kind == _TXT else rdata.to_text().encode())


def _printable(octets: bytes) -> str:
    """Return text that is fit for a log or a reply: whatever is not printable ASCII as \\DDD (RFC 1035 §5.1)."""
    return "".join(chr(octet) if 32 <= octet < 127 else f"\\{octet:03d}" for octet in octets)
