"""The SMTP door: octets of a greeted client to lines and blocks of a conversation, and its replies back.

It is a subclass of aiosmtpd's ``SMTP``, and the only module that imports aiosmtpd. Ours are reading, the command loop,
timers, replies, end of file and loss; what a command means is the conversation's. Lines are cut straight from
``data_received``, replies to a pipelined batch leave in one write, and message blocks go to the intake as they come.

aiosmtpd's constructor takes longer than a whole session here, and what it keeps of a connection is not used, so it is
not called.

It knows no plugins. RFC 5321 §4.5.3 (limits, time-outs), RFC 2920 (pipelining).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import aiosmtpd.smtp

from gatepost import events, replies
from gatepost.concurrency import SIGNAL, EagerTask
from gatepost.conversation import Conversation
from gatepost.doors.closing import Closing, hold_for_the_end
from gatepost.doors.listener import Listener
from gatepost.gate import Gate
from gatepost.replies import Reply
from gatepost.services.clock import Timer

if TYPE_CHECKING:
    from gatepost.config import Limits

R = TypeVar("R")

LINE_BUFFER: Final = 65_536
"""Octets without a line end after which the connection is closed."""
READ_AHEAD: Final = 131_072
"""Octets that wait to be worked on before reading is paused: less than a loop reads at a time."""
BATCH: Final = 16_384
"""Octets of replies that are held back for one write at the most."""
MESSAGES: Final = 16
"""Messages that a client may send at once before it is the others' turn."""
PATIENCE: Final = 5.0
"""Seconds that a plugin has to end once its client has left."""
RATE_SECONDS: Final = 60.0
"""Over how many seconds the rate of DATA is measured."""


