"""DNS, as plugins ask it: a stub resolver with a cache.

It asks recursive servers (the system's unless others are configured) and believes what they say, so they should be
near and trusted; it does not resolve by itself, validates no DNSSEC, and applies no search domains. What an answer
means to a policy it does not know: "there is nothing" is an empty tuple, "nobody knows" is DNSTemporaryError, and
these two are never mixed up.

* RFC 1034 §5.3.1: a stub resolver. RFC 1035 §4.2, §7: UDP first, TCP when truncated, servers in turn, then again.
* RFC 2308: NXDOMAIN and NODATA are answers and are kept as long as the SOA says, at most a quarter of an hour;
  without an SOA they are not kept (§5). Failures are not kept at all, though §7 would allow it: a client that comes
  back shall find a list that has recovered.
* RFC 5452 §9.2: an unpredictable id for each query, and an unpredictable port, as each has a socket of its own, which
  is connected: nobody but the server asked is heard.
* RFC 5782 §2.1, §2.4: how DNS lists are asked for an address. RFC 8601 §3: forward-confirmed reverse DNS.

Messages are read and written in ``dns_message``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self, TypeVar

from gatepost.errors import DNSError, DNSTemporaryError
from gatepost.ip import IPAddress, ip_of, reverse_labels, reverse_pointer
from gatepost.services.clock import Clock
from gatepost.services.dns_message import Answer, Question, is_truncated, read

T = TypeVar("T")

ROUNDS = 2
"""How often each server is asked before we give up; the time is shared evenly."""

MAX_SOCKETS = 1000
"""Questions on the wire at once. Further ones wait for a place, within their own time."""

MAX_DATAGRAM = 65_535

MAX_NAMES = 5
"""Names of an address that are looked at; whoever owns the reverse zone may list thousands."""

RESOLV_CONF = Path("/etc/resolv.conf")


class Resolver(Protocol):
    """What a plugin gets when its constructor asks for ``dns``. A fake needs ``query`` only, if it subclasses this."""

    async def query(self, name: str, kind: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Return the records of ``kind`` at ``name``; empty when there are none (NXDOMAIN, NODATA).

        ``kind`` is "A", "AAAA", "PTR", "TXT", "MX", "NS" and so on; ``timeout`` is in seconds, over all retries and
        servers, and is the service's own when None. Addresses come as text, names in lower case without the last dot,
        MX as "10 mx.example.org" ("0 ." where mail is unwelcome, RFC 7505), TXT with its strings joined and all that
        is not printable ASCII as \\DDD, everything else as RFC 1035 §5.1 writes it.

        Raises DNSTemporaryError when nobody knows (SERVFAIL, REFUSED, no answer in time), DNSError when ``name`` or
        ``kind`` can never be asked for.
        """
        ...

    def known(self, name: str, kind: str) -> tuple[str, ...] | None:
        """Return what ``query`` would give at once and without asking anybody, or None when it would have to ask."""
        return None

    async def reverse(self, address: str) -> tuple[str, ...]:
        """Return the names that the PTR records of an IPv4 or IPv6 ``address`` give. Raises as ``query`` does."""
        return await self.query(reverse_pointer(_address(address)), "PTR")

    async def verified_name(self, address: str) -> str | None:
        """Return the first name of ``address`` whose own A or AAAA records hold it; None when there is none.

        The first five names are looked at. Raises DNSTemporaryError when one of them could not be looked up and no
        other was confirmed (RFC 8601 §2.7.3, "temperror"), DNSError when ``address`` is none.
        """
        wanted = _address(address)
        kind = "A" if wanted.version == 4 else "AAAA"
        unknown: DNSTemporaryError | None = None
        for name in (await self.query(reverse_pointer(wanted), "PTR"))[:MAX_NAMES]:
            try:
                if wanted in map(_parse, await self.query(name, kind)):
                    return name
            except DNSTemporaryError as error:
                unknown = error
            except DNSError:
                continue  # a PTR record may hold any octets, also what is no name
        if unknown is not None:
            raise unknown
        return None


def reversed_address(address: str) -> str:
    """Return what stands before the zone of a DNS list: 127.0.0.2 is "2.0.0.127", IPv6 its 32 nibbles with dots.

    An IPv4 address inside IPv6 (``::ffff:127.0.0.2``) stays IPv6, as the test entries of lists are (RFC 5782 §2.1,
    §2.4, §5). Raises DNSError when ``address`` is none.
    """
    return reverse_labels(_parse(address))


