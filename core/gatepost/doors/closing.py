"""Closing a connection so that the last reply arrives: flush, half-close, drain for at most 2 s, close.

If a socket with unread input is closed, the kernel sends a reset, which may overtake the reply.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from gatepost.services.clock import Clock, Timer

DRAIN: Final = 2.0
"""Seconds during which the client's remaining octets are read and discarded."""

_CAN_HOLD: Final = hasattr(socket, "TCP_CORK")  # Linux has both
_CAN_TELL: Final = hasattr(socket, "TCP_INFO")
_TCP_CLOSE: Final = 7
"""The state of a connection that is over, in the first octet of tcp_info (linux/tcp.h)."""


def is_lost(transport: asyncio.Transport) -> bool:
    """Return True when the client has reset the connection or vanished, also while nothing is read from it.

    A client that has only said that it will send no more is not lost: it may wait for its reply.
    """
    connection = transport.get_extra_info("socket")
    if not _CAN_TELL or connection is None:
        return False
    with suppress(OSError, ValueError):  # the descriptor is closed, and the protocol has been told
        return bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE)
    return False


def hold_for_the_end(transport: asyncio.Transport) -> None:
    """Have the last reply leave together with the end of the connection, in one packet instead of two (tcp(7)).

    This is for a client that should send nothing more, and for a reply that it can do without: if it does send
    something, the kernel sends a reset, and what is held is lost.
    """
    connection = transport.get_extra_info("socket")
    if _CAN_HOLD and connection is not None:
        with suppress(OSError):  # the connection is gone
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)


class Closing(asyncio.Protocol):
    """The protocol of a connection that is being closed. It calls ``on_lost`` when the connection is gone.

    ``at_eof``: the client sends nothing more, so there is nothing to drain.
    """

    __slots__ = ("_on_lost", "_timer")

    def __init__(
        self,
        transport: asyncio.Transport,
        last_words: bytes,
        clock: Clock,
        on_lost: Callable[[], None],
        *,
        at_eof: bool,
    ) -> None:
        self._on_lost: Callable[[], None] | None = on_lost
        self._timer: Timer | None = None
        transport.set_protocol(self)
        if last_words and not transport.is_closing():
            transport.write(last_words)
        # Else a client that does not read the reply, or does not close its side, would keep its connection.
        if not at_eof or transport.get_write_buffer_size():
            self._timer = clock.call_later(DRAIN, transport.abort)
        if at_eof or transport.is_closing():
            transport.close()
            return
        transport.resume_reading()  # the protocol before this one may have paused it
        if transport.can_write_eof():
            with suppress(OSError):  # the client has reset the connection, which the loop has not noticed yet
                transport.write_eof()

    def data_received(self, data: bytes) -> None:
        """Discard what the client still sends."""

    def eof_received(self) -> bool:
        """Have the transport close: the client has closed its side too."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Call ``on_lost``, once."""
        if self._timer is not None:
            self._timer.cancel()
        on_lost, self._on_lost = self._on_lost, None  # break the cycle, to leave nothing to the garbage collector
        if on_lost is not None:
            on_lost()
