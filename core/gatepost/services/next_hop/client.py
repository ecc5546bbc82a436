"""The client of a next hop, the mail server behind us, for plugins that deliver.

``NextHop`` has one or more targets, tried in order, and a pool of idle connections to each. ``begin()`` returns a
``Delivery``, which is one transaction: MAIL, RCPT, DATA, each with the next hop's own answer. Nothing is queued,
converted or retried here; the plugin decides what an answer means to our client.

An answer about the mail is returned, even a 5xx. Anything about us or the connection is raised: a refusal in greeting,
EHLO or STARTTLS, 530 and 535 as NextHopRefusedError; a lost connection, a timeout, 421 and nonsense as
NextHopUnreachableError. ``Delivery.dot_sent`` then tells whether the outcome is unknown (RFC 1047).

RFC 5321; RFC 2033 (LMTP: an answer per recipient after the dot); RFC 1870 (SIZE); RFC 6152 (8BITMIME); RFC 6531
(SMTPUTF8); Postfix's XFORWARD_README.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from gatepost.errors import NextHopError, NextHopRefusedError, NextHopUnreachableError
from gatepost.services.clock import Clock, Timer
from gatepost.services.next_hop.connection import SmtpConnection
from gatepost.services.next_hop.syntax import Answer, DotStuffing, Target, xforward_lines

Tls = Literal["opportunistic", "required", "off"]

FAILED_FOR = 30.0
"""Seconds for which a target that failed is tried after the others."""

IDLE_FOR = 30.0
"""Seconds after which an idle connection is closed. Postfix's smtpd waits 300 s, Dovecot's LMTP 30 s and more."""


class NextHop:
    """A client of one mail server, or of several equivalent ones.

    ``targets`` are tried in order; one that failed is tried last for 30 s. ``tls``: ``"opportunistic"`` uses STARTTLS
    when offered and does not verify the certificate, ``"required"`` requires STARTTLS and a valid certificate,
    ``"off"`` never uses it; it is never needed on a Unix socket. ``pool`` is the number of idle connections to keep to
    each target (for 30 s). It does not limit the connections in use, so slow clients cannot block others. Times are in
    seconds: ``command_timeout`` applies to each command and each block of the message, ``data_timeout`` to all answers
    to the final dot together.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        clock: Clock,
        local_hostname: str,
        tls: Tls = "opportunistic",
        pool: int = 10,
        connect_timeout: float = 10.0,
        command_timeout: float = 60.0,
        data_timeout: float = 600.0,
    ) -> None:
        if not targets:
            raise ValueError("a next hop needs at least one target")
        self.targets = tuple(targets)
        self.data_timeout = data_timeout
        self._clock = clock
        self._local_hostname = local_hostname
        self._tls_context = _tls_context(tls)
        self._tls_required = tls == "required"
        self._pool = pool
        self._connect_timeout = connect_timeout
        self._command_timeout = command_timeout
        self._idle: dict[Target, dict[SmtpConnection, Timer]] = {target: {} for target in targets}
        self._failed_until: dict[Target, float] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def begin(self) -> Delivery:
        """Begin a transaction with the first target that accepts us, over an idle connection or a new one.

        When none does, raises NextHopRefusedError if at least one target refused us, otherwise
        NextHopUnreachableError.
        """
        failures: list[NextHopError] = []
        for target in sorted(self.targets, key=self._has_failed):
            try:
                connection = await self._reuse(target) or await self._connect(target)
            except NextHopError as error:
                self.note_failure(target)
                failures.append(error)
            else:
                self._failed_until.pop(target, None)
                return Delivery(self, connection)
        refused = any(isinstance(failure, NextHopRefusedError) for failure in failures)
        kind = NextHopRefusedError if refused else NextHopUnreachableError
        raise kind("; ".join(str(failure) for failure in failures)) from failures[-1]

    async def close(self) -> None:
        """Send QUIT on all idle connections. Those in use are closed when they are released."""
        self._pool = 0
        for idle in self._idle.values():
            for connection in list(idle):
                self._dismiss(connection)
        await asyncio.gather(*self._leaving)

    def keep(self, connection: SmtpConnection) -> None:
        """Put a connection without an open transaction into the pool."""
        idle = self._idle[connection.target]
        idle[connection] = self._clock.call_later(IDLE_FOR, lambda: self._dismiss(connection))
        if len(idle) > self._pool:
            self._dismiss(next(iter(idle)))

    def note_failure(self, target: Target) -> None:
        """Try this target last for the next 30 s."""
        self._failed_until[target] = self._clock.monotonic() + FAILED_FOR

    def _has_failed(self, target: Target) -> bool:
        return self._failed_until.get(target, 0.0) > self._clock.monotonic()

    async def _connect(self, target: Target) -> SmtpConnection:
        return await SmtpConnection.open(
            target,
            local_hostname=self._local_hostname,
            tls_context=self._tls_context,
            tls_required=self._tls_required,
            connect_timeout=self._connect_timeout,
            command_timeout=self._command_timeout,
        )

    async def _reuse(self, target: Target) -> SmtpConnection | None:
        """Return an idle connection that still answers, or None.

        Only one is tried: if it is stale, so are the others probably, and each would cost the client a timeout.
        """
        idle = self._idle[target]
        while idle:
            # The one that was used last: it is the least likely to be stale, and the others may grow old and be closed.
            connection, timer = idle.popitem()
            timer.cancel()
            if not connection.is_open:
                continue
            return connection if await _reset(connection) else None
        return None

    def _dismiss(self, connection: SmtpConnection) -> None:
        self._idle[connection.target].pop(connection).cancel()
        task = asyncio.get_running_loop().create_task(connection.quit())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