@dataclass(frozen=True, slots=True)
class Server:
    """A recursive server: ``host`` is an IP address."""

    host: str
    port: int = 53

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``192.0.2.1``, ``192.0.2.1:5300``, ``2001:db8::1`` or ``[2001:db8::1]:5300``. Raises DNSError."""
        host, colon, port = text.rpartition(":")
        if not colon or (":" in host and not host.endswith("]")):
            host, port = text, "53"
        try:
            server = cls(str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), int(port))
        except ValueError as error:
            raise DNSError(f"{text!r} is not the address of a DNS server: {error}") from error
        if not 0 < server.port < 65536:
            raise DNSError(f"{text!r}: there is no port {port}")
        return server

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class _Flight:
    """A question under way, and who waits for its answer. It goes on when they have left: others may ask again."""

    task: asyncio.Task[None]
    waiters: list[asyncio.Future[Answer | Exception]]


class DNS(Resolver):
    """The resolver of a running gate.

    ``servers`` are read by ``Server.parse``; none means those of /etc/resolv.conf. ``timeout`` is how many seconds a
    question may take in all. The last ``cache_size`` answers are kept, the least recently used of them goes first.
    Raises DNSError for a server that cannot be read.

    A server that answers where an earlier one failed is asked first from then on.
    """

    def __init__(
        self, servers: Sequence[str] = (), *, timeout: float = 5.0, clock: Clock, cache_size: int = 100_000
    ) -> None:
        self._servers = [Server.parse(text) for text in servers] or list(system_servers())
        self._timeout = timeout
        self._clock = clock
        self._cache_size = cache_size
        self._cache: OrderedDict[tuple[str, str], tuple[float, tuple[str, ...]]] = OrderedDict()
        self._flights: dict[tuple[str, str], _Flight] = {}
        self._places = asyncio.Semaphore(MAX_SOCKETS)
        self._closed = False

    async def query(self, name: str, kind: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """As ``Resolver.query`` says. Who asks what is being asked already waits for that answer, in its own time."""
        kept = self.known(name, kind)
        if kept is not None:
            return kept
        asked = _asked(name, kind)
        limit = self._timeout if timeout is None else timeout
        flight = self._flights.get(asked) or self._depart(asked, max(limit, self._timeout))
        waiter: asyncio.Future[Answer | Exception] = asyncio.get_running_loop().create_future()
        flight.waiters.append(waiter)
        try:
            outcome = await within(self._clock, limit, waiter)
        except TimeoutError:
            raise DNSTemporaryError(f"{name!r} {kind}: no answer within {limit:g} s") from None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome.texts

    def known(self, name: str, kind: str) -> tuple[str, ...] | None:
        """As ``Resolver.known`` says: what the cache holds."""
        asked = _asked(name, kind)
        kept = self._cache.get(asked)
        if kept is None or self._clock.monotonic() >= kept[0]:
            return None
        self._cache.move_to_end(asked)
        return kept[1]

    async def close(self) -> None:
        """Drop what is being asked and what is kept. Who still waits, or asks from now on, gets DNSTemporaryError."""
        self._closed = True
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for asked in tuple(self._flights):
            self._land(asked, DNSTemporaryError("DNS is closed"))  # it had not even begun
        self._cache.clear()

    def _depart(self, asked: tuple[str, str], limit: float) -> _Flight:
        if self._closed:
            raise DNSTemporaryError("DNS is closed")
        question = Question.parse(*asked)
        task = asyncio.get_running_loop().create_task(self._fly(asked, question, self._clock.monotonic() + limit))
        flight = self._flights[asked] = _Flight(task, [])
        return flight

    async def _fly(self, asked: tuple[str, str], question: Question, deadline: float) -> None:
        """Find the answer and give it to all who wait for it: in one turn of the loop, not through tasks' callbacks."""
        outcome: Answer | Exception
        try:
            outcome = await self._resolve(question, deadline)
        except asyncio.CancelledError:
            outcome = DNSTemporaryError("DNS is closed")
        except Exception as error:
            outcome = error
        else:
            self._keep(asked, outcome)
        self._land(asked, outcome)

    def _land(self, asked: tuple[str, str], outcome: Answer | Exception) -> None:
        for waiter in self._flights.pop(asked).waiters:
            if not waiter.done():
                waiter.set_result(outcome)

    def _keep(self, asked: tuple[str, str], answer: Answer) -> None:
        if not answer.ttl:
            return
        self._cache[asked] = (self._clock.monotonic() + answer.ttl, answer.texts)
        self._cache.move_to_end(asked)
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    async def _resolve(self, question: Question, deadline: float) -> Answer:
        """Ask the servers in turn; one that answers with a failure is not asked twice."""
        trouble: dict[Server, str] = {}
        failed: set[Server] = set()
        async with self._places:
            for turns, server in self._turns():
                share = (deadline - self._clock.monotonic()) / turns
                if server in failed or share <= 0:
                    continue
                try:
                    answer = await _exchange(self._clock, share, server, question)
                except DNSTemporaryError as error:
                    trouble[server] = str(error)
                    failed.add(server)
                except (OSError, EOFError) as error:
                    trouble[server] = str(error) or "does not answer"
                else:
                    self._prefer(server)
                    return answer
        reasons = ", ".join(f"{server}: {reason}" for server, reason in trouble.items())
        raise DNSTemporaryError(f"{question}: {reasons or 'no time was left to ask'}")

    def _turns(self) -> Iterator[tuple[int, Server]]:
        """Give each server with the number of turns that are left, its own included."""
        turns = self._servers * ROUNDS
        return zip(range(len(turns), 0, -1), turns, strict=True)

    def _prefer(self, server: Server) -> None:
        if server is not self._servers[0]:
            self._servers = [server, *(other for other in self._servers if other is not server)]


