"""The next hop: the mail server behind us, as a plugin that delivers sees it.

``NextHop`` holds one or several targets in the order in which they are tried, and a pool of idle connections to each.
``begin()`` gives a ``Delivery``, which is one transaction: MAIL, RCPT, DATA, each with the real answer. Nothing is
queued, converted or repeated here: what an answer means to our client is for the plugin to say.

An answer that is about the mail is returned, also a 5xx. What is about us or the connection is raised: a refusal in
greeting, EHLO or STARTTLS, 530 and 535 as NextHopRefusedError; a lost connection, a time-out, 421 and nonsense as
NextHopUnreachableError. ``Delivery.dot_sent`` then tells whether the outcome is unknown (RFC 1047).

RFC 5321; RFC 2033 (LMTP: an answer per recipient after the dot); RFC 1870 (SIZE); RFC 6152 (8BITMIME); RFC 6531
(SMTPUTF8); Postfix's XFORWARD_README.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from gatepost.errors import NextHopError, NextHopRefusedError, NextHopUnreachableError
from gatepost.services.clock import Clock, Timer
from gatepost.services.next_hop.connection import Dialogue
from gatepost.services.next_hop.syntax import Answer, DotStuffing, Target, xforward_lines

__all__ = ["Answer", "Delivery", "NextHop", "Target", "Tls"]

Tls = Literal["opportunistic", "required", "off"]

#: A target that failed is tried after the others for so many seconds.
FAILED_FOR = 30.0

#: An idle connection is closed after so many seconds; Postfix's smtpd waits 300 s, Dovecot's LMTP 30 s and more.
IDLE_FOR = 30.0


class NextHop:
    """A client of one mail server, or of several of which any will do.

    ``targets`` are tried in order; one that failed is tried last for 30 s. ``tls``: ``"opportunistic"`` uses STARTTLS
    when offered and does not verify the certificate, ``"required"`` insists on both, ``"off"`` does neither; a Unix
    socket never needs it. ``pool`` is how many idle connections to each target are kept (for 30 s): more than that
    are opened when needed, so that slow clients cannot keep others from being served. ``command_timeout`` holds for
    each command and each block of the message, ``data_timeout`` for all answers to the final dot; all in seconds.
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
        self._idle: dict[Target, dict[Dialogue, Timer]] = {target: {} for target in targets}
        self._failed_until: dict[Target, float] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def begin(self) -> Delivery:
        """Begin a transaction, over an idle connection or a new one, with the first target that lets us.

        Raises NextHopRefusedError if a target refused us and none would have us, else NextHopUnreachableError.
        """
        failures: list[NextHopError] = []
        for target in sorted(self.targets, key=self._has_failed):
            try:
                dialogue = await self._reuse(target) or await self._connect(target)
            except NextHopError as error:
                self.note_failure(target)
                failures.append(error)
            else:
                self._failed_until.pop(target, None)
                return Delivery(self, dialogue)
        refused = any(isinstance(failure, NextHopRefusedError) for failure in failures)
        kind = NextHopRefusedError if refused else NextHopUnreachableError
        raise kind("; ".join(str(failure) for failure in failures)) from failures[-1]

    async def close(self) -> None:
        """Say QUIT on all idle connections. One that is in use is closed when it is released."""
        self._pool = 0
        for idle in self._idle.values():
            for dialogue in list(idle):
                self._dismiss(dialogue)
        await asyncio.gather(*self._leaving)

    def keep(self, dialogue: Dialogue) -> None:
        """Take back a connection on which no transaction is open."""
        idle = self._idle[dialogue.target]
        idle[dialogue] = self._clock.call_later(IDLE_FOR, lambda: self._dismiss(dialogue))
        if len(idle) > self._pool:
            self._dismiss(next(iter(idle)))

    def note_failure(self, target: Target) -> None:
        """Try this target after the others for a while."""
        self._failed_until[target] = self._clock.monotonic() + FAILED_FOR

    def _has_failed(self, target: Target) -> bool:
        return self._failed_until.get(target, 0.0) > self._clock.monotonic()

    async def _connect(self, target: Target) -> Dialogue:
        return await Dialogue.open(
            target,
            local_hostname=self._local_hostname,
            tls_context=self._tls_context,
            tls_required=self._tls_required,
            connect_timeout=self._connect_timeout,
            command_timeout=self._command_timeout,
        )

    async def _reuse(self, target: Target) -> Dialogue | None:
        """Return an idle connection that still answers. If the one tried does not, none is: a new one replaces it."""
        idle = self._idle[target]
        while idle:
            dialogue, timer = idle.popitem()
            timer.cancel()
            if not dialogue.is_open:
                continue
            return dialogue if await _reset(dialogue) else None
        return None

    def _dismiss(self, dialogue: Dialogue) -> None:
        self._idle[dialogue.target].pop(dialogue).cancel()
        task = asyncio.get_running_loop().create_task(dialogue.quit())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


