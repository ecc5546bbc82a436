"""The client of a next hop, the mail server behind us, for plugins that deliver.

``NextHop`` has one or more targets, tried in order, and a pool of idle connections to each. ``begin()`` returns a
``Delivery``, which is one transaction: MAIL, RCPT, DATA, each with the next hop's own answer. Nothing is queued,
converted or retried here; the plugin decides what an answer means to our client.

An answer about the mail is returned, even a 5xx. Anything about us or the connection is raised: a refusal in greeting,
EHLO or STARTTLS and what ``ABOUT_US`` lists as NextHopRefusedError; a lost connection, a timeout, 421 and nonsense,
such as 354 to MAIL, as NextHopUnreachableError. ``Delivery.dot_sent`` then tells whether the outcome is unknown (RFC
1047).

**A used connection proves nothing.** The next hop may have closed it, or had enough of it: OpenSMTPD answers 452 to
everything after 100 mails in a session, Exim leaves all but the first ten of a session in its queue. So a connection
is used for a few messages and some minutes only. And where a used one fails before the final dot, the transaction is
played again on a fresh one, once: see ``Delivery``.

RFC 5321; RFC 2033 (LMTP: an answer per recipient after the dot); RFC 1870 (SIZE); RFC 2920 (PIPELINING); RFC 6152
(8BITMIME); RFC 6531 (SMTPUTF8); Postfix's XFORWARD_README.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from typing import Final, Literal, NamedTuple, TypeAlias

from gatepost import events
from gatepost.errors import NextHopError, NextHopRefusedError, NextHopUnreachableError
from gatepost.events import NULL_RECORDER, Recorder
from gatepost.services.clock import Clock, Timer
from gatepost.services.next_hop.connection import SmtpConnection
from gatepost.services.next_hop.syntax import Answer, DotStuffing, Target, xforward_lines

Tls = Literal["opportunistic", "required", "off"]
Blocks: TypeAlias = Iterable[bytes] | AsyncIterable[bytes]
OnAnswer: TypeAlias = Callable[[str, Answer], object]

FAILED_FOR = 30.0
"""Seconds for which a target that failed is tried after the others."""

IDLE_FOR = 30.0
"""Seconds after which an idle connection is closed. Postfix's smtpd waits 300 s, Dovecot's LMTP 30 s and more."""

OLD_AFTER = 300.0
"""Seconds after which a connection is not used for another message."""

TOO_MANY_REFUSALS = 5
"""Refused commands after which a connection is not used for another message.

After ten errors in a session Postfix delays each answer, after twenty it hangs up. The next client must not pay for the
guesses of the last one.
"""

ABOUT_US: Final = frozenset({500, 502, 503, 521, 530, 535, 538})
"""Permanent refusals that speak about us: a command that the next hop does not know or want now, no mail from us at
all, or not without logging in or TLS (RFC 5321 §4.2.2, RFC 7504, RFC 4954 §6). Another client's mail might be taken."""

ABOUT_OUR_MAIL: Final = ABOUT_US | {501, 504, 555}
"""The same for a MAIL with parameters: those that we chose. Without any, 501 and the like are about the sender."""

TOGETHER = 65_536
"""Octets of the message that are collected before they are written."""


