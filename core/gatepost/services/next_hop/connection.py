"""One connection to a next hop: open it, send commands, read the answers, stream the message.

aiosmtplib connects, reads the greeting, sends EHLO and negotiates TLS. It does not know LMTP, drops a second reply that
arrives with the first (LMTP sends one per recipient after the final dot), and copies the whole message. So once the
connection is open, ``_Wire`` takes over its transport, in ``_take_over`` and nowhere else: it reads replies and writes
octets with back-pressure.

This module does not know about the pool and fail-over (see ``client``), nor what an answer means to our client (see
the plugin that delivers). RFC 5321 §3.1 (greeting), §3.8 (421), §4.1.1.10 (QUIT); RFC 2033 §4.1 (LHLO);
RFC 3207 (STARTTLS).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from typing import cast

import aiosmtplib

from gatepost.errors import NextHopError, NextHopRefusedError, NextHopUnreachableError
from gatepost.services.next_hop.syntax import CONTROL, Answer, Target, take_reply

MAX_REPLY = 65_536
"""The most octets of one reply. No honest server sends as many; without a limit a hostile one fills our memory."""

REPLY_ROOM = 1024
"""Octets of unread replies allowed besides for each reply that we wait for: twice a line (RFC 5321 §4.5.3.1.5)."""

QUIT_TIMEOUT = 5.0
"""Seconds that we wait for the answer to QUIT."""

CLOSED = "it closed the connection"


class _Wire(asyncio.Protocol):
    """The transport of an open connection: reads replies one by one and writes with back-pressure.

    One thing at a time is waited for, and one timer watches over all waits: it stays set from one to the next, because
    a timer of its own for each command would cost more than the command.
    """

    __slots__ = (
        "_deadline",
        "_error",
        "_is_full",
        "_loop",
        "_received",
        "_replies",
        "_timer",
        "_timer_at",
        "_unread",
        "_waiter",
        "closed",
        "expected",
        "has_ended",
        "transport",
    )

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.has_ended = False
        self.closed = asyncio.Event()
        self.expected = 1
        """The number of replies that what we have sent asks for."""
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        """The beginning of a reply."""
        self._replies: deque[Answer] = deque()
        self._unread = 0
        """Octets that have come since all replies were read the last time."""
        self._error: Exception | None = None
        self._is_full = False
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    @property
    def has_unread(self) -> bool:
        """True when octets have arrived that are not read yet."""
        return bool(self._replies or self._received or self._error)

    async def reply(self, seconds: float) -> Answer:
        """Wait for a reply.

        Raises ConnectionError when none will come, ValueError when it is malformed, TimeoutError after ``seconds``.
        """
        while not self._replies:
            if self._error is not None:
                raise self._error
            if self.has_ended:
                raise ConnectionResetError(CLOSED)
            await self._wait(seconds)
        answer = self._replies.popleft()
        if not self._replies:
            self._unread = len(self._received)
        return answer

    def write(self, octets: bytes) -> bool:
        """Write, and return True when ``drain`` is to be awaited before more is written.

        Raises ConnectionError when the next hop left without a reply.
        """
        if not self.has_ended:
            self.transport.write(octets)
        elif not self.has_unread:
            raise ConnectionResetError(CLOSED)
        return self._is_full

    async def drain(self, seconds: float) -> None:
        """Wait until the next hop has read most of what was written, replies or leaves.

        Raises TimeoutError after ``seconds``, and ConnectionError when the next hop left without a reply.
        """
        while self._is_full and not (self.has_ended or self.has_unread):
            await self._wait(seconds)
        if self.has_ended and not self.has_unread:
            raise ConnectionResetError(CLOSED)

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        self._received += data
        try:
            while self._error is None and (answer := take_reply(self._received)) is not None:
                self._replies.append(answer)
        except ValueError as error:
            self._error = error
        if len(self._received) > MAX_REPLY or self._unread > MAX_REPLY + REPLY_ROOM * self.expected:
            self._error = ValueError("its replies are too long")
            self._received.clear()
            self.transport.abort()
        self._wake()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._wake()

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self.closed.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self.has_ended = True
        self._wake()

    async def _wait(self, seconds: float) -> None:
        """Wait until something happens, at most ``seconds``; then raise TimeoutError."""
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._timer_at > self._deadline:
            self._set_timer()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        """End a wait that has taken too long. One that began later is looked at when its own time is up."""
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() < self._deadline:
            self._set_timer()
        else:
            self._waiter.set_exception(TimeoutError())


class SmtpConnection:
    """An SMTP or LMTP connection after greeting, TLS and EHLO (or LHLO).

    A method that raises has closed the connection, because after an error we could no longer tell which command the
    next reply belongs to.
    """

    __slots__ = ("_command_timeout", "_wire", "keywords", "opened", "refusals", "target", "transactions")

    def __init__(self, target: Target, wire: _Wire, keywords: Mapping[str, str], command_timeout: float) -> None:
        self.target = target
        self.keywords = keywords
        self.opened = 0.0
        """Seconds of the monotonic clock at which the client of the next hop opened it."""
        self.transactions = 0
        """The number of MAIL commands so far."""
        self.refusals = 0
        """The number of refused commands so far."""
        self._wire = wire
        self._command_timeout = command_timeout

    @classmethod
    async def open(
        cls,
        target: Target,
        *,
        local_hostname: str,
        tls_context: ssl.SSLContext | None,
        tls_required: bool,
        connect_timeout: float,
        command_timeout: float,
    ) -> SmtpConnection:
        """Connect, wait for the greeting, send EHLO or LHLO, and start TLS if we have a context and it is offered.

        Raises NextHopUnreachableError and NextHopRefusedError. TLS is never used on a Unix socket.
        """
        client = aiosmtplib.SMTP(
            hostname=target.host or None,
            port=target.port or None,
            socket_path=target.path or None,
            local_hostname=local_hostname,
            start_tls=False,
            timeout=command_timeout,
        )
        try:
            await client.connect(timeout=connect_timeout)
            await _say_hello(client, target)
            if tls_context is not None and not target.path:
                await _start_tls(client, target, tls_context, tls_required)
            return cls(target, *_take_over(client), command_timeout)
        except BaseException as error:
            client.close()
            if isinstance(error, (aiosmtplib.SMTPException, OSError)):
                raise _as_next_hop_error(target, error) from error
            raise

    @property
    def is_open(self) -> bool:
        """True when a command can be sent: neither side has closed the connection."""
        return not (self._wire.has_ended or self._wire.transport.is_closing())

    @property
    def has_spoken(self) -> bool:
        """True when the next hop has sent something that is not read yet."""
        return self._wire.has_unread

    async def command(self, line: str) -> Answer:
        """Send a command and return its answer. Raises ValueError when the line contains a control character."""
        return (await self.commands((line,)))[0]

    async def commands(self, lines: Sequence[str]) -> list[Answer]:
        """Send commands and return their answers; several only where PIPELINING is offered (RFC 2920).

        Raises ValueError when a line contains a control character, and then sends nothing.
        """
        for (
            line
        ) in lines:  # a line that is printable has no controls: the common case, told without a regular expression
            if not line.isprintable() and CONTROL.search(line):
                raise ValueError(f"a command may not hold control characters: {line!r}")
        wire = self._wire
        if wire.has_unread:
            # Unsolicited, usually 421, which ``answer`` raises. From here on answers would not match commands.
            unsolicited = await self.answer(self._command_timeout)
            self.close()
            raise NextHopUnreachableError(f"{self.target}: it spoke out of turn: {unsolicited}")
        wire.expected = len(lines)
        await self.push(("\r\n".join(lines) + "\r\n").encode())
        return [await self.answer(self._command_timeout) for _ in lines]

    async def push(self, octets: bytes) -> None:
        """Write, with back-pressure. Returns early when the next hop replies (see ``has_spoken``)."""
        try:
            if self._wire.write(octets):
                await self._wire.drain(self._command_timeout)
        except (OSError, ValueError) as error:
            raise self._broken(error) from error
        except BaseException:  # a cancellation above all
            self.close()
            raise

    def expect(self, answers: int) -> None:
        """Make room for that many answers, which may come all at once."""
        self._wire.expected = answers

    async def answer(self, seconds: float) -> Answer:
        """Wait for an answer, at most ``seconds``. 421 ends the connection, so it is raised."""
        try:
            answer = await self._wire.reply(seconds)
        except (OSError, ValueError) as error:
            raise self._broken(error) from error
        except BaseException:  # a cancellation above all
            self.close()
            raise
        if answer.code >= 400:
            self.refusals += 1
            if answer.code == 421:
                self.close()
                raise _refusal(self.target, answer)
        return answer

    async def quit(self) -> None:
        """Send QUIT (RFC 5321 §4.1.1.10), then close. Never raises."""
        try:
            async with asyncio.timeout(QUIT_TIMEOUT):
                await self.command("QUIT")
                self._wire.transport.close()
                await self._wire.closed.wait()
        except (NextHopError, TimeoutError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Abort the connection; octets that are not written yet are lost."""
        self._wire.transport.abort()

    def _broken(self, error: Exception) -> NextHopUnreachableError:
        """Close, because of ``error``, and return what is to be raised."""
        self.close()
        return NextHopUnreachableError(
            f"{self.target}: {'no answer in time' if isinstance(error, TimeoutError) else error}"
        )


