"""DNS messages: the query for a question, and the answer in a response.

dnspython's ``Message`` does all of this in one call, which takes 145 µs a query. A mail server mostly asks for ordinary
host names and mostly gets addresses, host names and "no such name", so these are written and read here. The rest is
left to dnspython: names with octets that host names do not have, and record data of other types. This module does no
I/O and knows no servers, clock or cache.

Whoever connects to us chooses what stands in his reverse zone, so the work that goes into one response is bounded: see
``MAX_STEPS``.

* RFC 1035 §4.1: messages; §4.1.4: compressed names; §5.1: record data as text. RFC 6891 §6.1.2: the OPT record.
* RFC 1034 §3.6.2: aliases are followed within the answer, as the resolver put them there.
* RFC 2308 §2.1, §2.2: NXDOMAIN and NODATA, and referrals, which are neither; §5: the TTL of a negative answer.
* RFC 2181 §5.2, §8: the shortest TTL of a set counts; a TTL above 31 bits counts as 0.
* RFC 5452 §9.1: how a response must match its query. Unpredictable ids (§9.2) are up to the caller.
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
from gatepost.services.dns.resolver import MAX_NAMES

MAX_TTL: Final = 86_400
"""The longest time in seconds for which an answer may be cached."""

MAX_NEGATIVE_TTL: Final = 900
"""The same for a negative answer, so that a new listing or host name is seen within 15 minutes."""

MAX_RECORDS: Final = 500
"""An answer with more records is not read, unless it names an address: of that only the first names are read."""

MAX_STEPS: Final = 3000
"""Work that may go into one response: a step is a label, a pointer or the like, and takes at most 0.5 µs of CPU.