class SMTP(aiosmtpd.smtp.SMTP):
    """One greeted client."""

    def __init__(self, listener: Listener, conversation: Conversation, dialogue: EagerTask) -> None:
        # Not calling super().__init__ is the point: see the module's docstring.
        self.listener = listener
        self.conversation = conversation
        self._dialogue = dialogue
        dialogue.continuation = self
        self._buffer = bytearray()
        self._blocks: list[bytes] = []
        self._ahead = 0
        self._receiving = False
        self._paused_reading = False
        self._at_eof = False
        self._gone = False
        self._replies = b""
        self._waiting_since: float | None = None
        self._full = False
        self._last_words: Reply | None = None
        self._farewell: Reply | None = replies.STOPPING if listener.stopping else None
        self._timer: Timer | None = None
        self._received = 0
        self._messages = 0

    @property
    def gate(self) -> Gate:
        """The policy that the client began with."""
        return self.conversation.gate

    def take_over(self, transport: asyncio.Transport, heard: bytes, at_eof: bool) -> None:
        """Take the connection from whoever had it before the greeting, with what the client has said so far."""
        transport.set_protocol(self)
        self.connection_made(transport)
        if heard:
            self.data_received(heard)
        if at_eof:
            self.eof_received()

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count its time."""
        self._channel = cast(asyncio.Transport, transport)
        self.listener.connected[self] = None
        self._arm(self._limits.idle)

    def data_received(self, data: bytes) -> None:
        """Keep what has come and wake who waits for it."""
        if self._receiving:
            self._blocks.append(data)
            self._ahead += len(data)
        else:
            self._buffer += data
            self._ahead = len(self._buffer)
        if self._ahead > (READ_AHEAD if self._receiving else LINE_BUFFER) and not self._paused_reading:
            self._paused_reading = True
            self._channel.pause_reading()
        if self._dialogue.idle:
            self._dialogue.go_on()
        else:
            self.conversation.talks_early()

    def eof_received(self) -> bool:
        """The client has said all it will say. It still gets the replies."""
        self._at_eof = True
        self._dialogue.go_on()
        return True

    def pause_writing(self) -> None:
        """The client does not read its replies: answer nothing more until it does."""
        self._full = True

    def resume_writing(self) -> None:
        """It reads again."""
        self._full = False
        self._dialogue.go_on()

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone. What plugins do for it is cancelled, a hand-over is not."""
        self._gone = self._at_eof = True
        self._full = False
        if not self.conversation.delivering:
            self._dialogue.abandon()
        self._dialogue.go_on()
        self._lost()

    # Called by the server.

    def stop(self, now: bool) -> None:
        """The server stops: 421 as soon as no transaction is open; with ``now`` also in the midst of one.

        A plugin that is being asked is then cancelled; a hand-over is not.
        """
        self._farewell = replies.STOPPING
        if now:
            self._last_words = replies.STOPPING
            if not self.conversation.delivering:
                self._dialogue.abandon()
        self._dialogue.go_on()

    # The dialogue.

    def dialogue(self) -> Coroutine[Any, Any, None]:
        """All that is said with the client, from the greeting on."""
        return self._handle_client()

    def proceed(self, value: None, error: BaseException | None) -> None:
        """It is over. An ``error`` is a fault of ours, and the client is not left without an answer."""
        if error is not None and not self._gone:
            fault = self.conversation.failed(error)
            self._close(Reply(421, fault.text, fault.status, close=True))

    async def _handle_client(self) -> None:
        """Greet, then answer line by line until somebody has had enough."""
        reply: Reply | None
        try:
            reply = await self._answer(self.conversation.greet())
            while reply is not None and not reply.close:
                self._replies += reply.wire
                if len(self._replies) > BATCH:
                    await self._flush()
                    await asyncio.sleep(0)  # who sends a thousand commands at once does not keep others waiting
                reply = await self._next_reply()
        except asyncio.CancelledError:
            if self._last_words is None and not self._gone:
                raise  # a plugin has cancelled the task, and not waited for that
            reply = self._last_words
        if not self._gone:
            self._close(reply)

    async def _next_reply(self) -> Reply | None:
        """The reply to the client's next line or message; None when there is no more to answer."""
        conversation = self.conversation
        if conversation.intake is not None:
            await self._flush()
            self._messages += 1
            if not self._messages % MESSAGES:
                await asyncio.sleep(0)
            return await self._receive()
        if conversation.delivering:  # what follows a message follows the reply to it
            await self._flush()
            await self._answer(conversation.settled())
        while not self._buffer or (line := self._cut_line()) is None:
            if self._ends():
                return self._last_words
            self._send()
            if self._full:
                await self._room()
            elif self._at_eof:
                return self._last_words
            else:
                await self._more()
        if len(line) > 510 and len(line) + 2 > conversation.line_limit(line[:4]):
            return conversation.line_too_long()
        try:
            return await conversation.command(line, bool(self._buffer))
        except Exception as error:
            return conversation.failed(error)

    def _cut_line(self) -> bytes | None:
        """The next command line without its end; None when there is none yet, or it is time for the last words."""
        if (self._farewell is not None or self._last_words is not None or self._gone) and self._ends():
            return None
        end = self._buffer.find(b"\n", 0, LINE_BUFFER + 1)
        if end < 0:
            if len(self._buffer) > LINE_BUFFER:
                self._last_words = replies.NO_NEWLINE
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._waiting_since = None
        return line[:-1] if line.endswith(b"\r") else line

    def _ends(self) -> bool:
        """True when nothing more is to be answered: the client has gone, or it is time for the last words."""
        if self._last_words is None and self.conversation.session.envelope is None:
            self._last_words = self._farewell
        return self._last_words is not None or self._gone

    async def _receive(self) -> Reply | None:
        """Receive a message and answer it."""
        intake = self.conversation.intake
        assert intake is not None
        self._receiving = True
        self._received = self._ahead = 0
        self._arm(min(RATE_SECONDS, self._limits.idle))
        rest = intake.feed(bytes(self._buffer)) if self._buffer else None
        self._buffer.clear()
        while rest is None:
            if intake.headers_done and (fault := await self._answer(self.conversation.headers())) is not None:
                intake.refuse(fault)
            while not self._blocks:
                if self._at_eof or self._ends():
                    return self._last_words
                await self._more()
            self._waiting_since = None
            block = self._blocks[0] if len(self._blocks) == 1 else b"".join(self._blocks)  # they may be an octet each
            self._blocks.clear()
            self._ahead = 0
            rest = intake.feed(block)
        self._receiving = False
        self._buffer += rest
        return await self._answer(self.conversation.end_of_data())

    async def _answer(self, work: Awaitable[R]) -> R | Reply:
        """Await ``work`` of the conversation. A fault of ours is 451 with an incident id, never its text."""
        try:
            return await work
        except Exception as error:
            return self.conversation.failed(error)

    def _more(self) -> Awaitable[None]:
        """To be awaited: until more octets have come, the client has ended, or a limit was met."""
        if self._paused_reading:  # uvloop would read on until nothing is left, 8 MB it may be, and then comes the next
            self.listener.loop.call_soon(self._read_on)
        return self._wait()

    def _read_on(self) -> None:
        """Read again, now that others had their turn."""
        if self._paused_reading:
            self._paused_reading = False
            self._channel.resume_reading()

    async def _flush(self) -> None:
        """Send the replies of the batch, and wait until the client reads them."""
        self._send()
        if self._full:
            await self._room()

    def _send(self) -> None:
        """Send the replies of the batch in one write."""
        replies, self._replies = self._replies, b""
        if replies and not self._gone:
            self._channel.write(replies)
            self.conversation.replied()

    async def _room(self) -> None:
        """Wait until the client reads its replies, or it is time for the last words."""
        while self._full and not self._ends():
            await self._wait()
        self._waiting_since = None

    def _wait(self) -> Awaitable[None]:
        """To be awaited: the client. Its time runs until it has done what it is waited for, not only a part of it."""
        if self._waiting_since is None:
            self._waiting_since = self.listener.runtime.clock.monotonic()
        return SIGNAL

    # Limits of time.

    @property
    def _limits(self) -> Limits:
        return self.listener.runtime.limits

    def _arm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.listener.runtime.clock.call_later(seconds, self._look_at_clock)

    def _look_at_clock(self) -> None:
        """Speak the limit that is passed, or look again when the next one may be."""
        now = self.listener.runtime.clock.monotonic()
        waited = now - self._waiting_since if self._waiting_since is not None else 0.0
        if waited >= self._limits.idle:
            self._limit(replies.IDLE)
        elif self._receiving:
            self._look_at_rate()
        else:
            left = self._limits.session - (now - self.conversation.session.started)
            if left <= 0:
                self._farewell = self._farewell or replies.SESSION_TOO_LONG
                self._dialogue.go_on()
                left = self._limits.idle
            self._arm(max(0.1, min(self._limits.idle - waited, left)))

    def _look_at_rate(self) -> None:
        """DATA that trickles holds a spool file and a slot: refuse it (RFC 5321 §4.5.3.2.5 is about honest senders)."""
        intake = self.conversation.intake
        size = intake.size if intake is not None else 0
        seconds = min(RATE_SECONDS, self._limits.idle)
        if self._waiting_since is not None and size - self._received < self._limits.data_rate * seconds:
            self._limit(replies.DATA_TOO_SLOW)
            return
        self._received = size
        self._arm(seconds)

    def _limit(self, reply: Reply) -> None:
        self._last_words = reply
        self._dialogue.go_on()

    # The end.

    def _close(self, reply: Reply | None) -> None:
        """Say the last words and close."""
        # Who has said QUIT, and nothing behind it, should say no more: there is nothing to drain.
        at_eof = self._at_eof or (reply is replies.BYE and not self._buffer and not self._paused_reading)
        self._paused_reading = False  # what still comes is for whom the connection is handed to
        if at_eof and not self._replies and not self._channel.get_write_buffer_size():
            hold_for_the_end(self._channel)
        last_words = self._replies + (reply.wire if reply is not None else b"")
        Closing(self._channel, last_words, self.listener.runtime.clock, self._lost, at_eof=at_eof)
        self.conversation.replied()

    def _lost(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.listener.connected.pop(self, None)
        self.listener.connections.leave(self.conversation.session.client)
        if not self._dialogue.over:
            self.listener.runtime.spawn(self._end(self._dialogue.task))
        elif self.conversation.has_to_tell:
            self.listener.runtime.spawn(self.conversation.close(self._last_words))
        else:
            self.conversation.ended(self._last_words)

    async def _end(self, dialogue: asyncio.Task[None]) -> None:
        """End the session once the dialogue, and a hand-over it may have begun, are over."""
        patience = None if self.conversation.delivering else PATIENCE
        if not (await asyncio.wait((dialogue,), timeout=patience))[0]:
            session = self.conversation.session
            self.listener.runtime.recorder.event(events.IGNORES_CANCELLATION, session=session.id, client=session.client)
        await self.conversation.close(self._last_words)
