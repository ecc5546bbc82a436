"""Writing in batches, off the loop: what log and journal have in common.

Whoever puts an item never waits: a thread takes what has come meanwhile and writes it at once. The queue is bounded;
when writing is slower than what comes, the oldest items go, and are counted. What is written, and where, is not known
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Generic, TypeVar

T = TypeVar("T")

MOST_AT_ONCE = 1000
"""Items of one batch."""


class Batches(Generic[T]):
    """Hands what is put to ``write``, in order, in a thread of its own.

    ``bound`` is how many items may wait, ``pause`` how many seconds are left for a batch to grow. ``on_loss`` is called
    with a sentence when items are lost for the first time; it may be called in any thread.
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
        self._queue: SimpleQueue[T | None] = SimpleQueue()
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
            self._drop_oldest()
        self._queue.put(item)

    def close(self, patience: float = 5.0) -> None:
        """Write what waits, then end; after ``patience`` seconds without success, end all the same."""
        if not self._closing.is_set():
            self._closing.set()
            self._queue.put(None)
        self._thread.join(patience)

    def _drop_oldest(self) -> None:
        try:
            self._queue.get_nowait()
        except Empty:
            return
        self._lose(1, "they come faster than they can be written")

    def _lose(self, number: int, why: str) -> None:
        is_first = not self.lost
        self.lost += number
        if is_first:
            self._on_loss(why)

    def _run(self) -> None:
        item = self._queue.get()
        while item is not None:
            self._closing.wait(self._pause)
            batch = [item, *self._waiting()]
            try:
                self._write(batch)
            except Exception as error:  # a full disk, a closed pipe: whoever put the items must not notice
                self._lose(len(batch), str(error))
            item = self._queue.get()

    def _waiting(self) -> Iterator[T]:
        """What waits now, up to the size of a batch. The sign to end is put back, behind everything else."""
        for _ in range(MOST_AT_ONCE - 1):
            try:
                item = self._queue.get_nowait()
            except Empty:
                return
            if item is None:
                self._queue.put(None)
                return
            yield item
