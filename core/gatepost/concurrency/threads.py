"""Threads for blocking plugins: each plugin has its own, so that one that never returns holds up no other.

A thread cannot be ended from outside. One that is stuck stays with its plugin and counts against the plugin's threads,
but does not keep the process from exiting: the threads are daemons. The standard library's executors would join them.

This module knows no sessions and no time limits: a caller that has waited too long stops waiting.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

MOST = 16
"""Calls of one plugin that run at a time; others wait for their turn."""

Call = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class Threads:
    """Runs the blocking calls of one plugin, each in a thread of its own."""

    __slots__ = ("_free", "_name", "_waiting")

    def __init__(self, name: str, most: int = MOST) -> None:
        self._name = name
        self._free = most
        self._waiting: deque[Call] = deque()

    # All but ``_call`` runs on the event loop, so neither the count nor the queue needs a lock.

    def run(self, work: Callable[[], Any]) -> asyncio.Future[Any]:
        """Return a future of what ``work()`` returns or raises. If it is cancelled before its turn, nothing is run."""
        outcome: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, outcome))
        self._start_waiting()
        return outcome

    def _start_waiting(self) -> None:
        while self._free and self._waiting:
            work, outcome = self._waiting.popleft()
            if outcome.cancelled():
                continue
            try:
                threading.Thread(target=self._call, args=(work, outcome), name=self._name, daemon=True).start()
            except RuntimeError as error:  # the system has no thread left
                outcome.set_exception(error)
            else:
                self._free -= 1

    def _call(self, work: Callable[[], Any], outcome: asyncio.Future[Any]) -> None:
        try:
            result, error = work(), None
        except BaseException as caught:
            result, error = None, caught
        with suppress(RuntimeError):  # the loop is closed, so nobody waits
            outcome.get_loop().call_soon_threadsafe(self._end, outcome, result, error)

    def _end(self, outcome: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._free += 1
        if not outcome.done():  # else the caller has stopped waiting
            if error is None:
                outcome.set_result(result)
            else:
                outcome.set_exception(error)
        self._start_waiting()
