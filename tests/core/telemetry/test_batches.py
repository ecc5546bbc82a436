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


class Failing:
    """Fails for the first ``times`` attempts, and keeps what it wrote later."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.written: list[int] = []
        self.failed = Event()

    def write(self, batch: list[int]) -> None:
        if self.times:
            self.times -= 1
            self.failed.set()
            raise OSError("disk full")
        self.written += batch


def test_everything_is_written_in_order_before_close_returns() -> None:
    written: list[list[int]] = []
    batches = Batches(written.append, name="test", bound=5000)
    for number in range(3000):
        batches.put(number)
    assert batches.close()
    assert [number for batch in written for number in batch] == list(range(3000))
    assert max(map(len, written)) <= 1000 and batches.lost == 0


def test_the_thread_wakes_up_for_what_comes_after_it_has_written_all() -> None:
    written: list[int] = []
    done = Event()

    def write(batch: list[int]) -> None:
        written.extend(batch)
        done.set()

    batches = Batches(write, name="test", bound=10)
    for number in range(100):
        batches.put(number)
        assert done.wait(5)
        done.clear()
    batches.close()
    assert written == list(range(100))


def test_the_oldest_go_when_writing_is_slower_than_what_comes() -> None:
    slow, failures, losses = Slow(), list[str](), list[int]()
    batches = Batches(slow.write, name="test", bound=10, on_failure=failures.append, on_loss=losses.append)
    batches.put(-1)
    assert slow.began.wait(5)
    for number in range(25):
        batches.put(number)
    slow.may_write.set()
    batches.close()
    assert slow.written == [-1, *range(15, 25)]
    assert (batches.lost, losses) == (15, [15])
    assert failures == ["they come faster than they can be written"]


def test_an_error_loses_its_batch_and_nothing_else() -> None:
    failing, failures, losses = Failing(1), list[str](), list[int]()
    batches = Batches(failing.write, name="test", bound=10, on_failure=failures.append, on_loss=losses.append)
    batches.put(1)
    assert failing.failed.wait(5)
    batches.put(2)
    batches.close()
    assert (failing.written, batches.lost, failures, losses) == ([2], 1, ["disk full"], [1])


def test_with_retry_an_error_loses_nothing_and_each_series_of_failures_is_said_once() -> None:
    failing, failures, losses = Failing(3), list[str](), list[int]()
    batches = Batches(
        failing.write, name="test", bound=10, retry=0.001, on_failure=failures.append, on_loss=losses.append
    )
    batches.put(1)
    assert failing.failed.wait(5)
    batches.put(2)
    while batches._failing:
        batches._rest(0.001)
    failing.failed.clear()
    failing.times = 1
    batches.put(3)
    assert failing.failed.wait(5)
    while batches._failing:
        batches._rest(0.001)
    batches.close()
    assert (failing.written, batches.lost, losses) == ([1, 2, 3], 0, [])
    assert failures == ["disk full", "disk full"]


def test_what_was_lost_is_said_each_time_writing_begins_again() -> None:
    failing, losses = Failing(1_000_000), list[int]()
    batches = Batches(failing.write, name="test", bound=2, retry=0.001, on_loss=losses.append)
    for series in (1, 2):
        failing.times = 1_000_000
        failing.failed.clear()
        batches.put(0)
        assert failing.failed.wait(5)
        for number in range(2 + series):
            batches.put(number)
        failing.times = 0
        while batches._failing or batches._items or batches._in_hand:
            batches._rest(0.001)
    assert losses == [1, 2]
    batches.close()
    assert (batches.lost, losses) == (3, [1, 2])


def test_at_the_end_a_failure_loses_all_that_waits_and_says_how_much() -> None:
    failing, losses = Failing(1_000_000), list[int]()
    batches = Batches(failing.write, name="test", bound=5000, retry=1000.0, on_loss=losses.append)
    for number in range(3000):
        batches.put(number)
    assert failing.failed.wait(5)
    assert batches.close()
    assert (batches.lost, losses) == (3000, [3000])


def test_what_comes_after_close_is_counted_as_lost() -> None:
    batches = Batches[int](lambda batch: None, name="test", bound=10)
    batches.close()
    batches.put(1)
    batches.close()
    assert batches.lost == 1


def test_close_gives_up_when_its_patience_ends_and_counts_what_is_left() -> None:
    slow, losses = Slow(), list[int]()
    batches = Batches(slow.write, name="test", bound=5000, on_loss=losses.append)
    batches.put(0)
    assert slow.began.wait(5)
    for number in range(3000):
        batches.put(number)
    assert not batches.close(patience=0.01)
    assert (batches.lost, losses) == (3001, [3001])
    slow.may_write.set()
