"""Writing in batches, off the loop: the part that the log and the journal have in common.

Putting an item never waits: a thread takes the items that have come meanwhile and writes them at once. The queue is
bounded; when writing is slower than what comes, the oldest items are dropped and counted. This module does not know
what is written, nor where.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_AT_ONCE = 1000
"""Items of one batch."""


class Batches(Generic[T]):
    """Passes items to ``write``, in order, in a thread of its own.

    ``bound`` is how many items may wait, ``pause`` for how many seconds a batch grows. ``on_loss`` is called with a
    sentence when items are lost for the first time; it may be called in any thread.
    """

    def __init__(
        self,
        write: Callable[[list[T]], object],
        *,
        name: str,
        bound: int,
        pause: float = 0.0,
        on_loss: Callable[[str], object] = lambda sentence: None,
    ) -> None:
        self._write = write
        self._bound = bound
        self._pause = pause
        self._on_loss = on_loss
        self._queue: SimpleQueue[T | None] = SimpleQueue()  # None: the end
        self._closing = Event()
        self.lost = 0
        """Items that were never written."""
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Have ``item`` written. Never blocks and never raises."""
        if self._closing.is_set():
            self.lost += 1
            return
        if self._queue.qsize() >= self._bound:
            # Drop the oldest: when there is too much to write, the newest items say what is going on.
            try:
                self._queue.get_nowait()
            except Empty:  # the thread has just taken them all
                pass
            else:
                self._lose(1, "they come faster than they can be written")
        self._queue.put(item)

    def close(self, patience: float = 5.0) -> None:
        """Write what waits, then end; give up waiting for that after ``patience`` seconds."""
        if not self._closing.is_set():
            self._closing.set()
            self._queue.put(None)
        self._thread.join(patience)

    def _run(self) -> None:
        """Write one batch after the other until the end; this is the thread."""
        item = self._queue.get()
        while item is not None:
            self._closing.wait(self._pause)  # let the batch grow, unless this is the end
            batch = [item]
            while len(batch) < MOST_AT_ONCE:
                try:
                    item = self._queue.get_nowait()
                except Empty:
                    break
                if item is None:
                    self._queue.put(None)  # for the outer loop: nothing is put behind it
                    break
                batch.append(item)
            try:
                self._write(batch)
            except Exception as error:  # a full disk, a closed pipe: the callers of ``put`` must not notice
                self._lose(len(batch), str(error))
            item = self._queue.get()

    def _lose(self, number: int, why: str) -> None:
        """Count lost items, and report the first loss only: the next ones have the same cause."""
        is_first = not self.lost
        self.lost += number
        if is_first:
            self._on_loss(why)
