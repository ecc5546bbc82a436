"""A client before the greeting. Tens of thousands may wait here, so it takes as little memory as possible.

The door counts the client's connections, asks ``connect``, and offers ``silence``. Only a client that passes gets an
SMTP object, which takes over the transport. A client that waits consists of this protocol, its session, one task
directly on the gate, and one slot in the timing wheel.

RFC 5321 §3.1 (a server may refuse at the greeting), §4.3.1 (a client must wait for the greeting).
"""

from __future__ import annotations

import asyncio
import fcntl
import termios
from collections.abc import Coroutine
from sys import intern
from typing import Any, Final, cast

from gatepost import events, replies
from gatepost.concurrency import EagerTask
from gatepost.conversation import Conversation
from gatepost.doors.closing import Closing, is_lost
from gatepost.doors.listener import Listener
from gatepost.doors.smtp import LOSS_LOOK, SENT_AHEAD, SMTP
from gatepost.errors import PluginError
from gatepost.gate import Gate
from gatepost.ids import new_id
from gatepost.ip import client_address
from gatepost.replies import Reply
from gatepost.rulings import Ruling
from gatepost.services.clock import Timer
from gatepost.session import Session
from gatepost.telemetry import reply_text

_NO_OCTETS: Final = bytes(4)
"""The kernel's answer if there is nothing to read: a number of 32 bits."""