An answer that takes more is not read, so that none holds up the event loop for more than 2 ms. An answer of 500
addresses takes 2,000 steps, and one of 16 KiB of text about 300.
"""

MAX_ALIASES: Final = 16
"""The most aliases that are followed in one answer."""

Labels = tuple[bytes, ...]
"""A name without the root label, in lower case because case is ignored: (b"mx", b"example")."""

# Plain numbers, because looking up an enum member or comparing with one takes longer than everything around it.
_NOERROR, _NXDOMAIN, _IN = int(dns.rcode.NOERROR), int(dns.rcode.NXDOMAIN), int(dns.rdataclass.IN)
_A, _AAAA, _CNAME, _MX = int(RdataType.A), int(RdataType.AAAA), int(RdataType.CNAME), int(RdataType.MX)
_NS, _PTR, _SOA, _TXT = int(RdataType.NS), int(RdataType.PTR), int(RdataType.SOA), int(RdataType.TXT)

_HEADER: Final = struct.Struct("!6H")
_KIND_AND_CLASS: Final = struct.Struct("!HH")
_RECORD: Final = struct.Struct("!HHIH")
_PAYLOAD: Final = 1232  # fits one packet on practically every path (DNS flag day 2020)
_OPT: Final = struct.pack("!BHHIH", 0, RdataType.OPT, _PAYLOAD, 0, 0)

_RESPONSE, _TRUNCATED, _RECURSION_DESIRED = 0x8000, 0x0200, 0x0100
_OPCODE, _RCODE = 0x7800, 0x000F

_LABEL, _POINTER = 0x40, 0xC0  # a length octet below _LABEL begins a label, one from _POINTER up a pointer
_TO_QUESTION: Final = struct.pack("!H", _POINTER << 8 | _HEADER.size)  # a pointer to the name in the question section
_MAX_NAME: Final = 254  # octets, the root label not counted
_MAX_STEPS: Final = 255  # a name has at most 127 labels; no server writes more than one pointer before each
_NO_TTL: Final = 1 << 31
_MIN_SOA: Final = 22  # octets: two root names and five numbers, the last of which is the minimum TTL

_STEPS_OF_RECORD: Final = 4
_STEPS_OF_RDATA: Final = 100  # of what dnspython reads or writes
_STEPS_OF_OCTET: Final = 3
_STEPS_OF_BITMAP: Final = 100  # eight types, each of which has a name
_BITMAPS: Final = frozenset({int(RdataType.NXT), int(RdataType.NSEC), int(RdataType.NSEC3), int(RdataType.CSYNC)})
_OCTETS_A_STEP: Final = 64  # of text that is printable as it is
_ESCAPES: Final = {octet: f"\\{octet:03d}" for octet in (*range(32), *range(127, 256))}

_HOST_NAME: Final = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}")


@dataclass(frozen=True, slots=True)
class Answer:
    """The records as ``texts``, empty for NXDOMAIN and NODATA, and the ``ttl`` in seconds (0: must not be cached)."""

    texts: tuple[str, ...]
    ttl: int


@dataclass(frozen=True, slots=True)
class Question:
    """A name and a record type; ``octets`` is its entry in the question section of a message."""

    name: Labels
    kind: int
    octets: bytes

    @classmethod
    def parse(cls, name: str, kind: str) -> Self:
        """Return the question for ``name``, which is absolute with or without a trailing dot.

        Raises DNSError for an invalid name (RFC 1035 §2.3.4; names outside ASCII must be given as A-labels) and for a
        type that does not exist or cannot be queried.
        """
        try:
            labels = _labels_of(name)
            number = _kind(kind)
        except (dns.exception.DNSException, ValueError, struct.error) as error:  # the last: dnspython before 2.9
            raise DNSError(f"{name!r} {kind}: cannot be queried: {error}") from error
        octets = b"".join([b"%c%b" % (len(label), label) for label in labels])
        return cls(labels, number, octets + b"\0" + _KIND_AND_CLASS.pack(number, _IN))

    def query(self, query_id: int) -> bytes:
        """Return the message of a query with the id ``query_id``, recursion desired."""
        return _HEADER.pack(query_id, _RECURSION_DESIRED, 1, 0, 0, 1) + self.octets + _OPT

    def is_answered(self, query_id: int, octets: bytes) -> bool:
        """Return True when ``octets`` is a response to this query: same id, same opcode, and the same question."""
        if not octets.startswith(self.octets, _HEADER.size):
            return False
        echo, flags, questions, _, _, _ = _HEADER.unpack_from(octets)
        return bool(echo == query_id and flags & (_RESPONSE | _OPCODE) == _RESPONSE and questions == 1)

    def __str__(self) -> str:
        return f"{_host(self.name)} {dns.rdatatype.to_text(RdataType.make(self.kind))}"


def is_truncated(octets: bytes) -> bool:
    """Return True when the query must be repeated over TCP (RFC 1035 §4.2.1)."""
    return bool(octets[2] << 8 & _TRUNCATED)


def read_answer(question: Question, octets: bytes) -> Answer:
    """Return the answer in the response ``octets``, which must have passed ``is_answered``.

    Of the names in PTR records it returns at most ``MAX_NAMES``, and reads no others. Raises DNSTemporaryError when it
    is no answer: SERVFAIL, REFUSED and the like, a referral, more than ``MAX_RECORDS`` records, a malformed message, or
    one that takes more than ``MAX_STEPS`` to read.
    """
    _, flags, _, answers, authorities, _ = _HEADER.unpack_from(octets)
    rcode = flags & _RCODE
    if rcode not in (_NOERROR, _NXDOMAIN):
        raise DNSTemporaryError(dns.rcode.to_text(dns.rcode.Rcode(rcode)))
    # Aliases come first, as of a reverse zone that is delegated by RFC 2317.
    wanted = min(answers, MAX_ALIASES + MAX_NAMES) if question.kind == _PTR else answers
    if wanted + authorities > MAX_RECORDS:
        raise DNSTemporaryError(f"more than {MAX_RECORDS} records")
    try:
        response = _Response(octets)
        records, end = response.records(_HEADER.size + len(question.octets), wanted)
        found, ttl = response.follow(question, records)
        if found and rcode == _NOERROR:
            if question.kind == _PTR:
                found = found[:MAX_NAMES]
            return Answer(tuple([response.text(record) for record in found]), ttl)
        if wanted == answers:
            return Answer((), min(ttl, response.negative_ttl(rcode, response.records(end, authorities)[0])))
    except (dns.exception.DNSException, ValueError, IndexError, struct.error) as error:
        raise DNSTemporaryError(f"an answer that cannot be read: {error}") from error
    raise DNSTemporaryError("names of other addresses")


class _Record(NamedTuple):
    """A record and its position: its name begins at ``owner``, its data is ``octets[start:end]``."""

    owner: int
    kind: int
    ttl: int
    start: int
    end: int


class _Response:
    """The octets of a response, and how many steps may still be taken to read them. Its methods raise as they end."""

    __slots__ = ("octets", "steps_left")

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.steps_left = MAX_STEPS

    def spend(self, steps: int) -> None:
        """Count ``steps`` of work. Raises ValueError when there are too many."""
        self.steps_left -= steps
        if self.steps_left < 0:
            raise ValueError("it takes too long to read")

    def records(self, at: int, count: int) -> tuple[list[_Record], int]:
        """Return the IN records of the section that begins at ``at``, and the position behind the section."""
        records = []
        octets = self.octets
        for _ in range(count):
            self.spend(_STEPS_OF_RECORD)
            fixed = self.end_of_name(at)
            kind, rdataclass, ttl, length = _RECORD.unpack_from(octets, fixed)
            start = fixed + _RECORD.size
            end = start + length
            if end > len(octets):
                raise ValueError("a record that extends past the end")
            if rdataclass == _IN:
                records.append(_Record(at, kind, ttl if ttl < _NO_TTL else 0, start, end))
            at = end
        return records, at

    def follow(self, question: Question, records: list[_Record]) -> tuple[list[_Record], int]:
        """Follow the aliases; return the records at the end of the chain and the shortest TTL along it."""
        if not records:
            return records, MAX_TTL
        owned: dict[Labels, list[_Record]] = defaultdict(list)
        for record in records:
            to_question = self.octets.startswith(_TO_QUESTION, record.owner)  # nearly all servers write the owner so
            owned[question.name if to_question else self.labels_at(record.owner)].append(record)
        owner, ttl = question.name, MAX_TTL
        for _ in range(MAX_ALIASES):
            found = [record for record in owned[owner] if record.kind == question.kind]
            if found:
                return found, min([ttl, *[record.ttl for record in found]])
            alias = next((record for record in owned[owner] if record.kind == _CNAME), None)
            if alias is None:
                return found, ttl
            owner, ttl = self.target(alias.start, alias.end), min(ttl, alias.ttl)
        raise DNSTemporaryError(f"more than {MAX_ALIASES} aliases")

    def negative_ttl(self, rcode: int, authority: list[_Record]) -> int:
        """Return the TTL of a negative answer, 0 without an SOA (RFC 2308 §5). Raises DNSTemporaryError for a referral.

        That is an authority section with name servers and no SOA.
        """
        for record in authority:
            if record.kind == _SOA:
                if record.end - record.start < _MIN_SOA:
                    raise ValueError("an SOA that is too short")
                minimum = int.from_bytes(self.octets[record.end - 4 : record.end], "big")
                return min(record.ttl, minimum if minimum < _NO_TTL else 0, MAX_NEGATIVE_TTL)
        if rcode == _NOERROR and any(record.kind == _NS for record in authority):
            raise DNSTemporaryError("a referral: this server does not resolve for us")
        return 0

    # Names.

    def end_of_name(self, at: int) -> int:
        """Return the position behind the name at ``at``, without following its pointer."""
        octets, steps = self.octets, 0
        while length := octets[at]:
            if length >= _POINTER:
                self.spend(steps)
                return at + 2
            if length >= _LABEL:
                raise ValueError("a label of an unknown type")
            at += 1 + length
            steps += 1
        self.spend(steps)
        return at + 1

    def labels_at(self, at: int) -> Labels:
        """Return the name at ``at``. Pointers may only lead backwards, and steps are limited, so this always ends."""
        octets = self.octets
        labels: list[bytes] = []
        for step in range(_MAX_STEPS):
            length = octets[at]
            if not length:
                self.spend(step)
                break
            if length < _LABEL:
                at += 1 + length
                # If the message ends here, the next step is an IndexError.
                labels.append(octets[at - length : at].lower())
                continue
            target = (length - _POINTER) << 8 | octets[at + 1]
            if not 0 <= target < at:
                raise ValueError("a pointer that does not lead backwards")
            at = target
        else:
            raise ValueError("a name of too many parts")
        if len(labels) + sum(map(len, labels)) > _MAX_NAME:
            raise ValueError("a name that is too long")
        return tuple(labels)

    def target(self, start: int, end: int) -> Labels:
        """Return the name that begins at ``start`` and must fill the record data up to ``end``."""
        if self.end_of_name(start) != end:
            raise ValueError("a name that does not fill its record")
        return self.labels_at(start)

    # Record data.

    def text(self, record: _Record) -> str:
        """Return the record data as text, in the form that ``Resolver.query`` describes."""
        octets, kind, start, end = self.octets, record.kind, record.start, record.end
        if kind == _A:
            return inet_ntop(AF_INET, octets[start:end])
        if kind == _AAAA:
            return inet_ntop(AF_INET6, octets[start:end])
        if kind in (_PTR, _CNAME, _NS):
            return self.host(self.target(start, end))
        if kind == _MX:
            return f"{int.from_bytes(octets[start : start + 2], 'big')} {self.host(self.target(start + 2, end))}"
        if kind == _TXT:
            return self.strings(start, end)
        self.spend(_STEPS_OF_RDATA + (end - start) * (_STEPS_OF_BITMAP if kind in _BITMAPS else _STEPS_OF_OCTET))
        rdata: Any = dns.rdata.from_wire(dns.rdataclass.IN, RdataType.make(kind), octets, start, end - start)
        return _printable(rdata.to_text().encode())

    def host(self, name: Labels) -> str:
        """Return a name in record data as text."""
        text = _plain_host(name)
        if text is None:
            self.spend(_STEPS_OF_RDATA + sum(map(len, name)))
            text = _host(name)
        return text

    def strings(self, start: int, end: int) -> str:
        """Return the character strings of a TXT record, joined."""
        strings = []
        octets = self.octets
        if start == end:
            raise ValueError("a TXT record without a string")
        self.spend((end - start) // _OCTETS_A_STEP)
        while start < end:
            self.spend(1)
            following = start + 1 + octets[start]
            strings.append(octets[start + 1 : following])
            start = following
        if start != end:
            raise ValueError("a string that extends past its record")
        joined = b"".join(strings)
        if not joined.isascii() or not joined.decode("ascii").isprintable():
            self.spend(len(joined) // 4)
        return _printable(joined)


# Names


def _labels_of(name: str) -> Labels:
    """Return the labels of ``name`` as text. Raises ValueError or a dnspython exception when it is invalid."""
    plain = name.removesuffix(".")
    if len(plain) < _MAX_NAME and _HOST_NAME.fullmatch(plain):
        return tuple(plain.lower().encode("ascii").split(b"."))
    if not name or not name.isascii():
        raise ValueError("expected A-labels separated by dots")
    # In a zone file "@" stands for the origin, and dnspython would read it as the root. A label may well be "@".
    return tuple([label.lower() for label in dns.name.from_text("\\@" if name == "@" else name).labels[:-1]])


def _plain_host(name: Labels) -> str | None:
    """Return the name as text if it has only octets of host names."""
    text = b".".join(name).decode("latin-1")
    # With as many dots as labels, a label itself holds a dot, which must be escaped.
    return text if text.count(".") < len(name) and _HOST_NAME.fullmatch(text) else None


def _host(name: Labels) -> str:
    """Return the name as text, with octets that host names do not have escaped (RFC 1035 §5.1)."""
    return _plain_host(name) or dns.name.Name([*name, b""]).to_text(omit_final_dot=True)


# Record types


@lru_cache(maxsize=256)
def _kind(text: str) -> int:
    kind = dns.rdatatype.from_text(text)
    if dns.rdatatype.is_metatype(kind):
        raise ValueError("not the type of a record")
    return int(kind)


def _printable(octets: bytes) -> str:
    """Return ``octets`` with everything but printable ASCII escaped as \\DDD (RFC 1035 §5.1).

    Unlike ``decisions.printable`` it keeps all octets legible, because plugins read and compare TXT records. The text
    is safe in a log or a reply all the same.
    """
    text = octets.decode("latin-1")
    return text if text.isascii() and text.isprintable() else text.translate(_ESCAPES)