class Delivery:
    """One transaction with a next hop. Always ends with ``release()`` or ``close()``.

    ``dot_sent``: the message went out up to its final dot. If NextHopUnreachableError is raised then, the next hop may
    have taken the message or not; before, the caller may begin again with another delivery.
    """

    def __init__(self, next_hop: NextHop, dialogue: Dialogue) -> None:
        self.target = dialogue.target
        self.extensions = frozenset(dialogue.keywords)
        self.dot_sent = False
        self._next_hop = next_hop
        self._dialogue = dialogue
        self._accepted: dict[str, Answer] = {}
        self._is_open = False
        self._is_released = False

    @property
    def accepted(self) -> tuple[str, ...]:
        """The recipients that the next hop has accepted, as they were given to ``rcpt``."""
        return tuple(self._accepted)

    @property
    def size_limit(self) -> int | None:
        """The largest message in octets that the next hop says it takes (RFC 1870); None: it does not say."""
        limit = self._dialogue.keywords.get("SIZE", "")
        return int(limit) or None if limit.isdecimal() else None

    async def xforward(self, attributes: Mapping[str, str]) -> None:
        """Tell the next hop about our client, before MAIL, as far as it wants to know (Postfix's XFORWARD_README).

        ``attributes``: NAME, ADDR, PORT, PROTO, HELO, IDENT, SOURCE; an empty value is sent as unavailable. Does
        nothing when XFORWARD is not offered. These serve the next hop's log, so it does not matter what it answers.
        """
        wanted = self._dialogue.keywords.get("XFORWARD", "").upper().split()
        for line in xforward_lines({name: value for name, value in attributes.items() if name in wanted}):
            await self._say(line)

    async def mail(
        self, sender: str, *, size: int | None = None, body8bit: bool = False, smtputf8: bool = False
    ) -> Answer:
        """Say MAIL; ``sender`` without brackets, empty for the null reverse-path; ``size`` in octets.

        SIZE, BODY and SMTPUTF8 go along only when offered. Whoever needs one that is not in ``extensions`` must not
        send the message: nothing is converted.
        """
        parameters = ""
        if size is not None and "SIZE" in self.extensions:
            parameters += f" SIZE={size}"
        if body8bit and "8BITMIME" in self.extensions:
            parameters += " BODY=8BITMIME"
        if smtputf8 and "SMTPUTF8" in self.extensions:
            parameters += " SMTPUTF8"
        self._is_open = True
        return await self._say(f"MAIL FROM:<{sender}>{parameters}")

    async def rcpt(self, recipient: str) -> Answer:
        """Say RCPT; ``recipient`` without brackets. One that was accepted before is not said again."""
        if recipient in self._accepted:
            return self._accepted[recipient]
        answer = await self._say(f"RCPT TO:<{recipient}>")
        if answer.is_positive:
            self._accepted[recipient] = answer
        return answer

    async def data(self, blocks: Iterable[bytes] | AsyncIterable[bytes]) -> dict[str, Answer]:
        """Send the message and return the answer for each accepted recipient.

        ``blocks`` are its content with canonical line ends, not dot-stuffed, cut anywhere. They are asked for one by
        one, when the next hop has taken the one before. SMTP has one answer for all; if an LMTP next hop goes away
        when it has answered for some, the others get 451 4.4.2. An exception of ``blocks`` closes the connection.
        """
        if not self._accepted:
            raise ValueError("the next hop has accepted no recipient")
        go_ahead = await self._say("DATA")
        with self._noting_failure():
            if go_ahead.code != 354:
                return self._for_all(self._refusal(go_ahead))
            early = await self._stream(blocks)
            return self._for_all(self._refusal(early)) if early else await self._outcome()

    async def release(self) -> None:
        """Give the connection back, with RSET if the transaction is still open. Never raises, nor does harm twice."""
        if self._is_released:
            return
        self._is_released = True
        if self._is_open and self._dialogue.is_open:
            await _reset(self._dialogue)
        if self._dialogue.is_open:
            self._next_hop.keep(self._dialogue)

    def close(self) -> None:
        """Drop the connection."""
        self._dialogue.close()

    async def _say(self, line: str) -> Answer:
        with self._noting_failure():
            return await self._dialogue.command(line)

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except NextHopError:
            self._next_hop.note_failure(self.target)
            raise

    async def _stream(self, blocks: Iterable[bytes] | AsyncIterable[bytes]) -> Answer | None:
        """Send all blocks and the final dot. Stops at an answer that comes before the dot, and returns it."""
        stuffing = DotStuffing()
        try:
            async for block in _each(blocks):
                await self._dialogue.push(stuffing.feed(block))
                # A fast next hop never makes push wait; others want the loop too, and an early answer must come in.
                await asyncio.sleep(0)
                if self._dialogue.has_spoken:
                    return await self._early_answer()
        except BaseException:
            # Half a message was sent. Only a connection that breaks off before the dot tells the next hop so.
            self.close()
            raise
        self.dot_sent = True
        await self._dialogue.push(stuffing.end())
        return None

    async def _early_answer(self) -> Answer:
        answer = await self._dialogue.answer(self._next_hop.data_timeout)
        self.close()
        return answer

    async def _outcome(self) -> dict[str, Answer]:
        """Read the answers to the final dot: one, or with LMTP one per accepted recipient, in their order."""
        deadline = asyncio.get_running_loop().time() + self._next_hop.data_timeout
        if self.target.protocol == "smtp":
            answers = self._for_all(await self._final_answer(deadline))
        else:
            answers = await self._lmtp_outcome(deadline)
        self._is_open = False
        return answers

    async def _lmtp_outcome(self, deadline: float) -> dict[str, Answer]:
        answers: dict[str, Answer] = {}
        try:
            for recipient in self._accepted:
                answers[recipient] = await self._final_answer(deadline)
        except NextHopError as error:
            if not answers:
                raise
            self._next_hop.note_failure(self.target)
            return self._for_all(Answer.of(451, [f"4.4.2 {error}"])) | answers
        return answers

    async def _final_answer(self, deadline: float) -> Answer:
        answer = await self._dialogue.answer(deadline - asyncio.get_running_loop().time())
        return answer if answer.is_positive else self._refusal(answer)

    def _refusal(self, answer: Answer) -> Answer:
        """Return the answer if it refuses. Anything else here, such as 250 to DATA, must never pass for delivered."""
        if answer.is_temporary or answer.is_permanent:
            return answer
        self.close()
        raise NextHopUnreachableError(f"{self.target}: its answer made no sense: {answer}")

    def _for_all(self, answer: Answer) -> dict[str, Answer]:
        return dict.fromkeys(self._accepted, answer)


async def _reset(dialogue: Dialogue) -> bool:
    """Say RSET; False, with the connection closed, when the answer is not 250."""
    try:
        if (await dialogue.command("RSET")).is_positive:
            return True
    except NextHopError:
        pass
    dialogue.close()
    return False


async def _each(blocks: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(blocks, AsyncIterable):
        async for block in blocks:
            yield block
    else:
        for block in blocks:
            yield block


def _tls_context(tls: Tls) -> ssl.SSLContext | None:
    """TLS 1.2 and later. Only ``required`` verifies: who goes on without TLS gains nothing from refusing a name."""
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
