"""Writing in batches, off the loop: the part that the log and the journal have in common.

Putting an item never waits: a thread takes the items that have come meanwhile and writes them at once. The queue is
bounded; when writing is slower than what comes, the oldest items are dropped and counted. This module does not know
what is written, nor where.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_AT_ONCE = 1000
"""Items of one batch."""
TOO_MANY = "they come faster than they can be written"


def _ignore(said: object) -> None:
    """Do nothing."""


class Batches(Generic[T]):
    """Passes items to ``write``, in order, in a thread of its own.

    ``bound`` is how many items may wait, ``pause`` for how many seconds a batch grows. A batch that could not be
    written is tried again every ``retry`` seconds, or lost when that is None; of an error in ``once`` no other attempt
    is made. ``on_failure`` is called with a sentence at the first of several failures, and ``on_loss`` with the number
    of items that were lost since it was last called, once items can be written again and at the end. Both may be
    called in any thread.
    """

    def __init__(
        self,
        write: Callable[[list[T]], object],
        *,
        name: str,
        bound: int,
        pause: float = 0.0,
        retry: float | None = None,
        once: tuple[type[Exception], ...] = (),
        on_failure: Callable[[str], object] = _ignore,
        on_loss: Callable[[int], object] = _ignore,
    ) -> None:
        self._write = write
        self._bound = bound
        self._pause = pause
        self._retry = retry
        self._once = once
        self._on_failure = on_failure
        self._on_loss = on_loss
        self._items: deque[T] = deque()
        self._in_hand = 0  # items of the batch that is being written
        self._failing = False
        self._told = 0  # lost items that ``on_loss`` was told of
        self.lost = 0
        """Items that were never written."""
        # Locks instead of a queue and an event: a thread that waits for those is woken twice for each batch, and takes
        # 0.3 µs more for each item. Each of the two is free when there is something to wake up for.
        self._awake = True
        self._wake, self._end = Lock(), Lock()
        self._wake.acquire()
        self._end.acquire()
        self._closing = False
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Have ``item`` written. Never blocks and never raises."""
        if self._closing:
            self.lost += 1
            return
        items = self._items
        if len(items) >= self._bound:
            # Drop the oldest: when there is too much to write, the newest items say what is going on.
            with suppress(IndexError):  # the thread has just taken them all
                items.popleft()
                self.lost += 1
                self._say_failing(TOO_MANY)
        items.append(item)
        if not self._awake:  # the thread looks at the items once more after it has set this
            self._awake = True
            _release(self._wake)

    def close(self, patience: float = 5.0) -> bool:
        """Write what waits, then end; give up waiting for that after ``patience`` seconds, and return False.

        What is not written then is lost. May be called twice.
        """
        if not self._closing:
            self._closing = True
            _release(self._end)
            _release(self._wake)
        self._thread.join(patience)
        ended = not self._thread.is_alive()
        if not ended:
            left, self._items = len(self._items) + self._in_hand, deque()
            self._in_hand = 0
            self.lost += left
        self._say_lost()
        return ended

    def _run(self) -> None:
        """Write one batch after the other until the end; this is the thread."""
        while self._items or not self._closing:
            if not self._items:
                self._awake = False
                if not self._items and not self._closing:
                    self._wake.acquire()
                self._awake = True
                continue
            self._rest(self._pause)  # let the batch grow, unless this is the end
            items = self._items
            batch = [items.popleft() for _ in range(min(len(items), MOST_AT_ONCE))]
            self._in_hand = len(batch)
            self._write_once(batch)
            self._in_hand = 0

    def _rest(self, seconds: float) -> None:
        """Wait, but not longer than until the end."""
        if seconds and not self._closing and self._end.acquire(timeout=seconds):
            self._end.release()

    def _write_once(self, batch: list[T]) -> None:
        """Write ``batch`` once, however many attempts that takes."""
        while batch:
            is_last = self._closing
            try:
                self._write(batch)
            except Exception as error:  # a full disk, a closed pipe: the callers of ``put`` must not notice
                self._say_failing(str(error))
                if self._retry is not None and not is_last and not isinstance(error, self._once):
                    self._rest(self._retry)
                    continue
                lost = len(batch)
                if is_last and self._retry is not None:
                    # A lock or a full disk will not be gone a moment later: what waits as well would take as long.
                    lost += len(self._items)
                    self._items.clear()
                self.lost += lost
                return
            self._failing = False
            self._say_lost()
            return

    def _say_failing(self, why: str) -> None:
        """Report the first of several failures only: the next ones have the same cause."""
        if not self._failing:
            self._failing = True
            self._on_failure(why)

    def _say_lost(self) -> None:
        number, self._told = self.lost - self._told, self.lost
        if number:
            self._on_loss(number)


def _release(lock: Lock) -> None:
    with suppress(RuntimeError):  # somebody else has just done it
        lock.release()