def _asked(name: str, kind: str) -> tuple[str, str]:
    """Under which a question is known. A letter outside ASCII may fold into ASCII, and would meet another's answer."""
    return (name.lower() if name.isascii() else name, kind)


async def within(clock: Clock, seconds: float, awaitable: Awaitable[T]) -> T:
    """Return what ``awaitable`` gives, or cancel it and raise TimeoutError after ``seconds`` of ``clock``."""
    future = asyncio.ensure_future(awaitable)
    timer = clock.call_later(seconds, future.cancel)
    try:
        return await future
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise TimeoutError from None
    finally:
        timer.cancel()


async def _exchange(clock: Clock, seconds: float, server: Server, question: Question) -> Answer:
    number = secrets.randbelow(1 << 16)
    deadline = clock.monotonic() + seconds
    octets = await _by_datagram(clock, seconds, server, question, number)
    if is_truncated(octets):
        octets = await within(clock, deadline - clock.monotonic(), _by_stream(server, question, number))
    return read(question, octets)


async def _by_datagram(clock: Clock, seconds: float, server: Server, question: Question, number: int) -> bytes:
    """Ask over UDP, by a socket of our own: asyncio's transport would take another turn of the loop to begin."""
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[bytes] = loop.create_future()
    with socket.socket(socket.AF_INET6 if ":" in server.host else socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.connect((server.host, server.port))
        asking.send(question.asked(number))
        loop.add_reader(asking, _hear, asking, question, number, reply)
        try:
            return await within(clock, seconds, reply)
        finally:
            loop.remove_reader(asking)


def _hear(asking: socket.socket, question: Question, number: int, reply: asyncio.Future[bytes]) -> None:
    """Take the answer, or the error, and leave anything else that arrives unheard (RFC 5452 §9.1)."""
    try:
        octets = asking.recv(MAX_DATAGRAM)
        if not reply.done() and question.is_answered(number, octets):
            reply.set_result(octets)
    except BlockingIOError:  # the system threw away a datagram that was damaged
        return
    except OSError as error:
        if not reply.done():
            reply.set_exception(error)


async def _by_stream(server: Server, question: Question, number: int) -> bytes:
    """Ask over TCP, each message behind two octets of length (RFC 1035 §4.2.2)."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        query = question.asked(number)
        writer.write(len(query).to_bytes(2, "big") + query)
        octets = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    finally:
        writer.close()
    if not question.is_answered(number, octets):
        raise DNSTemporaryError("answers another question")
    return octets


def system_servers() -> tuple[Server, ...]:
    """Return the servers of /etc/resolv.conf, or the one on this machine if it names none (resolv.conf(5))."""
    try:
        lines = [line.split() for line in RESOLV_CONF.read_text("utf-8", "replace").splitlines()]
    except OSError:
        lines = []
    return tuple(Server.parse(line[1]) for line in lines if len(line) > 1 and line[0] == "nameserver") or (
        Server("127.0.0.1"),
    )


def _parse(address: str) -> IPAddress:
    try:
        return ip_of(address.partition("%")[0] if "%" in address else address)
    except ValueError as error:
        raise DNSError(f"{address!r} is not an IP address") from error


def _address(address: str) -> IPAddress:
    """Return the address to look up; a client that came over a socket for both families is an IPv4 client."""
    parsed = _parse(address)
    return parsed if parsed.version == 4 else parsed.ipv4_mapped or parsed