class Delivery:
    """One transaction with a next hop. Always end it with ``release()`` or ``close()``.

    ``dot_sent`` tells whether the whole message, with its final dot, was sent. If NextHopUnreachableError is raised
    after that, the next hop may or may not have taken the message. Before, it is safe to begin another delivery.
    """

    def __init__(self, next_hop: NextHop, connection: SmtpConnection) -> None:
        self.target = connection.target
        self.extensions = frozenset(connection.keywords)
        self.dot_sent = False
        self._next_hop = next_hop
        self._connection = connection
        self._accepted: dict[str, Answer] = {}
        self._in_transaction = False
        self._is_released = False

    @property
    def accepted(self) -> tuple[str, ...]:
        """The recipients that the next hop has accepted, as passed to ``rcpt``."""
        return tuple(self._accepted)

    @property
    def size_limit(self) -> int | None:
        """The largest message in octets that the next hop accepts (RFC 1870); None if it does not declare a limit."""
        limit = self._connection.keywords.get("SIZE", "")
        return int(limit) or None if limit.isdecimal() else None

    async def xforward(self, attributes: Mapping[str, str]) -> None:
        """Send the next hop those attributes of our client that it asks for (Postfix's XFORWARD_README), before MAIL.

        ``attributes`` are NAME, ADDR, PORT, PROTO, HELO, IDENT, SOURCE; an empty value is sent as unavailable. Does
        nothing when XFORWARD is not offered. The next hop uses them in its log, so its answer does not matter.
        """
        wanted = self._connection.keywords.get("XFORWARD", "").upper().split()
        for line in xforward_lines({name: value for name, value in attributes.items() if name in wanted}):
            await self._say(line)

    async def mail(
        self, sender: str, *, size: int | None = None, body8bit: bool = False, smtputf8: bool = False
    ) -> Answer:
        """Send MAIL. ``sender`` is without brackets, empty for the null reverse-path; ``size`` is in octets.

        SIZE, BODY and SMTPUTF8 are only sent when offered. If a message needs one that is not in ``extensions``, do
        not send it: nothing is converted.
        """
        parameters = ""
        if size is not None and "SIZE" in self.extensions:
            parameters += f" SIZE={size}"
        if body8bit and "8BITMIME" in self.extensions:
            parameters += " BODY=8BITMIME"
        if smtputf8 and "SMTPUTF8" in self.extensions:
            parameters += " SMTPUTF8"
        self._in_transaction = True
        return await self._say(f"MAIL FROM:<{sender}>{parameters}")

    async def rcpt(self, recipient: str) -> Answer:
        """Send RCPT; ``recipient`` is without brackets. A recipient that was accepted already is not sent again."""
        if recipient in self._accepted:
            return self._accepted[recipient]
        answer = await self._say(f"RCPT TO:<{recipient}>")
        if answer.is_positive:
            self._accepted[recipient] = answer
        return answer

    async def data(
        self,
        blocks: Iterable[bytes] | AsyncIterable[bytes],
        *,
        before_dot: Callable[[], object] | None = None,
        on_answer: Callable[[str, Answer], object] | None = None,
    ) -> dict[str, Answer]:
        """Send the message and return the answer for each accepted recipient.

        ``blocks`` are the content with CRLF line ends, not dot-stuffed, split anywhere. Each is requested when the next
        hop has taken the one before. SMTP has one answer for all recipients. If an LMTP next hop disconnects after it
        has answered for some, the others get 451 4.4.2.

        ``before_dot()`` is called when all but the final dot is sent, such as ``envelope.commit``. An exception in it
        or in ``blocks`` closes the connection, and the next hop discards the message. ``on_answer(recipient, answer)``
        is called with each answer of an LMTP next hop as it comes.
        """
        if not self._accepted:
            raise ValueError("the next hop has accepted no recipient")
        go_ahead = await self._say("DATA")
        with self._noting_failure():
            if go_ahead.code != 354:
                return self._for_all(self._refusal(go_ahead))
            early = await self._stream(blocks, before_dot)
            return self._for_all(self._refusal(early)) if early else await self._outcome(on_answer)

    async def release(self) -> None:
        """Return the connection to the pool, after RSET if needed. Never raises, and may be called twice."""
        if self._is_released:
            return
        self._is_released = True
        if self._in_transaction and self._connection.is_open:
            await _reset(self._connection)
        if self._connection.is_open:
            self._next_hop.keep(self._connection)

    def close(self) -> None:
        """Abort the connection."""
        self._connection.close()

    async def _say(self, line: str) -> Answer:
        with self._noting_failure():
            return await self._connection.command(line)

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """Try this target last for a while if the next hop fails in here."""
        try:
            yield
        except NextHopError:
            self._next_hop.note_failure(self.target)
            raise

    async def _stream(
        self, blocks: Iterable[bytes] | AsyncIterable[bytes], before_dot: Callable[[], object] | None
    ) -> Answer | None:
        """Send all blocks and the final dot, unless the next hop answers before; then return that answer."""
        stuffing = DotStuffing()
        try:
            async for block in _each(blocks):
                await self._connection.push(stuffing.feed(block))
                # If the next hop is fast, push never waits. Give others a turn, and let an early answer arrive.
                await asyncio.sleep(0)
                if self._connection.has_spoken:
                    answer = await self._connection.answer(self._next_hop.data_timeout)
                    self.close()  # it would read the rest of the message as commands
                    return answer
            if before_dot is not None:
                before_dot()
        except BaseException:
            # Half a message was sent. Closing before the dot is the only way to tell the next hop to discard it.
            self.close()
            raise
        # Set before the dot is written: should that fail half-way, the next hop may have it all the same.
        self.dot_sent = True
        await self._connection.push(stuffing.end())
        return None

    async def _outcome(self, on_answer: Callable[[str, Answer], object] | None) -> dict[str, Answer]:
        """Read the answers to the final dot: one in SMTP, in LMTP one per accepted recipient, in the order of RCPT."""
        # One deadline for all answers: with one for each, a thousand recipients might take days.
        deadline = asyncio.get_running_loop().time() + self._next_hop.data_timeout
        answers: dict[str, Answer] = {}
        if self.target.protocol == "smtp":
            answers = self._for_all(await self._final_answer(deadline))
        else:
            try:
                for recipient in self._accepted:
                    answer = answers[recipient] = await self._final_answer(deadline)
                    if on_answer is not None:
                        on_answer(recipient, answer)
            except NextHopError as error:
                if not answers:
                    raise
                # Those recipients that were answered for have the message, so this must not look like a failure of all.
                self._next_hop.note_failure(self.target)
                answers = self._for_all(Answer.of(451, [f"4.4.2 {error}"])) | answers
        self._in_transaction = False
        return answers

    async def _final_answer(self, deadline: float) -> Answer:
        answer = await self._connection.answer(deadline - asyncio.get_running_loop().time())
        return answer if answer.is_positive else self._refusal(answer)

    def _refusal(self, answer: Answer) -> Answer:
        """Return the answer if it refuses. Raise for others, such as 250 to DATA, which must not count as delivery."""
        if answer.is_temporary or answer.is_permanent:
            return answer
        self.close()
        raise NextHopUnreachableError(f"{self.target}: its answer made no sense: {answer}")

    def _for_all(self, answer: Answer) -> dict[str, Answer]:
        return dict.fromkeys(self._accepted, answer)


async def _reset(connection: SmtpConnection) -> bool:
    """Send RSET; when the answer is not positive, close the connection and return False."""
    try:
        if (await connection.command("RSET")).is_positive:
            return True
    except NextHopError:
        pass
    connection.close()
    return False


async def _each(blocks: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(blocks, AsyncIterable):
        async for block in blocks:
            yield block
    else:
        for block in blocks:
            yield block


def _tls_context(tls: Tls) -> ssl.SSLContext | None:
    """Return a context for TLS 1.2 and later. Only ``required`` verifies the certificate.

    Opportunistic TLS would go on in clear text without STARTTLS, so refusing a certificate would protect nothing.
    """
    if tls == "off":
        return None
    if tls == "required":
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
