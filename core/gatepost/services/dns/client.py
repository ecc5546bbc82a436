"""DNS: a stub resolver with a cache. Its interface to plugins is ``resolver.Resolver``.

It asks recursive servers (the system's unless others are configured) and trusts their answers, so they should be near
and trustworthy. It does not recurse, does not validate DNSSEC, and applies no search domains. It does not know what an
answer means to a policy: "no such records" is an empty tuple, "could not be found out" is DNSTemporaryError, and the
two are never confused.

How a look-up works
------------------

* Cache. ``DNS.query`` looks into the cache first. Only answers are cached, positive and negative, each until its TTL
  ends (RFC 2308: a negative answer for as long as the SOA says, but at most 15 minutes; without an SOA not at all,
  §5). Failures are never cached, though RFC 2308 §7 would allow it: a client that comes back should find a list that
  has recovered. The cache is bounded by the memory that its answers take, because their owners choose how long they
  are. When it is full, the oldest answers go first.
* In flight. At most one query for a name and type is in flight. Callers that ask for the same wait for the same
  answer. A query outlives its callers: if they are cancelled, the answer is cached for the next one.
* Deadlines. Each caller has a deadline of its own, and so has the query: the first caller's deadline or ``timeout``,
  whichever is later, so that a hurried caller does not spoil the answer for others. A caller whose deadline comes first
  sets a timer for itself; all others just wait for the query, which always ends by its own deadline.
* Attempts. A query tries the servers in turn, ``ROUNDS`` times each (RFC 1035 §4.2, §7): UDP first, TCP when the
  response is truncated. Each attempt gets an equal share of the time left. A server that answers with a failure is not
  tried again for this query. A server that answers after others have failed becomes the first one for all queries.
* Slots. Each attempt has a connected UDP socket of its own, so the kernel drops datagrams from any other address, and
  each query has an unpredictable port and id (RFC 5452 §9.2). Sockets are file descriptors, so a query needs one of
  ``MAX_SOCKETS`` slots; without a free one it waits in a queue, and its deadline runs.

A query is not a task but an object that events move on: a datagram, an error, a timer. A task would cost a turn of the
event loop for each of these.

RFC 1034 §5.3.1 describes stub resolvers. ``message`` reads and writes the messages.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from gatepost.errors import DNSError, DNSTemporaryError, Mistake
from gatepost.ip import SocketAddress, ip_of
from gatepost.services.clock import Clock, Timer
from gatepost.services.dns.message import Answer, Question, is_truncated, read_answer
from gatepost.services.dns.resolver import Resolver

Outcome = Answer | Exception
"""How a query ends: with an answer, or with the reason why there is none."""

ROUNDS: Final = 2
"""How often each server is tried before a query fails."""

MAX_SOCKETS: Final = 1000
"""The number of slots: queries that may have a socket at the same time."""

PORT: Final = 53

MAX_DATAGRAM: Final = 65_535

OCTETS_OF_ENTRY: Final = 270
"""Memory that a cached answer takes besides its text: keys, tuples, a number, and its place in the cache."""

OCTETS_OF_TEXT: Final = 57
"""Memory that a text takes besides its characters: a string, and its place in a tuple."""

RESOLV_CONF: Final = Path("/etc/resolv.conf")


class DNS(Resolver):
    """The resolver of a running server.

    ``servers`` are read by ``server_address``; an empty list means the servers of /etc/resolv.conf. ``timeout`` is the
    time in seconds that a query may take in all. ``cache_size`` is the memory in octets that cached answers may take:
    the default is enough for 100,000 of the usual ones. Raises DNSError for a server that cannot be read.
    """

    def __init__(
        self, servers: Sequence[str], *, clock: Clock, timeout: float = 5.0, cache_size: int = 64 * 2**20
    ) -> None:
        self._servers = [server_address(text) for text in servers] or list(system_servers())
        self._timeout = timeout
        self._clock = clock
        self._cache_size = cache_size
        self._cache: OrderedDict[tuple[str, str], tuple[float, tuple[str, ...]]] = OrderedDict()
        self._cached_octets = 0
        self._in_flight: dict[tuple[str, str], _Query] = {}
        self._free_slots = MAX_SOCKETS
        self._queue: deque[_Query] = deque()  # queries in flight that wait for a slot
        self._closed = False

    async def query(self, name: str, kind: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Return the records of ``kind`` at ``name``, from the cache, a query in flight or a new one."""
        key = _key(name, kind)
        cached = self._cached(key)
        if cached is not None:
            return cached
        limit = self._timeout if timeout is None else timeout
        now = self._clock.monotonic()
        # A future for each caller: one that is cancelled takes nothing away from the others.
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        query = self._in_flight.get(key)
        if query is None:
            query = self._start(key, now + max(limit, self._timeout), waiter)
        else:
            query.waiters.append(waiter)
        if now + limit < query.deadline:
            outcome = await _in_time(self._clock, limit, waiter, f"{name!r} {kind}: no answer within {limit:g} s")
        else:
            outcome = await waiter
        if isinstance(outcome, Exception):
            raise outcome
        return outcome.texts

    def known(self, name: str, kind: str) -> tuple[str, ...] | None:
        """Return the cached records of ``kind`` at ``name``, or None when none are cached."""
        return self._cached(_key(name, kind))

    async def close(self) -> None:
        """Abandon all queries and clear the cache. Callers get DNSTemporaryError, now and from then on."""
        self._closed = True
        # Copied, because each query takes itself out as it ends; and the streams first, as it also lets go of its own.
        queries = tuple(self._in_flight.values())
        streams = [query.stream for query in queries if query.stream is not None]
        for query in queries:
            query.finish(DNSTemporaryError("DNS is closed"))
        await asyncio.gather(*streams, return_exceptions=True)
        self._cache.clear()
        self._cached_octets = 0

    def _cached(self, key: tuple[str, str]) -> tuple[str, ...] | None:
        cached = self._cache.get(key)
        if cached is None or self._clock.monotonic() >= cached[0]:
            return None
        return cached[1]

    def _start(self, key: tuple[str, str], deadline: float, waiter: asyncio.Future[Outcome]) -> _Query:
        """Start a query, or put it into the queue when all slots are taken."""
        if self._closed:
            raise DNSTemporaryError("DNS is closed")
        query = _Query(key, deadline, self._servers, self._clock, self._finished)
        query.waiters.append(waiter)  # before the first attempt, as that may already end the query
        self._in_flight[key] = query
        if self._free_slots:
            self._free_slots -= 1
            query.has_slot = True
            query.attempt()
        else:
            query.wait_for_slot()
            self._queue.append(query)
        return query

    def _finished(self, query: _Query, outcome: Outcome) -> None:
        """Cache the answer, prefer the server that gave it, and pass the slot on."""
        del self._in_flight[query.key]
        if isinstance(outcome, Answer):
            if outcome.ttl:
                self._keep(query.key, outcome)
            if query.server is not self._servers[0]:
                self._servers = [query.server, *(other for other in self._servers if other is not query.server)]
        if not query.has_slot:
            return
        while self._queue:
            following = self._queue.popleft()
            if not following.is_finished:
                following.has_slot = True
                # Not from here: if each of thousands of waiting queries failed at once, the calls would nest.
                asyncio.get_running_loop().call_soon(following.attempt)
                return
        self._free_slots += 1

    def _keep(self, key: tuple[str, str], answer: Answer) -> None:
        """Cache an answer, as the newest one."""
        replaced = self._cache.pop(key, None)
        if replaced is not None:
            self._cached_octets -= _octets_of(key, replaced[1])
        self._cache[key] = (self._clock.monotonic() + answer.ttl, answer.texts)
        self._cached_octets += _octets_of(key, answer.texts)
        while self._cached_octets > self._cache_size:
            oldest, (_, texts) = self._cache.popitem(last=False)
            self._cached_octets -= _octets_of(oldest, texts)


