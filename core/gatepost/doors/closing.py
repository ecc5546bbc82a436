"""How a connection is closed so that the last reply arrives: flush, half-close, drain for at most 2 s, close.

Closing a socket that still has unread input makes the kernel send a reset, which may overtake the reply.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from gatepost.services.clock import Clock, Timer

DRAIN: Final = 2.0
"""Seconds during which what the client still sends is read and thrown away."""

_CAN_HOLD: Final = hasattr(socket, "TCP_CORK")  # as on Linux


def hold_for_the_end(transport: asyncio.Transport) -> None:
    """Let the last words leave together with the end of the connection, in one packet instead of two (tcp(7)).

    Only for a client that should say no more, and for words that it can do without: if it does say more, the kernel
    sends a reset and nothing of what is held, which is all that the transport has not written yet.
    """
    connection = transport.get_extra_info("socket")
    if _CAN_HOLD and connection is not None:
        with suppress(OSError):  # it is gone
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)


class Closing(asyncio.Protocol):
    """The protocol of a connection on its way out. ``lost`` is called when it is gone."""

    __slots__ = ("_lost", "_timer")

    def __init__(
        self, transport: asyncio.Transport, last_words: bytes, clock: Clock, lost: Callable[[], None], *, at_eof: bool
    ) -> None:
        self._lost: Callable[[], None] | None = lost
        self._timer: Timer | None = None
        transport.set_protocol(self)
        if last_words and not transport.is_closing():
            transport.write(last_words)
        if not at_eof or transport.get_write_buffer_size():
            self._timer = clock.call_later(DRAIN, transport.abort)
        if at_eof or transport.is_closing():
            transport.close()
            return
        transport.resume_reading()
        if transport.can_write_eof():
            with suppress(OSError):  # the client has reset the connection, and the loop does not know yet
                transport.write_eof()

    def data_received(self, data: bytes) -> None:
        """Throw it away."""

    def eof_received(self) -> bool:
        """The client has closed its side too: done."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        if self._timer is not None:
            self._timer.cancel()
        lost, self._lost = self._lost, None  # it leads back here, and nobody is to search for such circles
        if lost is not None:
            lost()
