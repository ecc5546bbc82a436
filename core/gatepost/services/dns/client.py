"""DNS: a stub resolver with a cache. What plugins see of it stands in ``resolver``.

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

Messages are read and written in ``dns_message``.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from gatepost.errors import DNSError, DNSTemporaryError
from gatepost.services.clock import Clock, Timer
from gatepost.services.dns.message import Answer, Question, is_truncated, read
from gatepost.services.dns.resolver import Resolver

Outcome = Answer | Exception
"""What becomes of a question: what is said, or why nobody knows."""

ROUNDS: Final = 2
"""How often each server is asked before we give up; the time is shared evenly."""

MAX_SOCKETS: Final = 1000
"""Questions on the wire at once. Further ones wait for a place, within their own time."""

MAX_DATAGRAM: Final = 65_535

RESOLV_CONF: Final = Path("/etc/resolv.conf")


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


class DNS(Resolver):
    """The resolver of a running gate.

    ``servers`` are read by ``Server.parse``; an empty list means those of /etc/resolv.conf. ``timeout`` is how many
    seconds a question may take in all. The last ``cache_size`` answers are kept, the oldest of them goes first.
    Raises DNSError for a server that cannot be read.

    A server that answers where an earlier one failed is asked first from then on.
    """

    def __init__(
        self, servers: Sequence[str], *, clock: Clock, timeout: float = 5.0, cache_size: int = 100_000
    ) -> None:
        self._servers = [Server.parse(text) for text in servers] or list(system_servers())
        self._timeout = timeout
        self._clock = clock
        self._cache_size = cache_size
        self._cache: OrderedDict[tuple[str, str], tuple[float, tuple[str, ...]]] = OrderedDict()
        self._flights: dict[tuple[str, str], _Flight] = {}
        self._places = MAX_SOCKETS
        self._queue: deque[_Flight] = deque()
        self._closed = False

    async def query(self, name: str, kind: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """As ``Resolver.query`` says. Who asks what is being asked already waits for that answer, in its own time."""
        asked = _asked(name, kind)
        kept = self._kept(asked)
        if kept is not None:
            return kept
        limit = self._timeout if timeout is None else timeout
        now = self._clock.monotonic()
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        flight = self._flights.get(asked)
        if flight is None:
            flight = self._depart(asked, now + max(limit, self._timeout), waiter)
        else:
            flight.waiters.append(waiter)
        if now + limit < flight.deadline:
            outcome = await _in_time(self._clock, limit, waiter, f"{name!r} {kind}: no answer within {limit:g} s")
        else:
            outcome = await waiter  # the flight's own time is ours
        if isinstance(outcome, Exception):
            raise outcome
        return outcome.texts

    def known(self, name: str, kind: str) -> tuple[str, ...] | None:
        """As ``Resolver.known`` says: what the cache holds."""
        return self._kept(_asked(name, kind))

    async def close(self) -> None:
        """Drop what is being asked and what is kept. Who still waits, or asks from now on, gets DNSTemporaryError."""
        self._closed = True
        flights = tuple(self._flights.values())
        streams = [flight.stream for flight in flights if flight.stream is not None]
        for flight in flights:
            flight.land(DNSTemporaryError("DNS is closed"))
        await asyncio.gather(*streams, return_exceptions=True)
        self._cache.clear()

    def _depart(self, asked: tuple[str, str], deadline: float, waiter: asyncio.Future[Outcome]) -> _Flight:
        if self._closed:
            raise DNSTemporaryError("DNS is closed")
        flight = _Flight(asked, deadline, self._servers, self._clock, self._landed)
        flight.waiters.append(waiter)
        self._flights[asked] = flight
        if self._places:
            self._places -= 1
            flight.has_place = True
            flight.ask()
        else:
            flight.wait()
            self._queue.append(flight)
        return flight

    def _landed(self, flight: _Flight, outcome: Outcome) -> None:
        del self._flights[flight.asked]
        if isinstance(outcome, Answer):
            self._keep(flight.asked, outcome)
            if flight.server is not self._servers[0]:
                self._prefer(flight.server)
        if flight.has_place:
            self._leave_place()

    def _leave_place(self) -> None:
        """Give the place to the next who waits for one: in another turn of the loop, for there may be thousands."""
        while self._queue:
            flight = self._queue.popleft()
            if not flight.has_landed:
                flight.has_place = True
                asyncio.get_running_loop().call_soon(flight.ask)
                return
        self._places += 1

    def _kept(self, asked: tuple[str, str]) -> tuple[str, ...] | None:
        kept = self._cache.get(asked)
        if kept is None or self._clock.monotonic() >= kept[0]:
            return None
        return kept[1]

    def _keep(self, asked: tuple[str, str], answer: Answer) -> None:
        if not answer.ttl:
            return
        self._cache[asked] = (self._clock.monotonic() + answer.ttl, answer.texts)
        self._cache.move_to_end(asked)
        if len(self._cache) > self._cache_size:
            self._cache.popitem(last=False)

    def _prefer(self, server: Server) -> None:
        self._servers = [server, *(other for other in self._servers if other is not server)]


def _asked(name: str, kind: str) -> tuple[str, str]:
    """Under which a question is known. A letter outside ASCII may fold into ASCII, and would meet another's answer."""
    return (name.lower() if name.isascii() else name, kind)