class Pregreet(asyncio.Protocol):
    """One client from its connection to its greeting."""

    __slots__ = (
        "_at_eof",
        "_early",
        "_heard",
        "_listener",
        "_silent",
        "_task",
        "_timer",
        "_transport",
        "gate",
        "session",
    )

    __deletable__ = ("_transport", "session")  # mypyc deletes no other attributes

    _transport: asyncio.Transport
    session: Session

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.gate: Gate = listener.gate
        self._heard = b""
        self._at_eof = False
        self._early = 0.0
        """Seconds of the wait that are left when look-ups start; 0 when they have, or when there are none."""
        self._silent: asyncio.Future[bool] | None = None
        self._timer: Timer | None = None
        self._task: EagerTask | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the client and ask ``connect``."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one by shape only
        listener = self._listener
        peer, port = (transport.get_extra_info("peername") or ("0.0.0.0", 0))[:2]
        local = transport.get_extra_info("sockname") or ("",)
        client = client_address(peer)
        own = intern(local[0])  # one string for all clients of this address
        self.session = Session(
            client, runtime=listener.runtime, door=self, port=port, local=own, listener=listener.name
        )
        # Listed and counted in any case: ``_leave`` undoes both at the end, whatever comes of the client.
        listener.connected[self] = None
        if not listener.connections.enter(client):
            self._turn_away(replies.TOO_MANY_CONNECTIONS)
        elif listener.stopping:
            self._turn_away(replies.STOPPING)
        else:
            self._task = EagerTask(listener.loop, self)
            self._task.start(self._ask)

    def _ask(self) -> Coroutine[Any, Any, Any] | None:
        """Ask ``connect``. A client that does not have to wait is greeted at once."""
        asked = self.gate.begin("connect", (self.session,), self.session)
        return self.proceed(asked, None) if isinstance(asked, Ruling) else asked

    def silence(self, seconds: float) -> asyncio.Future[bool]:
        """Return a future: True after ``seconds`` without an octet, False as soon as there is one.

        Octets that came before the call count too.
        """
        if self._task is None:
            raise PluginError("session.silence() is for the connect phase, which is over")
        self._cancel_timer()
        self._silent = silent = self._listener.loop.create_future()
        if self._heard:
            silent.set_result(False)
        elif seconds > 0:
            self._early = self.gate.early_seconds(seconds)
            self._timer = self._listener.runtime.clock.call_later(seconds - self._early, self)
        elif self._has_unread():  # ``silence(0)`` asks for the octets that came with the connection
            self.session._early_talk |= {"connect"}
            silent.set_result(False)
        else:
            silent.set_result(True)
        return silent

    def _has_unread(self) -> bool:
        """Return True when octets have arrived that the loop has not read yet."""
        descriptor = self._transport.get_extra_info("socket").fileno()
        return descriptor >= 0 and fcntl.ioctl(descriptor, termios.FIONREAD, _NO_OCTETS) != _NO_OCTETS

    def __call__(self) -> None:
        """Say that the client has stayed silent, or start look-ups shortly before: the clock calls this.

        The timer gets the door itself, because a bound method would be one more object for each client that waits.
        """
        if self._silent is None or self._silent.done():
            return
        if self._early:
            seconds, self._early = self._early, 0.0
            self._timer = self._listener.runtime.clock.call_later(seconds, self)
            self.gate.look_up_early(self.session)
        else:
            self._silent.set_result(True)

    def data_received(self, data: bytes) -> None:
        """Keep early talk, of a bounded size, and end the wait for silence."""
        counted = self._counted
        self._heard += data  # tolerated early talk is answered after the greeting
        self.session._early_talk |= {"connect"}
        if len(self._heard) > SENT_AHEAD:
            if not self._listener.runtime.spool.take(len(self._heard) - counted):
                self._heard = self._heard[:counted]
                self._break_off(replies.SENT_AHEAD)
                return
            if not counted:
                self._transport.pause_reading()
                self._listener.runtime.clock.call_later(LOSS_LOOK, self._look_for_loss)
        if self._silent is not None and not self._silent.done():
            self._silent.set_result(False)

    @property
    def _counted(self) -> int:
        """The octets of early talk that count against the spool's budget of memory."""
        return len(self._heard) if len(self._heard) > SENT_AHEAD else 0

    def _look_for_loss(self) -> None:
        """Notice that a client is lost from which nothing is read, so that nobody works for it. Look again later."""
        if self._task is None:  # it is greeted or refused
            return
        if is_lost(self._transport):
            self._transport.abort()
        else:
            self._listener.runtime.clock.call_later(LOSS_LOOK, self._look_for_loss)

    def eof_received(self) -> bool:
        """Let a client that leaves silently go without a ruling; one that has spoken still gets its reply."""
        self._at_eof = True
        return bool(self._heard)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session of a client that left while it was made to wait."""
        self._cancel_timer()
        if self._task is not None:
            self._task.abandon()
        self._end(Conversation(self.gate, self._listener.runtime, self.session))

    def stop(self, now: bool) -> None:
        """Tell the client to come back: the server stops."""
        self._break_off(replies.STOPPING)

    def _break_off(self, reply: Reply) -> None:
        """Refuse the client with ``reply``, whatever is still being found out about it."""
        if self._task is not None and not self._task.over:
            self._task.abandon()
            self._task = None
            self._refuse(reply)

    def proceed(self, ruling: Ruling | None, error: BaseException | None) -> Coroutine[Any, Any, Any] | None:
        """Refuse the client, or hand the connection to an SMTP object, which goes on in the same task."""
        # Without a task, ``stop`` or ``connection_lost`` came first.
        task, self._task = self._task, None
        if task is None or self._transport.is_closing():
            return None
        if ruling is None:
            # A fault of ours: never a permanent refusal, never an acceptance, and never no answer at all.
            identifier = new_id()
            self._listener.runtime.recorder.event(events.INTERNAL_ERROR, id=identifier, error=repr(error))
            self._refuse(replies.internal_error(identifier, close=True))
            return None
        self._cancel_timer()
        conversation = Conversation(self.gate, self._listener.runtime, self.session)
        reply = conversation.take_connect_ruling(ruling)
        if reply is not None:
            self._refuse(reply, conversation)
            return None
        # The door takes this object's place in the list, and will take back the count of the connection.
        self._listener.connected.pop(self, None)
        door = SMTP(self._listener, conversation, task, self._transport, self._heard, self._at_eof)
        self._drop_references()
        return door.converse()

    def _turn_away(self, reply: Reply) -> None:
        """Close before any plugin was asked. So no plugin is told of the end either.

        The connection is not drained: a flood of clients that are turned away must not use up the descriptors.
        """
        self._listener.runtime.recorder.event(events.TURNED_AWAY, client=self.session.client, outcome=reply_text(reply))
        Closing(self._transport, reply.wire, self._listener.runtime.clock, self._leave, at_eof=True)

    def _refuse(self, reply: Reply, conversation: Conversation | None = None) -> None:
        self._cancel_timer()
        conversation = conversation or Conversation(self.gate, self._listener.runtime, self.session)
        clock = self._listener.runtime.clock
        Closing(self._transport, reply.wire, clock, lambda: self._end(conversation), at_eof=self._at_eof)
        conversation.after_reply()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop_references(self) -> None:
        """Break the reference cycles, such as with the session, so that the garbage collector has nothing to do."""
        del self.session, self._transport
        self._task = self._silent = None

    def _end(self, conversation: Conversation) -> None:
        self._leave()
        self._drop_references()
        # Mostly no plugin wants to know, and the session ends here and now, without a task.
        if conversation.has_to_tell:
            self._listener.runtime.spawn(conversation.close())
        else:
            conversation.end()

    def _leave(self) -> None:
        if counted := self._counted:
            self._heard = b""
            self._listener.runtime.spool.give_back(counted)
        self._listener.connected.pop(self, None)
        self._listener.connections.leave(self.session.client)
