"""The program keeps each work as soon as it is measured, and says by its status that a server failed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.bench import __main__ as program
from tests.bench import runs
from tests.bench.figures import Figures
from tests.bench.works import Work


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> dict[str, runs.Result]:
    """What comes of each work, by its name; a work that is not there ends the program as Ctrl-C does."""
    found: dict[str, runs.Result] = {}

    def measure(work: Work, *_: object) -> runs.Result:
        if work.name not in found:
            raise KeyboardInterrupt
        return found[work.name]

    monkeypatch.setattr(runs, "measure", measure)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return found


def status(file: Path, *options: str) -> int:
    return CliRunner().invoke(program.main, ["--quick", "--json", str(file), *options]).exit_code


def test_a_row_that_fails_is_a_failure_and_one_that_is_absent_is_none(
    results: dict[str, runs.Result], tmp_path: Path
) -> None:
    results["quit"] = runs.Result(absent={"haraka": "not installed"})
    assert status(tmp_path / "figures.json", "--work", "quit") == 0
    results["quit"] = runs.Result(failed={"haraka": "expected 220, got 421"})
    assert status(tmp_path / "figures.json", "--work", "quit") == 1
    assert Figures.load(tmp_path / "figures.json").skipped == {"quit: haraka": "expected 220, got 421"}


def test_a_run_that_is_interrupted_keeps_what_it_has(results: dict[str, runs.Result], tmp_path: Path) -> None:
    results["messages-new"] = results["messages-reused"] = runs.Result()
    assert status(tmp_path / "figures.json") != 0
    assert list(Figures.load(tmp_path / "figures.json").dates) == ["messages-new", "messages-reused"]


def test_what_was_taken_otherwise_is_not_mixed_in(results: dict[str, runs.Result], tmp_path: Path) -> None:
    results["quit"] = runs.Result()
    assert status(tmp_path / "figures.json", "--work", "quit") == 0
    assert status(tmp_path / "figures.json", "--work", "quit", "--runs", "3") == 2