async def _in_time(clock: Clock, seconds: float, waiter: asyncio.Future[Outcome], late: str) -> Outcome:
    """Wait for a flight that may take longer than its asker has time."""

    def leave() -> None:
        if not waiter.done():
            waiter.set_result(DNSTemporaryError(late))

    timer = clock.call_later(seconds, leave)
    try:
        return await waiter
    finally:
        timer.cancel()


class _Flight:
    """A question on its way, and who waits for its answer. It goes on when they have left: others may ask again.

    It asks the servers in turn; one that answers with a failure is not asked twice. What happens moves it on: an
    answer, an error, or that a server's time is over. A task would take a turn of the loop for each of these.
    ``landed`` is called once, at ``deadline`` at the latest.
    """

    __slots__ = (
        "_clock",
        "_failed",
        "_landed",
        "_number",
        "_question",
        "_socket",
        "_timer",
        "_troubles",
        "_turns",
        "asked",
        "deadline",
        "has_landed",
        "has_place",
        "server",
        "stream",
        "waiters",
    )

    def __init__(
        self,
        asked: tuple[str, str],
        deadline: float,
        servers: list[Server],
        clock: Clock,
        landed: Callable[[_Flight, Outcome], None],
    ) -> None:
        self.asked = asked
        self.deadline = deadline
        self.waiters: list[asyncio.Future[Outcome]] = []
        self.has_place = False
        self.has_landed = False
        self.server = servers[0]
        self.stream: asyncio.Task[bytes] | None = None
        self._question = Question.parse(*asked)
        self._number = 0
        self._turns = _turns(servers)
        self._troubles: dict[Server, str] = {}
        self._failed: set[Server] = set()
        self._clock = clock
        self._landed = landed
        self._timer: Timer | None = None
        self._socket: socket.socket | None = None

    def wait(self) -> None:
        """Wait for a place, until there is no time left."""
        self._timer = self._clock.call_later(self.deadline - self._clock.monotonic(), self._give_up)

    def ask(self) -> None:
        """Ask the server whose turn it is, or land without an answer."""
        if self.has_landed:
            return
        if self._timer is not None:
            self._hang_up()
        for turns, server in self._turns:
            share = (self.deadline - self._clock.monotonic()) / turns
            if share <= 0 or server in self._failed:
                continue
            self.server = server
            try:
                self._timer = self._clock.call_later(share, self._late)
                self._send()
            except Exception as error:
                self._fail(error)
            return
        self._give_up()

    def land(self, outcome: Outcome) -> None:
        """Give the outcome to all who wait for it."""
        self.has_landed = True
        self._hang_up()
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(outcome)
        self._landed(self, outcome)

    def _give_up(self) -> None:
        reasons = ", ".join(f"{server}: {reason}" for server, reason in self._troubles.items())
        self.land(DNSTemporaryError(f"{self._question}: {reasons or 'no time was left to ask'}"))

    def _send(self) -> None:
        """Ask over UDP, by a socket of our own: asyncio's transport would take another turn of the loop to begin."""
        host = self.server.host
        self._number = int.from_bytes(os.urandom(2), "big")
        asking = self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        asking.setblocking(False)
        asking.connect((host, self.server.port))
        asking.send(self._question.asked(self._number))
        asyncio.get_running_loop().add_reader(asking.fileno(), self._hear, asking)

    def _hear(self, asking: socket.socket) -> None:
        """Take the answer, or the error, and leave anything else that arrives unheard (RFC 5452 §9.1)."""
        try:
            octets = asking.recv(MAX_DATAGRAM)
            if not self._question.is_answered(self._number, octets):
                return
            if is_truncated(octets):
                self._ask_again()
                return
            answer = read(self._question, octets)
        except BlockingIOError:  # the system threw away a datagram that was damaged
            return
        except Exception as error:
            self._fail(error)
        else:
            self.land(answer)

    def _ask_again(self) -> None:
        """Ask the same server over TCP, in what is left of its time."""
        self._close_socket()
        asking = _by_stream(self.server, self._question, self._number)
        self.stream = asyncio.get_running_loop().create_task(asking)
        self.stream.add_done_callback(self._streamed)

    def _streamed(self, stream: asyncio.Task[bytes]) -> None:
        if stream is not self.stream:  # we hung up
            return
        try:
            answer = read(self._question, stream.result())
        except Exception as error:
            self._fail(error)
        else:
            self.land(answer)

    def _late(self) -> None:
        self._fail(TimeoutError())

    def _fail(self, error: Exception) -> None:
        """Go on to the next server; a fault of our own is the outcome, and no reason to ask another."""
        if not isinstance(error, (DNSTemporaryError, OSError, EOFError)):
            self.land(error)
            return
        self._troubles[self.server] = str(error) or "does not answer"
        if isinstance(error, DNSTemporaryError):
            self._failed.add(self.server)
        self.ask()

    def _hang_up(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            self._close_socket()
        if self.stream is not None:
            self.stream.cancel()
            self.stream = None

    def _close_socket(self) -> None:
        assert self._socket is not None
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()
        self._socket = None


def _turns(servers: list[Server]) -> Iterator[tuple[int, Server]]:
    """Give each server with the number of turns that are left, its own included."""
    turns = servers * ROUNDS
    return zip(range(len(turns), 0, -1), turns, strict=True)


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
    if is_truncated(octets):
        raise DNSTemporaryError("truncates its answer over TCP too")
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
