"""Work that goes on outside the virtual clock: threads, sockets, and timers of the event loop.

A virtual clock may jump only while nothing else can happen. The tasks of the loop say by themselves when they are
ready; but a thread, a socket and a timer of asyncio make a task ready later, in real time, and a clock that jumps
meanwhile lets every time limit expire. So ``Outside`` knows what goes on there:

* threads that work for the loop, counted from their start until the loop has heard of their end;
* sockets, pipes and child processes that the loop watches. A listening socket is waiting for somebody, so it does not
  count, and neither do the connections of the kit's own server, which its clients leave silent on purpose;
* timers of the loop itself, as ``asyncio.sleep`` and ``asyncio.timeout`` make them, but only those that are due soon.

A connection that a plugin keeps open for its next call looks like one that is about to answer. That is why the clock
does not wait for sockets without end (``clock.wait_for``).

asyncio has no public way to ask a loop what it waits for. The private names are all in this module: ``_selector``,
``_ssock`` and ``_process_events`` of a loop on a selector, and ``_scheduled`` of ``BaseEventLoop``. A loop without
them, such as uvloop's, has no sockets and timers as far as this module can tell.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

SOON = 2.0
"""Seconds until a timer of the loop is due that the clock waits for."""


class Outside:
    """Sockets and timers that a loop waits for outside the virtual clock. ``outside`` returns the running loop's."""

    __slots__ = ("_loop", "_own_descriptor", "_process", "_run", "activity", "ended", "own_ports", "threads")

    def __init__(self, loop: Any) -> None:
        self._loop = loop
        self._run = loop.run_in_executor
        self.threads = 0
        """Threads that work."""
        self.ended = 0
        """Threads that have ended."""
        self.activity = 0
        """The number of times that a socket was ready."""
        self.own_ports: set[int] = set()
        """The ports of servers of the kit, whose connections do not count."""
        loop.run_in_executor = self.run_in_executor
        own = getattr(loop, "_ssock", None)
        self._own_descriptor = own.fileno() if own is not None else -1
        self._process: Callable[[Any], None] | None = getattr(loop, "_process_events", None)
        if self._process is not None:
            loop._process_events = self._process_events

    def run_in_executor(self, executor: Any, function: Any, *arguments: Any) -> asyncio.Future[Any]:
        """Replace the method of the loop."""
        return self.note_thread(self._run(executor, function, *arguments))

    def note_thread(self, future: asyncio.Future[Any]) -> asyncio.Future[Any]:
        """Count a thread as working until ``future`` is done."""
        self.threads += 1
        future.add_done_callback(self._note_end)
        return future

    def _note_end(self, future: asyncio.Future[Any]) -> None:
        self.threads -= 1
        self.ended += 1

    def _process_events(self, events: Iterable[Any]) -> None:
        """Replace the method of the loop: count, then do as it does."""
        found = list(events)
        if any(key.fd != self._own_descriptor for key, _ in found):
            self.activity += 1
        if self._process is not None:
            self._process(found)

    @property
    def waits(self) -> bool:
        """True while a socket, a pipe or a timer of the loop may make a task ready."""
        return self._has_timer() or self._has_descriptor()

    def _has_timer(self) -> bool:
        now = self._loop.time()
        return any(not each.cancelled() and each.when() - now <= SOON for each in getattr(self._loop, "_scheduled", ()))

    def _has_descriptor(self) -> bool:
        selector = getattr(self._loop, "_selector", None)
        watched = selector.get_map() if selector is not None else None
        return any(not self._is_own(key.fd) for key in list((watched or {}).values()))

    def _is_own(self, descriptor: int) -> bool:
        """Return True for what does not count: a listening socket, and what is the kit's or the loop's own."""
        if descriptor == self._own_descriptor:
            return True
        try:
            opened = socket.socket(fileno=descriptor)
        except OSError:  # a pipe
            return False
        try:
            if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return True
            ends = [opened.getsockname()]
            with suppress(OSError):
                ends.append(opened.getpeername())
            return any(isinstance(end, tuple) and end[1] in self.own_ports for end in ends)
        except OSError:
            return False
        finally:
            opened.detach()


def outside() -> Outside:
    """Return the ``Outside`` of the running loop. The first call replaces two of the loop's methods."""
    loop = asyncio.get_running_loop()
    known = getattr(loop.run_in_executor, "__self__", None)
    return known if isinstance(known, Outside) else Outside(loop)
