"""Rows take turns, disturbed runs are repeated, and rows that cannot be measured are reported."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.bench import runs
from tests.bench.figures import Measure, Sample
from tests.bench.loads import LoadError
from tests.bench.servers import SERVERS
from tests.bench.works import FULL, Effort, Row, Run, Work

TIME = Measure("time", "ms")
THREE = dataclasses.replace(FULL, runs=3)


class Bench:
    """Makes rows that record their turns.

    ``others`` has the CPU seconds that others use before and during each run, in turn.
    """

    def __init__(self) -> None:
        self.turns: list[str] = []
        self.left: list[str] = []
        self.others: list[float] = []

    def row(
        self,
        name: str,
        answer: Callable[[int], float] = float,
        absent: str | None = None,
        most_runs: int | None = None,
    ) -> Row:
        @contextmanager
        def ready(effort: Effort) -> Iterator[Run]:
            def run() -> Sample:
                self.turns.append(name)
                return {TIME: answer(self.turns.count(name))}

            yield run
            self.left.append(name)

        server = dataclasses.replace(SERVERS["smtp-sink"], missing=lambda: absent, version=lambda: "1.0")
        return Row(name, server, ready, most_runs)

    def measure(self, *rows: Row, wanted: Sequence[str] = ("A", "B", "C")) -> runs.Result:
        work = Work("a-work", "a work", lambda effort: rows)
        return runs.measure(work, THREE, lambda row: row.name in wanted, lambda line: None)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench()
    used = [0.0]

    def others() -> float:
        """Return the CPU seconds of others; it is called before and after each run."""
        used[0] += made.others.pop(0) if made.others else 0.0
        return used[0]

    # With this clock each run takes one second.
    ticks = iter(range(1000))
    monkeypatch.setattr(runs, "_others", others)
    monkeypatch.setattr(runs, "_wait_until_quiet", lambda: None)
    monkeypatch.setattr(runs, "monotonic", lambda: next(ticks))
    return made


def test_rows_take_turns(bench: Bench) -> None:
    result = bench.measure(bench.row("A"), bench.row("B"))
    assert bench.turns == ["A", "B", "A", "B", "A", "B"]
    assert [(figure.row, figure.samples) for figure in result.figures] == [("A", (1, 2, 3)), ("B", (1, 2, 3))]


def test_a_row_may_want_fewer_runs(bench: Bench) -> None:
    bench.others = [0, 0.5]
    _, few = bench.measure(bench.row("A", most_runs=9), bench.row("B", most_runs=1)).figures
    assert bench.turns.count("A") == 4
    assert few.samples == (1,)


def test_a_disturbed_run_is_repeated(bench: Bench) -> None:
    bench.others = [0, 0, 0, 0.5]
    (figure,) = bench.measure(bench.row("A")).figures
    assert figure.samples == (1, 3, 4)
    assert figure.others == (0, 0, 0)


def test_on_a_busy_machine_the_least_disturbed_runs_count(bench: Bench) -> None:
    bench.others = [0, 0.9, 0, 0.2, 0, 0.9, 0, 0.3, 0, 0.9, 0, 0.4]
    (figure,) = bench.measure(bench.row("A")).figures
    assert figure.samples == (2, 4, 6)


def test_a_row_that_fails_gives_no_figure_and_the_others_continue(bench: Bench) -> None:
    def failing(turn: int) -> float:
        if turn == 2:
            raise LoadError("expected 250, got 451")
        return 0

    result = bench.measure(bench.row("A", failing), bench.row("B"))
    assert result.failed == {"A": "expected 250, got 451"}
    assert [figure.row for figure in result.figures] == ["B"]
    assert sorted(bench.left) == ["A", "B"]


def test_a_server_that_is_not_installed_is_reported(bench: Bench) -> None:
    result = bench.measure(bench.row("A", absent="not installed"), bench.row("B"))
    assert result.absent == {"A": "not installed"}
    assert "A" not in bench.turns


def test_only_wanted_rows_run(bench: Bench) -> None:
    bench.measure(bench.row("A"), bench.row("B"), wanted=["B"])
    assert set(bench.turns) == {"B"}
