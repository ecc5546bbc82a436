"""The point of no return of a handover: before it the handover may be ended, behind it nothing ends it but its own end.

Before that point nobody has the message but the client, so whatever happens, it is safe to stop: the client keeps the
message and sends it again. It is stopped when the client is lost, since nobody would hear the reply, and when a client
that gives up after 600 s (RFC 5321 §4.5.3.2.6) might not hear it in time. Behind the point somebody else may have the
message. To stop then would have it delivered twice (RFC 1047).

A plugin may pass the point in a thread of its own, so one lock makes the two ends exclude each other: what has been
ended cannot pass the point any more. This module knows no plugins and no messages.
"""

from __future__ import annotations

import threading
from typing import Final

from gatepost.errors import GatepostError, HandoverEndedError, PluginError
from gatepost.services.clock import Clock

UNCOMMITTED: Final = 300.0
"""Seconds from the client's final dot within which a handover must pass the point of no return."""
COMMITTED: Final = 900.0
"""Seconds that one plugin may take beyond that point. The limits of ``forward`` end it
before: 5 minutes at most to send the dot, and 10 until the last answer to it."""

_LOCK: Final = threading.Lock()
"""One for all handovers: it is held for less than a microsecond."""


class Commitment:
    """The progress of the handover of one message, from the client's final dot on."""

    __slots__ = ("_clock", "deadline", "ended", "holder", "lost", "may_take", "passed")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.deadline = clock.monotonic() + UNCOMMITTED
        """Time of the monotonic clock at which the handover is ended, or given up."""
        self.passed = False
        """True behind the point of no return."""
        self.ended = False
        """True when nothing may be taken any more: the handover was ended, or has its reply."""
        self.lost = False
        """True when the handover was ended before the point of no return, because the client was lost."""
        self.holder = ""
        """The plugin that is being asked."""
        self.may_take = False
        """True when that plugin has the grant to take messages."""

    def enter(self, plugin: str, *, may_take: bool, commits_itself: bool) -> None:
        """Let ``plugin`` begin. The point of no return is here and now, unless the plugin says itself when it comes.

        A plugin that may not take messages passes no such point. Raises ``HandoverEndedError`` when the handover has
        been ended.
        """
        self.holder = plugin
        self.may_take = may_take
        if self.passed:
            self.deadline = self._clock.monotonic() + COMMITTED
        elif may_take and not commits_itself:
            self.commit()
        elif self.ended:
            raise HandoverEndedError(_ENDED)

    def commit(self) -> None:
        """Pass the point of no return. May be called in any thread, and again.

        Raises ``HandoverEndedError`` when it is too late: the message must then not be taken.
        """
        with _LOCK:
            now = self._clock.monotonic()
            if self.ended or now >= self.deadline:
                self.ended = True
                raise HandoverEndedError(_ENDED)
            if not self.passed:
                self.passed = True
                self.deadline = now + COMMITTED

    def lose_client(self) -> bool:
        """The client is gone. Return True when that has ended the handover, and False behind the point of no return."""
        with _LOCK:
            if not self.passed and not self.ended:
                self.ended = self.lost = True
            return self.lost

    def expire(self) -> bool:
        """Return True when the deadline has passed; before the point of no return that ends the handover."""
        with _LOCK:
            late = self._clock.monotonic() >= self.deadline
            if late and not self.passed:
                self.ended = True
            return late

    def late(self) -> GatepostError:
        """Return the error of a plugin that was still at work when the deadline passed."""
        if self.passed:
            return PluginError(f"no end within {COMMITTED:g} s")
        return HandoverEndedError(_ENDED)

    def settle(self) -> None:
        """The reply is found: losing the client changes nothing now, and a thread that comes late takes nothing."""
        with _LOCK:
            self.ended = True


_ENDED: Final = (
    f"the client was lost, or {UNCOMMITTED:g} s have passed since its final dot: nothing may be taken any more"
)
