"""A scripted DNS server for tests, on loopback, over UDP and TCP, which can also misbehave in many ways.

    async with DNSServer({"mx.example": {"A": ["192.0.2.1"]}}) as server:
        dns = DNS([server.address], clock=clock)

``records`` maps names to record types and their data, written as in a zone file (host names end with a dot). A name
without records of the queried type is NODATA, an unknown name NXDOMAIN, both with an SOA; aliases are followed.
``faults`` maps a name, or "" for all names, to what goes wrong; ``held`` delays the answer for a name until its event
is set. All three may be changed while the server runs. It knows nothing of gatepost.
"""

from __future__ import annotations

import asyncio
import enum
import socket
from collections.abc import Iterator, Mapping
from typing import Any, Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.patience import PATIENCE

Records = Mapping[str, Mapping[str, list[str]]]


class Fault(enum.Enum):
    """Faults of a server or of the network."""

    SERVFAIL = "the response code is SERVFAIL"
    REFUSED = "the response code is REFUSED"
    DROP = "the query is lost"
    TRUNCATE = "over UDP the response is truncated"
    HANG_UP = "over UDP the response is truncated; over TCP the connection is closed without one"
    CUT = "the response is truncated, over TCP too"
    CROSS = "over UDP the response is truncated; over TCP it belongs to another query"
    REFERRAL = "the response refers to another server"
    GARBAGE = "the header and the question are right, the rest is not"
    FORGERY = "forged responses come first: wrong id, wrong question, wrong port"


class DNSServer:
    """The server, which runs while its ``async with`` block does.

    ``received`` lists the queries in order: name, record type, and "udp" or "tcp". ``origins`` lists their ids and
    source ports. ``ttl`` is that of all records, ``negative_ttl`` the minimum of the SOA; None leaves the SOA out.
    """

    def __init__(
        self, records: Records, *, host: str = "127.0.0.1", ttl: int = 300, negative_ttl: int | None = 60
    ) -> None:
        self.records = dict(records)
        self.faults: dict[str, Fault] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.received: list[tuple[str, str, str]] = []
        self.origins: list[tuple[int, int]] = []
        self.ttl = ttl
        self.negative_ttl = negative_ttl
        self.host = host
        self.port = 0
        self._arrival = asyncio.Event()
        self._answers: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        """Host and port in the form of ``[dns] servers``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def wait_for(self, count: int) -> None:
        """Wait until ``count`` queries have arrived since the start."""
        async with asyncio.timeout(PATIENCE):
            while len(self.received) < count:
                self._arrival.clear()
                await self._arrival.wait()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._stream, self.host, 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        try:
            self._udp, _ = await loop.create_datagram_endpoint(
                lambda: _Datagrams(self), local_addr=(self.host, self.port)
            )
        except OSError:  # another program uses the port for UDP: start again on another one
            self._listener.close()
            return await self.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._udp.close()
        self._listener.close()
        for answer in self._answers:
            answer.cancel()
        await asyncio.gather(*self._answers, return_exceptions=True)
        await self._listener.wait_closed()
        await asyncio.sleep(0)  # the loop closes the UDP socket in its next turn

    def datagram(self, octets: bytes, client: Any) -> None:
        """Answer one query over UDP, in a separate task."""
        task = asyncio.create_task(self._datagram(octets, client))
        self._answers.add(task)
        task.add_done_callback(self._answers.discard)

    async def _datagram(self, octets: bytes, client: Any) -> None:
        query = dns.message.from_wire(octets)
        fault = await self._receive(query, "udp", client)
        if fault is Fault.DROP:
            return
        if fault is Fault.FORGERY:
            self._forge(query, client)
        truncate = fault in (Fault.TRUNCATE, Fault.HANG_UP, Fault.CUT, Fault.CROSS)
        self._udp.sendto(self._respond(query, fault, truncate=truncate), client)

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        octets = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        query = dns.message.from_wire(octets)
        fault = await self._receive(query, "tcp", writer.get_extra_info("peername"))
        if fault is Fault.CROSS:
            query.id ^= 1
        if fault is not Fault.HANG_UP:
            response = self._respond(query, fault, truncate=fault is Fault.CUT)
            writer.write(len(response).to_bytes(2, "big") + response)
        writer.close()

    async def _receive(self, query: dns.message.Message, transport: str, client: Any) -> Fault | None:
        name, kind = _asked(query)
        self.received.append((name, kind, transport))
        self.origins.append((query.id, client[1]))
        self._arrival.set()
        if name in self.held:
            await self.held[name].wait()
        return self.faults.get(name) or self.faults.get("")

    def _respond(self, query: dns.message.Message, fault: Fault | None, *, truncate: bool = False) -> bytes:
        response = dns.message.make_response(query)
        if fault is Fault.GARBAGE:
            octets = bytearray(response.to_wire())
            octets[6:8] = b"\x00\x07"  # claims seven answer records; there are none
            return bytes(octets)
        if truncate:
            response.flags |= dns.flags.TC
        elif fault is Fault.REFERRAL:
            response.authority.append(dns.rrset.from_text("example.", self.ttl, "IN", "NS", "ns.example."))
        elif fault in (Fault.SERVFAIL, Fault.REFUSED):
            response.set_rcode(dns.rcode.from_text(fault.name))
        else:
            self._answer(response, *_asked(query))
        return response.to_wire(max_size=65_535)

    def _answer(self, response: dns.message.Message, name: str, kind: str) -> None:
        for owner in self._aliases(response, name):
            records = self.records.get(owner, {}).get(kind)
            if records:
                response.answer.append(dns.rrset.from_text_list(f"{owner}.", self.ttl, "IN", kind, records))
                return
            name = owner
        if name not in self.records:
            response.set_rcode(dns.rcode.NXDOMAIN)
        if self.negative_ttl is not None:
            soa = f"ns.example. hostmaster.example. 1 2 3 4 {self.negative_ttl}"
            response.authority.append(dns.rrset.from_text("example.", 3600, "IN", "SOA", soa))

    def _aliases(self, response: dns.message.Message, name: str) -> Iterator[str]:
        """Yield the name and, in order, the names that it is an alias for; add the aliases to the response."""
        yield name
        while target := self.records.get(name, {}).get("CNAME"):
            response.answer.append(dns.rrset.from_text(f"{name}.", self.ttl, "IN", "CNAME", *target))
            name = target[0].removesuffix(".")
            yield name

    def _forge(self, query: dns.message.Message, client: Any) -> None:
        """Send what an attacker would: an address of his own, each time with one thing wrong."""
        name, kind = _asked(query)
        truth = dns.message.make_response(query)
        truth.answer.append(dns.rrset.from_text(f"{name}.", 300, "IN", kind, "203.0.113.66"))
        wrong_id = bytearray(truth.to_wire())
        wrong_id[0] ^= 1
        other = dns.message.make_response(dns.message.make_query("other.example", kind, id=query.id))
        other.answer.append(dns.rrset.from_text("other.example.", 300, "IN", kind, "203.0.113.66"))
        self._udp.sendto(bytes(wrong_id), client)
        self._udp.sendto(other.to_wire(), client)
        self._udp.sendto(query.to_wire(), client)  # a query instead of a response
        self._udp.sendto(b"\x00", client)
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as stranger:
            stranger.sendto(truth.to_wire(), client)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: DNSServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._server.datagram(data, addr)


def _asked(query: dns.message.Message) -> tuple[str, str]:
    question = query.question[0]
    return question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
