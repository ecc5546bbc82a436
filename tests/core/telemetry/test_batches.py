"""Putting an item never waits for writing, and lost items are counted."""

from __future__ import annotations

from threading import Event

from gatepost.telemetry.batches import Batches


class Slow:
    """Writes when it is allowed to, and keeps what it wrote."""

    def __init__(self) -> None:
        self.written: list[int] = []
        self.began, self.may_write = Event(), Event()

    def write(self, batch: list[int]) -> None:
        self.began.set()
        self.may_write.wait()
        self.written += batch


def test_everything_is_written_in_order_before_close_returns() -> None:
    written: list[list[int]] = []
    batches = Batches(written.append, name="test", bound=5000)
    for number in range(3000):
        batches.put(number)
    batches.close()
    assert [number for batch in written for number in batch] == list(range(3000))
    assert max(map(len, written)) <= 1000 and batches.lost == 0


def test_the_oldest_go_when_writing_is_slower_than_what_comes() -> None:
    slow, losses = Slow(), list[str]()
    batches = Batches(slow.write, name="test", bound=10, on_loss=losses.append)
    batches.put(-1)
    assert slow.began.wait(5)
    for number in range(25):
        batches.put(number)
    slow.may_write.set()
    batches.close()
    assert slow.written == [-1, *range(15, 25)]
    assert batches.lost == 15
    assert len(losses) == 1


def test_an_error_loses_its_batch_and_nothing_else() -> None:
    first, written = Event(), list[int]()

    def write(batch: list[int]) -> None:
        if not first.is_set():
            first.set()
            raise OSError("disk full")
        written.extend(batch)

    losses: list[str] = []
    batches = Batches(write, name="test", bound=10, on_loss=losses.append)
    batches.put(1)
    assert first.wait(5)
    batches.put(2)
    batches.close()
    assert (written, batches.lost, losses) == ([2], 1, ["disk full"])


def test_what_comes_after_close_is_counted_as_lost() -> None:
    batches = Batches[int](lambda batch: None, name="test", bound=10)
    batches.close()
    batches.put(1)
    batches.close()
    assert batches.lost == 1


def test_close_gives_up_when_its_patience_ends() -> None:
    slow = Slow()
    batches = Batches(slow.write, name="test", bound=10)
    batches.put(1)
    assert slow.began.wait(5)
    batches.close(patience=0.01)
    slow.may_write.set()
    assert slow.written in ([], [1])
