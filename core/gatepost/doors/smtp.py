"""The SMTP door turns the octets of a greeted client into command lines and blocks of data, and writes the replies.

The door handles reading, writing, time limits, end of file and loss; the conversation handles commands. Lines are cut
straight from what ``data_received`` brings, without a stream in between, replies to a pipelined batch leave in one
write, and blocks of a message go to its reader as they come.

It knows no plugins. RFC 5321 §4.5.3 (limits, timeouts), RFC 2920 (pipelining).
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable
from time import perf_counter
from typing import Final, TypeVar

from gatepost import events, replies
from gatepost.concurrency import SIGNAL, EagerTask
from gatepost.conversation import Conversation
from gatepost.doors.closing import Closing, hold_for_the_end, is_lost
from gatepost.doors.listener import Listener
from gatepost.gate import STALL_SECONDS, Gate
from gatepost.message import DataReader
from gatepost.replies import Reply
from gatepost.services.clock import Timer

R = TypeVar("R")

LINE_BUFFER: Final = 65_536
"""Octets without a line end after which the connection is closed."""
READ_AHEAD: Final = 131_072
"""Octets of a message after which other clients are read from. One read of a fast client exceeds it: uvloop reads up to
256,000 octets at a time."""
SENT_AHEAD: Final = 4096
"""Octets that each client may send while a plugin is waited for: a hundred recipients. Then reading is paused. What has
come by then counts against the spool's budget of memory, since it may be one read."""
LOSS_LOOK: Final = 5.0
"""Seconds between two looks whether a client that is not read from is still there."""
BATCH: Final = 16_384
"""Octets of replies after which a batch is written, although more commands have come."""
MESSAGES_PER_TURN: Final = 16
"""Messages that a client may send in a row before other clients get a turn of the loop."""
PLUGIN_GRACE: Final = 5.0
"""Seconds that a plugin has to end once its client has left."""
RATE_SECONDS: Final = 60.0
"""The period over which the rate of DATA is measured."""


class State(enum.Enum):
    """The state of a connection. The table in the docstring of ``SMTP`` says what each event does in it."""

    COMMAND = enum.auto()
    DATA = enum.auto()
    CLOSING = enum.auto()
    GONE = enum.auto()


_now: Final = perf_counter
_CR: Final = 13
_STALL_SECONDS: Final = STALL_SECONDS
# Read for each block and each line: attribute access on an Enum class is slow.
_COMMAND: Final = State.COMMAND
_DATA: Final = State.DATA
_CLOSING: Final = State.CLOSING
_GONE: Final = State.GONE


class Ending:
    """A decision of the door to end the session with ``reply``: ``now``, or once no transaction is open."""

    __slots__ = ("now", "reply")

    def __init__(self, reply: Reply, *, now: bool) -> None:
        self.reply = reply
        self.now = now