class NextHop:
    """A client of one mail server, or of several equivalent ones.

    ``targets`` are tried in order; one that failed is tried last for 30 s. ``tls``: ``"opportunistic"`` uses STARTTLS
    when offered and does not verify the certificate, ``"required"`` requires STARTTLS and a valid certificate,
    ``"off"`` never uses it; it is never needed on a Unix socket. ``pool`` is the number of idle connections to keep to
    each target (for 30 s). It does not limit the connections in use, so slow clients cannot block others. A connection
    is used for ``messages_per_connection`` messages and five minutes, and not again after five refused commands. Times
    are in seconds: ``command_timeout`` applies to each command and each block of the message, ``data_timeout`` to all
    answers to the final dot together.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        clock: Clock,
        local_hostname: str,
        recorder: Recorder = NULL_RECORDER,
        tls: Tls = "opportunistic",
        pool: int = 10,
        messages_per_connection: int = 10,
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
        self._recorder = recorder
        self._tls_context = _tls_context(tls)
        self._tls_required = tls == "required"
        self._pool = pool
        self._messages = messages_per_connection
        self._connect_timeout = connect_timeout
        self._command_timeout = command_timeout
        self._idle: dict[Target, dict[SmtpConnection, Timer]] = {target: {} for target in targets}
        self._failed: dict[Target, tuple[float, str]] = {}
        """The targets that have failed, until they work again: until when they are tried last, and how they failed."""
        self._extensions: dict[Target, frozenset[str]] = {}
        """The EHLO keywords of each target, as its last new connection had them."""
        self._leaving: set[asyncio.Task[None]] = set()
        self._exploring: set[asyncio.Task[None]] = set()

    async def begin(self) -> Delivery:
        """Begin a transaction with the first target that accepts us, over an idle connection or a new one.

        When none does, raises NextHopRefusedError if at least one target refused us, otherwise
        NextHopUnreachableError.
        """
        connection, is_used = await self._connection(may_be_used=True)
        return Delivery(self, connection, is_used)

    async def open_anew(self) -> SmtpConnection:
        """Return a connection that has not been used, to the first target that accepts us. Raises as ``begin``."""
        connection, _ = await self._connection(may_be_used=False)
        return connection

    def failed_before(self, target: Target) -> tuple[str, ...]:
        """Return the failures of those targets that would have been preferred to ``target``, had they not failed."""
        if not self._failed:
            return ()
        preferred = self.targets[: self.targets.index(target)]
        return tuple([self._failed[each][1] for each in preferred if each in self._failed])

    def explore(self) -> None:
        """Connect to each target in the background, to learn which extensions it has. Connections go into the pool."""
        for target in self.targets:
            task = asyncio.get_running_loop().create_task(self._explore(target))
            self._exploring.add(task)
            task.add_done_callback(self._exploring.discard)

    def has(self, extension: str) -> bool | None:
        """Return True if all targets have offered ``extension``, such as "SMTPUTF8", False if one has not.

        None: one that has not been reached yet might.
        """
        known = [extension in extensions for extensions in self._extensions.values()]
        if not all(known):
            return False
        return True if len(known) == len(self._idle) else None

    async def close(self) -> None:
        """Send QUIT on all idle connections. Those in use are closed when they are released."""
        self._pool = 0
        for task in self._exploring:
            task.cancel()
        for idle in self._idle.values():
            for connection in list(idle):
                self._dismiss(connection)
        await asyncio.gather(*self._leaving, *self._exploring, return_exceptions=True)

    def keep(self, connection: SmtpConnection) -> None:
        """Put a connection without an open transaction into the pool, or send QUIT when it has served its time."""
        idle = self._idle[connection.target]
        if (
            connection.transactions >= self._messages
            or connection.refusals >= TOO_MANY_REFUSALS
            or self._clock.monotonic() >= connection.opened + OLD_AFTER
        ):
            self.part_with(connection)
            return
        idle[connection] = self._clock.call_later(IDLE_FOR, lambda: self._dismiss(connection))
        if len(idle) > self._pool:
            self._dismiss(next(iter(idle)))

    def part_with(self, connection: SmtpConnection) -> None:
        """Send QUIT on a connection, and wait for nothing."""
        task = asyncio.get_running_loop().create_task(connection.quit())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def note_failure(self, target: Target, error: NextHopError) -> None:
        """Try this target last for the next 30 s."""
        if not self._has_failed(target):  # once while it keeps failing, however many clients there are
            self._recorder.event(events.NEXT_HOP_FAILED, next_hop=str(target), error=str(error))
        self._failed[target] = (self._clock.monotonic() + FAILED_FOR, str(error))

    def note_success(self, target: Target) -> None:
        """Try this target in its turn again: it has answered a command about mail."""
        if self._failed and self._failed.pop(target, None) is not None:
            self._recorder.event(events.NEXT_HOP_BACK, next_hop=str(target))

    async def _connection(self, may_be_used: bool) -> tuple[SmtpConnection, bool]:
        """Return a connection to the first target that accepts us, and whether it has been used before."""
        failures: list[NextHopError] = []
        for target in sorted(self.targets, key=self._has_failed):
            if may_be_used and (used := self._reuse(target)) is not None:
                return used, True
            try:
                return await self._open(target), False
            except NextHopError as error:
                failures.append(error)
        refused = any(isinstance(failure, NextHopRefusedError) for failure in failures)
        kind = NextHopRefusedError if refused else NextHopUnreachableError
        raise kind("; ".join(str(failure) for failure in failures)) from failures[-1]

    async def _open(self, target: Target) -> SmtpConnection:
        try:
            connection = await self._connect(target)
        except NextHopError as error:
            self.note_failure(target, error)
            raise
        connection.opened = self._clock.monotonic()
        self._extensions[target] = frozenset(connection.keywords)
        return connection

    async def _explore(self, target: Target) -> None:
        with suppress(NextHopError):  # an event tells the administrator, and clients will try again
            self.keep(await self._open(target))

    def _has_failed(self, target: Target) -> bool:
        return target in self._failed and self._failed[target][0] > self._clock.monotonic()

    async def _connect(self, target: Target) -> SmtpConnection:
        return await SmtpConnection.open(
            target,
            local_hostname=self._local_hostname,
            tls_context=self._tls_context,
            tls_required=self._tls_required,
            connect_timeout=self._connect_timeout,
            command_timeout=self._command_timeout,
        )

    def _reuse(self, target: Target) -> SmtpConnection | None:
        """Return an idle connection that is open as far as we know, or None."""
        idle = self._idle[target]
        while idle:
            # The one that was used last: it is the least likely to be stale, and the others may grow old and be closed.
            connection, timer = idle.popitem()
            timer.cancel()
            if connection.is_open and not connection.has_spoken:
                return connection
            connection.close()
        return None

    def _dismiss(self, connection: SmtpConnection) -> None:
        self._idle[connection.target].pop(connection).cancel()
        self.part_with(connection)


class _Mail(NamedTuple):
    """The MAIL of a transaction."""

    sender: str
    size: int | None
    body8bit: bool
    smtputf8: bool


class Delivery:
    """One transaction with a next hop. Always end it with ``release()`` or ``close()``.

    ``dot_sent`` tells whether the whole message, with its final dot, was sent. If NextHopUnreachableError is raised
    after that, the next hop may or may not have taken the message. Before, it is safe to begin another delivery.

    A connection that has answered before is replaced by a fresh one, once in each call, where it is lost or says 421
    before the final dot; and one from the pool also where it answers 4xx to MAIL or to the first RCPT. All that was
    said is then said again, to another target if need be. A recipient that was accepted before and is refused now gets
    451 from ``data``, because our client has heard already that it is fine.
    """

    __slots__ = (
        "_about",
        "_accepted",
        "_again",
        "_connection",
        "_from_pool",
        "_has_answered",
        "_in_transaction",
        "_is_released",
        "_lost",
        "_mail",
        "_next_hop",
        "dot_sent",
        "extensions",
        "target",
    )

    def __init__(self, next_hop: NextHop, connection: SmtpConnection, from_pool: bool) -> None:
        self.dot_sent = False
        self._next_hop = next_hop
        self._about: Mapping[str, str] = {}
        self._mail: _Mail | None = None
        self._accepted: dict[str, Answer] = {}
        self._is_released = False
        self._use(connection, from_pool)

    def _use(self, connection: SmtpConnection, from_pool: bool) -> None:
        self._connection = connection
        self.target = connection.target
        self.extensions = frozenset(connection.keywords)
        self._from_pool = from_pool
        """True until the first RCPT is answered on a connection that came from the pool."""
        self._has_answered = from_pool
        self._in_transaction = False
        """True from the answer to MAIL until the dot or RSET."""
        self._again = tuple(self._accepted)
        """Recipients that were accepted, and have to be said again on this connection."""
        self._lost: dict[str, Answer] = {}
        """Those of them that are now refused."""

    @property
    def accepted(self) -> tuple[str, ...]:
        """The recipients that the next hop has accepted, as passed to ``rcpt``."""
        return tuple(self._accepted)

    @property
    def failed(self) -> tuple[str, ...]:
        """The failures of those targets that come before ``target``, for the log; as a rule empty."""
        return self._next_hop.failed_before(self.target)

    @property
    def size_limit(self) -> int | None:
        """The largest message in octets that the next hop accepts (RFC 1870); None if it does not declare a limit."""
        limit = self._connection.keywords.get("SIZE", "")
        return int(limit) or None if limit.isdecimal() else None

    async def xforward(self, attributes: Mapping[str, str]) -> None:
        """Have those attributes of our client that the next hop asks for sent with MAIL (Postfix's XFORWARD_README).

        ``attributes`` are NAME, ADDR, PORT, PROTO, HELO, IDENT, SOURCE; an empty value is sent as unavailable. Does
        nothing when XFORWARD is not offered. The next hop uses them in its log, so its answer does not matter.
        """
        self._about = attributes

    async def mail(
        self, sender: str, *, size: int | None = None, body8bit: bool = False, smtputf8: bool = False
    ) -> Answer:
        """Send MAIL. ``sender`` is without brackets, empty for the null reverse-path; ``size`` is in octets.

        SIZE, BODY and SMTPUTF8 are only sent when offered. If a message needs one that is not in ``extensions``, do
        not send it: nothing is converted.
        """
        answer, _ = await self.envelope(sender, (), size=size, body8bit=body8bit, smtputf8=smtputf8)
        return answer

    async def rcpt(self, recipient: str) -> Answer:
        """Send RCPT; ``recipient`` is without brackets. A recipient that was accepted already is not sent again."""
        if recipient in self._accepted:
            return self._accepted[recipient]
        answer, answers = await self._say((recipient,))
        return answers[0] if answers else answer

    async def envelope(
        self,
        sender: str,
        recipients: Sequence[str],
        *,
        size: int | None = None,
        body8bit: bool = False,
        smtputf8: bool = False,
    ) -> tuple[Answer, list[Answer]]:
        """Send MAIL and RCPT, all at once if PIPELINING is offered: one round trip instead of one for each.

        Returns the answer to MAIL and, unless that is a refusal, one for each of ``recipients``, which are all
        different. The parameters are those of ``mail``.
        """
        self._mail = _Mail(sender, size, body8bit, smtputf8)
        return await self._say(recipients)

    async def data(
        self,
        blocks: Blocks | Callable[[], Blocks],
        *,
        before_dot: Callable[[], object] | None = None,
        on_answer: OnAnswer | None = None,
    ) -> dict[str, Answer]:
        """Send the message and return the answer for each accepted recipient.

        ``blocks`` are the content with CRLF line ends, not dot-stuffed, split anywhere. Each is requested when the next
        hop has taken the one before. An iterator can be sent once only; a list of blocks, or a function that returns
        them, such as ``message.blocks``, once more on a fresh connection. SMTP has one answer for all recipients. If an
        LMTP next hop disconnects after it has answered for some, the others get 451 4.4.2.

        ``before_dot()`` is called when the final dot is to leave with the next octets, such as ``envelope.commit``. An
        exception in it or in ``blocks`` closes the connection, and the next hop discards the message.
        ``on_answer(recipient, answer)`` is called with each answer of an LMTP next hop as it comes.
        """
        if not self._accepted:
            raise ValueError("the next hop has accepted no recipient")
        try:
            return await self._data(blocks, before_dot, on_answer)
        except NextHopError as error:
            is_lost = isinstance(error, NextHopUnreachableError) and not self.dot_sent
            if not is_lost or isinstance(blocks, Iterator | AsyncIterator):
                self._next_hop.note_failure(self.target, error)
                raise
        await self._renew()
        try:
            return await self._data(blocks, before_dot, on_answer)
        except NextHopError as error:
            self._next_hop.note_failure(self.target, error)
            raise

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

    # The envelope.

    async def _say(self, recipients: Sequence[str]) -> tuple[Answer, list[Answer]]:
        """Send what this connection has not heard yet, then RCPT for ``recipients``; see the class for the second try.

        Returns the answer to MAIL and, unless that is a refusal, one for each of ``recipients``.
        """
        try:
            answer, answers = await self._say_here(recipients)
            if not self._is_worn_out(answer, answers):
                return answer, answers
            self._next_hop.part_with(self._connection)
        except NextHopError as error:
            if not (self._has_answered and isinstance(error, NextHopUnreachableError)):
                self._next_hop.note_failure(self.target, error)
                raise
        await self._renew()
        try:
            return await self._say_here(recipients)
        except NextHopError as error:
            self._next_hop.note_failure(self.target, error)
            raise

    def _is_worn_out(self, answer: Answer, answers: Sequence[Answer]) -> bool:
        """Return True when what came from the pool is good for nothing: 4xx to MAIL, or to the first RCPT."""
        if not self._from_pool:
            return False
        self._from_pool = not answers
        return answer.is_temporary or (bool(answers) and answers[0].is_temporary)

    async def _renew(self) -> None:
        """Take a fresh connection, on which nothing has been said yet."""
        self._use(await self._next_hop.open_anew(), from_pool=False)

    async def _say_here(self, recipients: Sequence[str]) -> tuple[Answer, list[Answer]]:
        connection, first = self._connection, len(self._again)
        opening = [] if self._in_transaction else [*self._xforward_lines(), self._mail_line()]
        lines = [*opening, *(f"RCPT TO:<{recipient}>" for recipient in (*self._again, *recipients))]
        if "SMTPUTF8" not in self.extensions and not all(line.isascii() for line in lines):
            raise NextHopRefusedError(f"{self.target}: it does not offer SMTPUTF8, which an address needs")
        if opening:
            connection.transactions += 1
        if "PIPELINING" in self.extensions:
            said = await connection.commands(lines)
        else:
            said = []
            for line in lines:
                said.append(await connection.command(line))
                if len(said) == len(opening) and not said[-1].is_positive:
                    break
        self._has_answered = True
        answer = _HEARD
        if opening:
            has_parameters = not opening[-1].endswith(">")
            answer = self._judged(said[len(opening) - 1], ABOUT_OUR_MAIL if has_parameters else ABOUT_US)
        if not answer.is_positive:
            return answer, []
        self._in_transaction = True
        self._next_hop.note_success(self.target)
        answers = [self._judged(each) for each in said[len(opening) :]]
        self._lost.update(
            (recipient, _for_later(again))
            for recipient, again in zip(self._again, answers[:first], strict=True)
            if not again.is_positive
        )
        self._again, answers = (), answers[first:]
        self._accepted.update(
            (recipient, heard) for recipient, heard in zip(recipients, answers, strict=True) if heard.is_positive
        )
        return answer, answers

    def _xforward_lines(self) -> Iterable[str]:
        if not self._about or "XFORWARD" not in self.extensions:
            return ()
        wanted = self._connection.keywords["XFORWARD"].upper().split()
        return xforward_lines({name: value for name, value in self._about.items() if name in wanted})

    def _mail_line(self) -> str:
        if self._mail is None:
            raise ValueError("MAIL comes before RCPT")
        sender, size, body8bit, smtputf8 = self._mail
        line = f"MAIL FROM:<{sender}>"
        if size is not None and "SIZE" in self.extensions:
            line += f" SIZE={size}"
        if body8bit and "8BITMIME" in self.extensions:
            line += " BODY=8BITMIME"
        if smtputf8 and "SMTPUTF8" in self.extensions:
            line += " SMTPUTF8"
        return line

    # The message.

    async def _data(
        self,
        blocks: Blocks | Callable[[], Blocks],
        before_dot: Callable[[], object] | None,
        on_answer: OnAnswer | None,
    ) -> dict[str, Answer]:
        """Send the message on this connection, and before it the envelope if it has not heard that."""
        if not self._in_transaction:
            answer, _ = await self._say_here(())
            if not answer.is_positive:
                return dict.fromkeys(self._accepted, _for_later(answer))
        recipients = [recipient for recipient in self._accepted if recipient not in self._lost]
        if not recipients:
            return dict(self._lost)
        go_ahead = await self._connection.command("DATA")
        if go_ahead.code != 354:
            return dict.fromkeys(recipients, self._refusal(go_ahead)) | self._lost
        early = await self._stream(blocks() if callable(blocks) else blocks, before_dot)
        if early is not None:
            return dict.fromkeys(recipients, self._refusal(early)) | self._lost
        return await self._outcome(recipients, on_answer) | self._lost

    async def _stream(self, blocks: Blocks, before_dot: Callable[[], object] | None) -> Answer | None:
        """Send all blocks and the final dot, unless the next hop answers before; then return that answer."""
        stuffing = DotStuffing()
        waiting = b""
        """Octets that are written with the next ones: short blocks, and the last one with the dot."""
        try:
            async for block in _each(blocks):
                if len(waiting) >= TOGETHER:
                    await self._connection.push(waiting)
                    waiting = b""
                    # If the next hop is fast, push never waits. Give others a turn, and let an early answer arrive.
                    await asyncio.sleep(0)
                    if self._connection.has_spoken:
                        break
                waiting += stuffing.feed(block)
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
        await self._connection.push(waiting + stuffing.end())
        return None

    async def _outcome(self, recipients: Sequence[str], on_answer: OnAnswer | None) -> dict[str, Answer]:
        """Read the answers to the final dot: one in SMTP, in LMTP one per accepted recipient, in the order of RCPT."""
        # One deadline for all answers: with one for each, a thousand recipients might take days.
        deadline = asyncio.get_running_loop().time() + self._next_hop.data_timeout
        answers: dict[str, Answer] = {}
        if self.target.protocol == "smtp":
            answers = dict.fromkeys(recipients, self._judged(await self._final_answer(deadline)))
        else:
            self._connection.expect(len(recipients))
            try:
                for recipient in recipients:
                    answer = await self._final_answer(deadline)
                    # Closing now would leave the others without an answer, although they have the message.
                    answer = _for_later(answer) if answer.code in ABOUT_US else self._judged(answer)
                    answers[recipient] = answer
                    if on_answer is not None:
                        on_answer(recipient, answer)
            except NextHopError as error:
                if not answers:
                    raise
                # Those recipients that were answered for have the message, so this must not look like a failure of all.
                self._next_hop.note_failure(self.target, error)
                answers = dict.fromkeys(recipients, _BROKEN_OFF) | answers
        self._in_transaction = False
        return answers

    async def _final_answer(self, deadline: float) -> Answer:
        return await self._connection.answer(deadline - asyncio.get_running_loop().time())

    def _judged(self, answer: Answer, about_us: Set[int] = ABOUT_US) -> Answer:
        """Return an answer about the mail. Raise for one about us, and for one that is none, such as 354."""
        return answer if answer.is_positive else self._refusal(answer, about_us)

    def _refusal(self, answer: Answer, about_us: Set[int] = ABOUT_US) -> Answer:
        """Return an answer that refuses the mail. Raise for others, also for 250, which would count as delivery."""
        if answer.code not in about_us and (answer.is_temporary or answer.is_permanent):
            return answer
        self.close()
        if answer.code in about_us:
            raise NextHopRefusedError(f"{self.target}: {answer}")
        raise NextHopUnreachableError(f"{self.target}: its answer made no sense: {answer}")


_BROKEN_OFF = Answer(451, "4.4.2", "the mail server behind this one broke off")
"""The answer for a recipient that an LMTP next hop has not answered for. It is for our client, so it names nothing."""
_HEARD = Answer(250, None, "")
"""What stands for the answer to MAIL when that was said before."""


def _for_later(answer: Answer) -> Answer:
    """Return a refusal as a temporary one: our client has heard already that the recipient is fine."""
    return Answer(451, f"4{answer.status[1:]}" if answer.status else None, answer.text)


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