def _octets_of(key: tuple[str, str], texts: tuple[str, ...]) -> int:
    """Return the memory in octets that a cached answer takes."""
    return OCTETS_OF_ENTRY + len(key[0]) + sum([OCTETS_OF_TEXT + len(text) for text in texts])


def _key(name: str, kind: str) -> tuple[str, str]:
    """Return the key of a query: DNS ignores the case of ASCII letters only.

    ``lower`` turns some letters outside ASCII into ASCII ones (U+212A into "k"), so such a name, which is invalid
    anyway, would be given another name's answer.
    """
    return (name.lower() if name.isascii() else name, kind)


async def _in_time(clock: Clock, seconds: float, waiter: asyncio.Future[Outcome], late: str) -> Outcome:
    """Wait for a query whose deadline is later than the caller's; after ``seconds`` the outcome is an error.

    Apart from ``query``, so that callers without a timer do not pay for the closure.
    """

    def give_up() -> None:
        if not waiter.done():
            waiter.set_result(DNSTemporaryError(late))

    timer = clock.call_later(seconds, give_up)
    try:
        return await waiter
    finally:
        timer.cancel()


class _Query:
    """A query in flight, and the callers that wait for its answer (see "How a look-up works").

    ``finished`` is called exactly once, at ``deadline`` at the latest.
    """

    __slots__ = (
        "_attempts",
        "_clock",
        "_failed",
        "_finished",
        "_id",
        "_question",
        "_socket",
        "_timer",
        "_troubles",
        "deadline",
        "has_slot",
        "is_finished",
        "key",
        "server",
        "stream",
        "waiters",
    )

    def __init__(
        self,
        key: tuple[str, str],
        deadline: float,
        servers: list[SocketAddress],
        clock: Clock,
        finished: Callable[[_Query, Outcome], None],
    ) -> None:
        self.key = key
        self.deadline = deadline
        self.waiters: list[asyncio.Future[Outcome]] = []
        self.has_slot = False
        self.is_finished = False
        self.server = servers[0]
        self.stream: asyncio.Task[bytes] | None = None
        self._question = Question.parse(*key)  # raises before anything is in flight
        self._id = 0
        # Each server with the number of attempts that are left, this one included: the time is shared among them.
        attempts = servers * ROUNDS
        self._attempts = zip(range(len(attempts), 0, -1), attempts, strict=True)
        self._troubles: dict[SocketAddress, str] = {}
        self._failed: set[SocketAddress] = set()
        self._clock = clock
        self._finished = finished
        self._timer: Timer | None = None
        self._socket: socket.socket | None = None

    def wait_for_slot(self) -> None:
        """Wait for a slot until the deadline."""
        self._timer = self._clock.call_later(self.deadline - self._clock.monotonic(), self._give_up)

    def attempt(self) -> None:
        """Send the query to the next server, or give up when no server or no time is left."""
        if self.is_finished:
            return
        if self._timer is not None:
            self._release()
        for attempts_left, server in self._attempts:
            share = (self.deadline - self._clock.monotonic()) / attempts_left
            if share <= 0 or server in self._failed:
                continue
            self.server = server
            try:
                self._timer = self._clock.call_later(share, self._time_out)
                self._send()  # an unreachable network fails here, at once
            except Exception as error:
                self._fail(error)
            return
        self._give_up()

    def finish(self, outcome: Outcome) -> None:
        """Give the outcome to all callers that wait."""
        self.is_finished = True
        self._release()
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(outcome)
        self._finished(self, outcome)

    def _send(self) -> None:
        # A plain socket, because asyncio's datagram transport takes another turn of the loop to start.
        host = self.server.host
        self._id = int.from_bytes(os.urandom(2), "big")
        opened = self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.connect((host, self.server.port))  # the kernel then drops what comes from any other address
        opened.send(self._question.query(self._id))
        asyncio.get_running_loop().add_reader(opened.fileno(), self._receive, opened)

    def _receive(self, readable: socket.socket) -> None:
        """Read the response, or the error, and ignore any datagram that does not match (RFC 5452 §9.1)."""
        try:
            octets = readable.recv(MAX_DATAGRAM)
            if not self._question.is_answered(self._id, octets):
                return
            if is_truncated(octets):
                # Ask the same server over TCP, in what is left of its time.
                self._close_socket()
                exchange = _exchange_over_tcp(self.server, self._question, self._id)
                self.stream = asyncio.get_running_loop().create_task(exchange)
                self.stream.add_done_callback(self._receive_stream)
                return
            answer = read_answer(self._question, octets)
        except BlockingIOError:  # the kernel dropped a datagram with a bad checksum after it had reported it
            return
        except Exception as error:
            self._fail(error)
        else:
            self.finish(answer)

    def _receive_stream(self, stream: asyncio.Task[bytes]) -> None:
        if stream is not self.stream:  # cancelled by _release
            return
        try:
            answer = read_answer(self._question, stream.result())
        except Exception as error:
            self._fail(error)
        else:
            self.finish(answer)

    def _time_out(self) -> None:
        self._fail(TimeoutError())

    def _fail(self, error: Exception) -> None:
        """Go on to the next server. A bug of ours ends the query: another server would not help."""
        if not isinstance(error, (DNSTemporaryError, OSError, EOFError)):
            self.finish(error)
            return
        self._troubles[self.server] = str(error) or "does not answer"
        # A server that answers with a failure would do so again; one that does not answer may have lost a datagram.
        if isinstance(error, DNSTemporaryError):
            self._failed.add(self.server)
        self.attempt()

    def _give_up(self) -> None:
        reasons = ", ".join(f"{server}: {reason}" for server, reason in self._troubles.items())
        self.finish(DNSTemporaryError(f"{self._question}: {reasons or 'no time was left to ask'}"))

    def _release(self) -> None:
        """Release the timer, the socket and the TCP task of the current attempt."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close_socket()
        if self.stream is not None:
            self.stream.cancel()
            self.stream = None

    def _close_socket(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None


async def _exchange_over_tcp(server: SocketAddress, question: Question, query_id: int) -> bytes:
    """Return the response over TCP, where two octets of length precede each message (RFC 1035 §4.2.2)."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        query = question.query(query_id)
        writer.write(len(query).to_bytes(2, "big") + query)
        octets = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
    finally:
        writer.close()
    if not question.is_answered(query_id, octets):
        raise DNSTemporaryError("answers another question")
    if is_truncated(octets):
        raise DNSTemporaryError("truncates its answer over TCP too")
    return octets