async def _say_hello(client: aiosmtplib.SMTP, target: Target) -> None:
    """Send EHLO, and HELO where EHLO is refused for good (RFC 5321 §3.2); or LHLO, for which there is no other word."""
    if target.protocol == "smtp":
        try:
            await client.ehlo()
        except aiosmtplib.SMTPHeloError as refused:
            if not 500 <= refused.code < 600:
                raise
            try:
                await client.helo()
            except aiosmtplib.SMTPServerDisconnected:  # what it said tells more than that it has left
                raise refused from None
        return
    # aiosmtplib does not know LHLO, and reads the extensions from ``last_ehlo_response``.
    reply = await client.execute_command(b"LHLO", str(client.local_hostname).encode("ascii"))
    if reply.code != 250:
        raise aiosmtplib.SMTPHeloError(reply.code, reply.message)
    client.last_ehlo_response = reply


async def _start_tls(client: aiosmtplib.SMTP, target: Target, context: ssl.SSLContext, required: bool) -> None:
    if client.supports_extension("starttls"):
        await client.starttls(tls_context=context)
        await _say_hello(client, target)  # RFC 3207 §4.2: what was learned before TLS must be discarded
    elif required:
        raise NextHopRefusedError(f"{target}: TLS is required and it does not offer STARTTLS")


def _take_over(client: aiosmtplib.SMTP) -> tuple[_Wire, dict[str, str]]:
    """Take transport and EHLO keywords from aiosmtplib. The only place that uses its internals."""
    if client.transport is None:
        raise ConnectionResetError(CLOSED)
    wire = _Wire(cast(asyncio.Transport, client.transport))
    wire.transport.set_protocol(wire)
    return wire, {name.upper(): value for name, value in client.esmtp_extensions.items()}


def _refusal(target: Target, answer: Answer) -> NextHopError:
    # RFC 5321 §3.8: with 421 the service closes the connection, so it is as good as unreachable.
    kind = NextHopUnreachableError if answer.code == 421 else NextHopRefusedError
    return kind(f"{target}: {answer}")


def _as_next_hop_error(target: Target, error: Exception) -> NextHopError:
    if isinstance(error, aiosmtplib.SMTPResponseException) and 200 <= error.code < 600:
        return _refusal(target, Answer.of(error.code, error.message.split("\n")))
    if isinstance(error, ssl.SSLError):
        return NextHopRefusedError(f"{target}: TLS failed: {error}")
    return NextHopUnreachableError(f"{target}: {str(error.__cause__ or '') or error}")
