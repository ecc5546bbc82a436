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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import aiosmtplib

from gatepost.errors import NextHopError, NextHopRefusedError, NextHopUnreachableError
from gatepost.services.next_hop.syntax import CONTROL, Answer, Target, take_reply

MAX_REPLY = 65_536
"""The most octets of unread replies. No honest server sends as many; without a limit a hostile one fills our memory."""

QUIT_TIMEOUT = 5.0
"""Seconds that we wait for the answer to QUIT."""


class _Wire(asyncio.Protocol):
    """The transport of an open connection: reads replies one by one and writes with back-pressure."""

    __slots__ = ("_drained", "_news", "_received", "closed", "has_ended", "transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.has_ended = False
        self.closed = asyncio.Event()
        self._received = bytearray()
        self._news = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()

    @property
    def has_unread(self) -> bool:
        """True when octets have arrived that are not read yet."""
        return bool(self._received)

    async def reply(self) -> Answer:
        """Wait for a reply. Raises ConnectionError when none will come, ValueError when it is malformed."""
        while (answer := take_reply(self._received)) is None:
            if self.has_ended:
                raise ConnectionResetError("it closed the connection")
            self._news.clear()
            await self._news.wait()
        return answer

    async def write(self, octets: bytes) -> None:
        """Write, and wait while the next hop does not read. Raises ConnectionError when it left without a reply."""
        if not self.has_ended:
            self.transport.write(octets)
            await self._drained.wait()
        if self.has_ended and not self._received:
            raise ConnectionResetError("it closed the connection")

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > MAX_REPLY:
            self._received.clear()
            self.transport.abort()
        self._news.set()

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    def eof_received(self) -> None:
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self.closed.set()

    def _end(self) -> None:
        self.has_ended = True
        self._news.set()
        self._drained.set()


class SmtpConnection:
    """An SMTP or LMTP connection after greeting, TLS and EHLO (or LHLO).

    A method that raises has closed the connection, because after an error we could no longer tell which command the
    next reply belongs to.
    """

    __slots__ = ("_command_timeout", "_wire", "keywords", "target")

    def __init__(self, target: Target, wire: _Wire, keywords: Mapping[str, str], command_timeout: float) -> None:
        self.target = target
        self.keywords = keywords
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
        if CONTROL.search(line):
            raise ValueError(f"a command may not hold control characters: {line!r}")
        if self.has_spoken:
            # Unsolicited, usually 421, which ``answer`` raises. From here on answers would not match commands.
            unsolicited = await self.answer(self._command_timeout)
            self.close()
            raise NextHopUnreachableError(f"{self.target}: it spoke out of turn: {unsolicited}")
        await self.push(f"{line}\r\n".encode())
        return await self.answer(self._command_timeout)

    async def push(self, octets: bytes) -> None:
        """Write, with back-pressure. Returns early when the next hop replies and closes (see ``has_spoken``)."""
        with self._breaking():
            async with asyncio.timeout(self._command_timeout):
                await self._wire.write(octets)

    async def answer(self, seconds: float) -> Answer:
        """Wait for an answer, at most ``seconds``. 421, 530 and 535 are about us, not the mail, so they are raised."""
        with self._breaking():
            async with asyncio.timeout(seconds):
                answer = await self._wire.reply()
        if answer.code in (421, 530, 535):
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

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """Close on any exception, cancellation included; raise errors of the connection as NextHopUnreachableError."""
        try:
            yield
        except TimeoutError:
            self.close()
            raise NextHopUnreachableError(f"{self.target}: no answer in time") from None
        except (OSError, ValueError) as error:
            self.close()
            raise NextHopUnreachableError(f"{self.target}: {error}") from error
        except BaseException:
            self.close()
            raise


async def _say_hello(client: aiosmtplib.SMTP, target: Target) -> None:
    """Send EHLO, or LHLO, whose answer aiosmtplib then reads as that to EHLO."""
    if target.protocol == "smtp":
        await client.ehlo()
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
        raise ConnectionResetError("it closed the connection")
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