def server_address(text: str) -> SocketAddress:
    """Read ``192.0.2.1``, ``192.0.2.1:5300``, ``2001:db8::1`` or ``[2001:db8::1]:5300``. Raises DNSError."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = text, str(PORT)
    try:
        address = SocketAddress(str(ip_of(host.removeprefix("[").removesuffix("]"))), int(port))
    except ValueError as error:
        raise DNSError(f"{text!r} is not the address of a DNS server: {error}") from error
    if not 0 < address.port < 65536:
        raise DNSError(f"{text!r}: there is no port {port}")
    return address


def system_servers() -> tuple[SocketAddress, ...]:
    """Return the servers of /etc/resolv.conf, or 127.0.0.1 if it names none that can be read (resolv.conf(5))."""
    return _resolv_conf()[0] or (SocketAddress("127.0.0.1", PORT),)


def skipped_servers() -> list[Mistake]:
    """Return the lines of /etc/resolv.conf that name a server in a way that we cannot read, and so do not ask."""
    return _resolv_conf()[1]


def _resolv_conf() -> tuple[tuple[SocketAddress, ...], list[Mistake]]:
    servers, skipped = list[SocketAddress](), list[Mistake]()
    try:
        text = RESOLV_CONF.read_text("utf-8-sig", "replace")
    except FileNotFoundError:
        return (), []
    except OSError as error:
        return (), [Mistake(str(RESOLV_CONF), 0, "", f"cannot read the file: {error.strerror}")]
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words[:1] != ["nameserver"]:
            continue
        try:
            servers.append(server_address(words[1] if len(words) > 1 else ""))
        except DNSError as error:
            skipped.append(Mistake(str(RESOLV_CONF), number, "", f"the line is skipped: {error}"))
    return tuple(servers), skipped