class SMTP(asyncio.Protocol):
    """One greeted client.

    A coroutine, ``converse``, runs the session, and ``_state`` says how far it is. The greeting is the first reply in
    COMMAND, and the handover of a message belongs to COMMAND too: octets that arrive meanwhile are commands.

    =============== ============================ ============================ ==================== =====
    event           COMMAND                      DATA                         CLOSING              GONE
    =============== ============================ ============================ ==================== =====
    octets          answered line by line        fed to the data reader       discarded            –
    354 is written  → DATA                       –                            –                    –
    final dot       –                            → COMMAND                    –                    –
    closing reply   → CLOSING                    –                            –                    –
    end of file     whole lines are answered,    → CLOSING, no message        → GONE               –
                    then → CLOSING
    server stops    421 once no transaction is   421 after the message; with  –                    –
                    open; with ``now`` at once   ``now`` at once
    session limit   421 once no transaction is   421 after the message        –                    –
                    open
    idle limit      421 at once                  421 at once                  –                    –
    slow DATA       –                            421 at once                  –                    –
    connection lost → GONE; a plugin that is     likewise                     → GONE               –
                    asked is cancelled, but not
                    a handover behind its point
                    of no return
    =============== ============================ ============================ ==================== =====

    Every 421 leads to CLOSING. There the transport belongs to a ``Closing``, which calls back once the connection is
    lost.
    """

    __slots__ = (
        "_at_eof",
        "_ending",
        "_held",
        "_input",
        "_loss_timer",
        "_position",
        "_reading_paused",
        "_replies",
        "_size_seen",
        "_state",
        "_task",
        "_timer",
        "_transport",
        "_waiting_since",
        "_write_paused",
        "conversation",
        "listener",
    )

    def __init__(
        self,
        listener: Listener,
        conversation: Conversation,
        task: EagerTask,
        transport: asyncio.Transport,
        heard: bytes,
        at_eof: bool,
    ) -> None:
        """Take over a connection and the octets that were ``heard`` before the greeting.

        If these are more than SENT_AHEAD, the protocol before this one has paused reading, and counted them against the
        spool's budget.
        """
        self.listener = listener
        self.conversation = conversation
        self._task = task
        task.continuation = self
        self._transport = transport
        self._state = _COMMAND
        self._ending: Ending | None = Ending(replies.STOPPING, now=False) if listener.stopping else None
        self._input = heard
        self._position = 0
        """The place in ``_input`` at which the next line begins. ``_input`` is empty when all of it is read."""
        self._reading_paused = len(heard) > SENT_AHEAD
        self._held = len(heard) if self._reading_paused else 0
        """Octets of ``_input`` that count against the spool's budget."""
        self._loss_timer: Timer | None = None
        if self._reading_paused:
            self._loss_timer = listener.runtime.clock.call_later(LOSS_LOOK, self._look_for_loss)
        self._at_eof = at_eof
        self._replies = b""
        """Replies of the batch, not written yet."""
        self._write_paused = False
        """True while the client does not read its replies."""
        self._waiting_since: float | None = None
        """The time at which waiting for the client began; None while the client waits for a reply."""
        self._size_seen = 0
        """Octets of the message when its rate was last checked."""
        self._timer: Timer | None = None
        listener.connected[self] = None
        transport.set_protocol(self)
        self._set_timer(listener.runtime.limits.idle)

    @property
    def gate(self) -> Gate:
        """The policy that the client began with."""
        return self.conversation.gate

    # Called by the transport.

    def data_received(self, data: bytes) -> None:
        """Keep what has come, and go on with the session if it waits for that."""
        # Compiled code copies where the interpreter would not: all of a slice, and what is added to nothing.
        self._input = self._input[self._position :] + data if self._input else data
        self._position = 0
        limit = READ_AHEAD if self._state is _DATA else LINE_BUFFER
        if len(self._input) > limit and not self._reading_paused:
            self._pause_reading()
        if self._task.idle:
            self._task.go_on()
        else:
            self.conversation.talks_early()
        if len(self._input) > SENT_AHEAD:
            self._hold()

    def eof_received(self) -> bool:
        """Note that the client has said all it will say. It still gets the replies."""
        self._at_eof = True
        self._task.go_on()
        return True  # keep our side open, for the replies

    def pause_writing(self) -> None:
        """Answer nothing more until the client reads its replies."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Go on: the client reads again."""
        self._write_paused = False
        self._task.go_on()

    def connection_lost(self, error: Exception | None) -> None:
        """Cancel what plugins do for the client, unless it is a handover that has passed its point of no return."""
        self._state = _GONE
        if self.conversation.lose_client():
            self._task.abandon()
        self._task.go_on()  # the session may be waiting for the client, which does nothing more
        self._finish()

    # What waits while a plugin is asked, or for the rest of its line.

    def _hold(self) -> None:
        """Count what waits against the spool's budget of memory, and end the session if that is spent."""
        if self._state is _CLOSING or self._state is _GONE:
            return
        more = len(self._input) - self._held
        if self.listener.runtime.spool.take(more):
            self._held += more
            if not (self._reading_paused or self._task.idle):
                self._pause_reading()
            return
        self._input = b""
        self._position = 0
        self._give_back()
        if not self._reading_paused:
            self._pause_reading()
        if not self.conversation.delivering:
            self._task.abandon()
        self._end_with(replies.SENT_AHEAD, now=True)

    def _give_back(self) -> None:
        """Count nothing any more: all that waited has been read, or will not be."""
        self.listener.runtime.spool.give_back(self._held)
        self._held = 0

    def _pause_reading(self) -> None:
        """Read nothing more until the session waits for input, and look now and then if the client is still there."""
        self._reading_paused = True
        self._transport.pause_reading()
        if self._loss_timer is None:
            self._loss_timer = self.listener.runtime.clock.call_later(LOSS_LOOK, self._look_for_loss)

    def _look_for_loss(self) -> None:
        """Notice that a client is lost from which nothing is read, so that nobody works for it. Look again later."""
        self._loss_timer = None
        if not self._reading_paused or self._state is _CLOSING or self._state is _GONE:
            return
        if is_lost(self._transport):
            self._transport.abort()
        else:
            self._loss_timer = self.listener.runtime.clock.call_later(LOSS_LOOK, self._look_for_loss)

    # Called by the server.

    def stop(self, now: bool) -> None:
        """Say 421 as soon as no transaction is open; with ``now`` also in the midst of one.

        A plugin that is being asked is then cancelled; a handover is not.
        """
        if self._state is _CLOSING:
            return
        if now and not self.conversation.delivering:
            self._task.abandon()
        self._end_with(replies.STOPPING, now=now)

    # The session.

    async def converse(self) -> Reply | None:
        """Greet the client, then answer it line by line. Return the reply to close with; None: there is none."""
        conversation = self.conversation
        transaction = conversation.transaction
        messages = 0
        reply: Reply | None = await self._guard(conversation.greet())
        while reply is not None and not reply.close:
            self._replies += reply.wire
            if len(self._replies) > BATCH:
                await self._flush()
                await asyncio.sleep(0)  # a client that sends a thousand commands at once does not keep others waiting
            reader = transaction.reader
            if reader is not None:
                await self._flush()
                messages += 1
                if not messages % MESSAGES_PER_TURN:
                    await asyncio.sleep(0)
                reply = await self._receive(reader)
                continue
            if transaction.unfinished is not None:  # what follows a message, such as ``queued``, follows its reply
                await self._flush()
                await self._guard(transaction.finish_message())
            line = self._cut_line() if self._input else None
            while line is None:
                if not self._prepare_to_wait():
                    return self._last_words
                await (self._wait_for_room() if self._write_paused else self._wait_for_input())
                line = self._cut_line() if self._input else None
            # 512 octets is the least limit. It counts the CRLF, which ``line`` no longer has. Each verb with a limit of
            # its own has four letters.
            if len(line) > 510 and len(line) + 2 > conversation.line_limit(line[:4]):
                reply = conversation.line_too_long()
                continue
            try:
                reply = await conversation.command(line, bool(self._input))
            except Exception as error:
                reply = conversation.internal_error(error)
        return reply

    def proceed(self, reply: Reply | None, error: BaseException | None) -> None:
        """Close, now that ``converse`` is over. An ``error`` is a fault of ours, and the client gets an answer too."""
        if self._state is _GONE:
            return
        if error is not None:
            reply = self._last_words if isinstance(error, asyncio.CancelledError) else None
            if reply is None:  # else ``stop`` cancelled what a plugin did, in order to say this reply
                fault = self.conversation.internal_error(error)
                reply = Reply(421, fault.text, fault.status, close=True)
        self._close(reply)

    def _cut_line(self) -> bytes | None:
        """Return the next command without its line end; None when it is not whole yet or the session ends first."""
        if self._check_ending():
            return None
        start = self._position
        end = self._input.find(b"\n", start, start + LINE_BUFFER + 1)
        if end < 0:
            if len(self._input) - start > LINE_BUFFER:
                self._ending = Ending(replies.NO_NEWLINE, now=True)
            return None
        line = self._input[start : end - 1 if end > start and self._input[end - 1] == _CR else end]
        if line and line[-1] == _CR:  # several CRs before LF are one line end
            line = line.rstrip(b"\r")
        if end + 1 < len(self._input):
            self._position = end + 1
        else:
            self._input = b""
            self._position = 0
            if self._held:
                self._give_back()
        self._waiting_since = None
        return line

    async def _receive(self, reader: DataReader) -> Reply | None:
        """Receive a message and answer it; None when the client has ended before its final dot."""
        self._state = _DATA
        self._size_seen = 0
        self._set_timer(min(RATE_SECONDS, self.listener.runtime.limits.idle))
        behind_dot = None
        while behind_dot is None:
            while not self._input:
                if self._at_eof or self._check_ending():
                    return self._last_words
                await self._wait_for_input()
            self._waiting_since = None
            block = self._input[self._position :] if self._position else self._input
            self._input = b""
            self._position = 0
            if self._held:
                self._give_back()
            began = _now()
            behind_dot = reader.feed(block)
            if _now() - began > _STALL_SECONDS:  # a disk that takes long to write, since all else is bounded
                self._stalled(_now() - began)
            if behind_dot is None and reader.headers_done:
                fault = await self._guard(self.conversation.transaction.headers())
                if fault is not None:
                    reader.refuse(fault)
        self._state = _COMMAND
        self._input = behind_dot
        if self._reading_paused and len(behind_dot) <= LINE_BUFFER:
            # While reading is paused, a client that is lost is not noticed, and its handover would go on.
            self.listener.loop.call_soon(self._read_on)
        return await self._guard(self.conversation.end_of_data())

    def _stalled(self, seconds: float) -> None:
        """Log that this client's message has kept all others waiting."""
        session = self.conversation.session.id
        facts = {"plugin": "gatepost", "phase": "data", "session": session, "seconds": round(seconds, 3)}
        self.listener.runtime.recorder.event(events.STALL, **facts)

    async def _guard(self, work: Awaitable[R]) -> R | Reply:
        """Await ``work`` of the conversation. A fault of ours is 451 with an incident id, never its text."""
        try:
            return await work
        except Exception as error:
            return self.conversation.internal_error(error)

    # Waiting for the client.

    def _prepare_to_wait(self) -> bool:
        """Write the batch. Return False when there is nothing to wait for: the session or the client's input ends."""
        if self._check_ending():
            return False
        self._send()
        return self._write_paused or not self._at_eof

    def _wait_for_input(self) -> Awaitable[None]:
        """Return an awaitable that ends when octets, the end of file or a limit arrives."""
        if self._reading_paused:  # in another turn: uvloop reads up to 8 MB from one client before it looks at the next
            self.listener.loop.call_soon(self._read_on)
        return self._wait()

    def _read_on(self) -> None:
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    async def _flush(self) -> None:
        """Write the replies of the batch, and wait until the client reads them."""
        self._send()
        if self._write_paused:
            await self._wait_for_room()

    def _send(self) -> None:
        """Write the replies of the batch at once."""
        written, self._replies = self._replies, b""
        if written and self._state is not _GONE:
            self._transport.write(written)
            self.conversation.after_reply()

    async def _wait_for_room(self) -> None:
        """Wait until the client reads its replies, or the session ends first."""
        while self._write_paused and not self._check_ending():
            await self._wait()
        self._waiting_since = None

    def _wait(self) -> Awaitable[None]:
        """Return an awaitable of anything that the client does.

        The idle timer restarts only when a whole line or a block of a message has been taken, or the client has read
        its replies. Single octets of a line do not restart it.
        """
        if self._waiting_since is None:
            self._waiting_since = self.listener.runtime.clock.monotonic()
        return SIGNAL

    # Limits of time.

    # A connection has one timer, which compares the times when it is due and sets itself anew, so commands set none.

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.listener.runtime.clock.call_later(seconds, self._check_time)

    def _check_time(self) -> None:
        """End the session if a limit is passed, else look again when the next one may be."""
        limits = self.listener.runtime.limits
        now = self.listener.runtime.clock.monotonic()
        waited = now - self._waiting_since if self._waiting_since is not None else 0.0
        if waited >= limits.idle:
            self._end_with(replies.IDLE, now=True)
        elif self._state is _DATA:
            self._check_rate()
        else:
            left = limits.session - (now - self.conversation.session.started)
            if left <= 0:
                if self._ending is None:
                    self._end_with(replies.SESSION_TOO_LONG, now=False)
                left = limits.idle  # the transaction may go on, and its client is still not to idle
            self._set_timer(max(0.1, min(limits.idle - waited, left)))

    def _check_rate(self) -> None:
        """Refuse DATA that trickles: it holds a spool file and a connection.

        RFC 5321 §4.5.3.2.5 allows a client three minutes for each block. A message could be stretched over hours with
        that, which no honest sender does.
        """
        limits = self.listener.runtime.limits
        reader = self.conversation.transaction.reader
        size = reader.size if reader is not None else 0
        seconds = min(RATE_SECONDS, limits.idle)
        # A client that waits for a plugin, and is not waited for, may be unable to send more.
        if self._waiting_since is not None and size - self._size_seen < limits.data_rate * seconds:
            self._end_with(replies.DATA_TOO_SLOW, now=True)
            return
        self._size_seen = size
        self._set_timer(seconds)

    # The end.

    def _end_with(self, reply: Reply, *, now: bool) -> None:
        """Have the session end with ``reply``. An immediate ending overrides a deferred one."""
        if now or self._ending is None or not self._ending.now:
            self._ending = Ending(reply, now=now)
        self._task.go_on()

    def _check_ending(self) -> bool:
        """Return True when nothing more is to be answered: the client has gone, or its session ends now.

        With no transaction open, a deferred ending becomes due: from now on it is immediate.
        """
        ending = self._ending
        if ending is not None and not ending.now and self.conversation.session.envelope is None:
            ending.now = True
        return (ending is not None and ending.now) or self._state is _GONE

    @property
    def _last_words(self) -> Reply | None:
        """The reply with which the door ends the session of its own accord, if it is doing so."""
        return self._ending.reply if self._ending is not None and self._ending.now else None

    def _close(self, reply: Reply | None) -> None:
        """Write what is left of the batch and ``reply``, and close the connection."""
        # A client that has said QUIT, and nothing after it, should say no more: there is nothing to drain.
        at_eof = self._at_eof or (reply is replies.BYE and not self._input and not self._reading_paused)
        self._state = _CLOSING
        self._reading_paused = False  # whether to read is for Closing to say, and not for a ``_read_on`` under way
        if at_eof and not self._replies and not self._transport.get_write_buffer_size():
            hold_for_the_end(self._transport)
        last_words = self._replies + (reply.wire if reply is not None else b"")
        Closing(self._transport, last_words, self.listener.runtime.clock, self._finish, at_eof=at_eof)
        self.conversation.after_reply()

    def _finish(self) -> None:
        """End the session, now that the connection is gone."""
        self._state = _GONE
        if self._timer is not None:
            self._timer.cancel()
        if self._loss_timer is not None:
            self._loss_timer.cancel()
        if self._held:
            self._give_back()
        self.listener.connected.pop(self, None)
        self.listener.connections.leave(self.conversation.session.client)
        if not self._task.over:
            self.listener.runtime.spawn(self._finish_after(self._task.task))
        elif self.conversation.has_to_tell:
            self.listener.runtime.spawn(self.conversation.close(self._last_words))
        else:
            self.conversation.end(self._last_words)

    async def _finish_after(self, task: asyncio.Task[None]) -> None:
        """End the session once its task, and a handover it may have begun, are over."""
        # A handover has limits of its own. One that ignores them is given up by a server that stops.
        while self.conversation.delivering and not task.done():
            await asyncio.wait((task,), timeout=PLUGIN_GRACE)
        if not (await asyncio.wait((task,), timeout=PLUGIN_GRACE))[0]:
            session = self.conversation.session
            self.listener.runtime.recorder.event(events.IGNORES_CANCELLATION, session=session.id, client=session.client)
        await self.conversation.close(self._last_words)
