"""One connection to a next hop: bring it up, say a command, hear the answer, stream the message.

aiosmtplib connects, reads the greeting, says EHLO and does TLS. It has no LMTP, drops a second reply that comes with
the first (after the dot LMTP sends one per recipient), and copies the whole message. So once the connection is up its
transport is taken over, in ``_take_over`` and nowhere else, by ``_Wire``: replies in, octets out, back-pressure.

This module does not know the pool, fail-over or what an answer means to our client: ``next_hop`` does the first two,
the plugin that delivers the third. RFC 5321 §3.1 (greeting), §3.8 (421), §4.1.1.10 (QUIT); RFC 2033 §4.1 (LHLO);
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

#: No reply of an honest server is longer; what is cannot fill our memory.
MAX_REPLY = 65_536

#: How long a dialogue that ends may take to say goodbye, in seconds.
QUIT_TIMEOUT = 5.0


class _Wire(asyncio.Protocol):
    """The transport of a dialogue that is up: takes replies one by one, writes with back-pressure."""

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
        """Whether something came that nobody has read."""
        return bool(self._received)

    async def reply(self) -> Answer:
        """Wait for one reply. ConnectionError: there will be none; ValueError: it is no reply."""
        while (answer := take_reply(self._received)) is None:
            if self.has_ended:
                raise ConnectionResetError("it closed the connection")
            self._news.clear()
            await self._news.wait()
        return answer

    async def write(self, octets: bytes) -> None:
        """Write, and wait while the peer takes nothing. ConnectionError: it is gone, and left no word."""
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


class Dialogue:
    """A connection past its greeting, TLS and EHLO (or LHLO).

    Each method that raises has closed the connection before: after an error nobody knows what the next reply answers.
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
    ) -> Dialogue:
        """Connect, wait for the greeting, say EHLO or LHLO, and start TLS when there is a context and it is offered.

        Raises NextHopUnreachableError and NextHopRefusedError. A Unix socket needs no TLS and gets none.
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
        """Whether a command can be said: nobody has closed the connection."""
        return not (self._wire.has_ended or self._wire.transport.is_closing())

    @property
    def has_spoken(self) -> bool:
        """Whether the next hop said something that nobody asked for."""
        return self._wire.has_unread

    async def command(self, line: str) -> Answer:
        """Say a command and return the answer to it. ValueError: it holds a control character."""
        if CONTROL.search(line):
            raise ValueError(f"a command may not hold control characters: {line!r}")
        if self.has_spoken:
            await self._hear_out()
        await self.push(f"{line}\r\n".encode())
        return await self.answer(self._command_timeout)

    async def push(self, octets: bytes) -> None:
        """Write, with back-pressure. Returns early when the next hop speaks and leaves: see ``has_spoken``."""
        with self._breaking():
            async with asyncio.timeout(self._command_timeout):
                await self._wire.write(octets)

    async def answer(self, seconds: float) -> Answer:
        """Wait at most so long for an answer. 421, 530 and 535 are about us, so they are raised."""
        with self._breaking():
            async with asyncio.timeout(seconds):
                answer = await self._wire.reply()
        if answer.code in (421, 530, 535):
            self.close()
            raise _refusal(self.target, answer)
        return answer

    async def quit(self) -> None:
        """Say goodbye (RFC 5321 §4.1.1.10), then close. Never raises."""
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
        """Drop the connection, and what is not yet written with it."""
        self._wire.transport.abort()

    async def _hear_out(self) -> None:
        """Raise what the next hop said unasked: mostly 421. Answers and questions would no longer pair."""
        unasked = await self.answer(self._command_timeout)
        self.close()
        raise NextHopUnreachableError(f"{self.target}: it spoke out of turn: {unasked}")

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """Close when anything goes wrong, cancelling too, and say that the next hop cannot be reached."""
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
    if target.protocol == "smtp":
        await client.ehlo()
        return
    reply = await client.execute_command(b"LHLO", str(client.local_hostname).encode("ascii"))
    if reply.code != 250:
        raise aiosmtplib.SMTPHeloError(reply.code, reply.message)
    client.last_ehlo_response = reply


async def _start_tls(client: aiosmtplib.SMTP, target: Target, context: ssl.SSLContext, required: bool) -> None:
    if client.supports_extension("starttls"):
        await client.starttls(tls_context=context)
        await _say_hello(client, target)
    elif required:
        raise NextHopRefusedError(f"{target}: TLS is required and it does not offer STARTTLS")


def _take_over(client: aiosmtplib.SMTP) -> tuple[_Wire, dict[str, str]]:
    """Take transport and EHLO keywords away from aiosmtplib: the one place that reaches behind its methods."""
    if client.transport is None:
        raise ConnectionResetError("it closed the connection")
    wire = _Wire(cast(asyncio.Transport, client.transport))
    wire.transport.set_protocol(wire)
    return wire, {name.upper(): value for name, value in client.esmtp_extensions.items()}


def _refusal(target: Target, answer: Answer) -> NextHopError:
    # RFC 5321 §3.8: 421 says that the service goes away, which is as good as nobody being there.
    kind = NextHopUnreachableError if answer.code == 421 else NextHopRefusedError
    return kind(f"{target}: {answer}")


def _as_next_hop_error(target: Target, error: Exception) -> NextHopError:
    if isinstance(error, aiosmtplib.SMTPResponseException) and 200 <= error.code < 600:
        return _refusal(target, Answer.of(error.code, error.message.split("\n")))
    if isinstance(error, ssl.SSLError):
        return NextHopRefusedError(f"{target}: TLS failed: {error}")
    return NextHopUnreachableError(f"{target}: {str(error.__cause__ or '') or error}")
