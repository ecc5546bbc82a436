"""The check of instruction counts: regressions, figures kept for each build, and the messages of the program."""

from __future__ import annotations

import platform
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest
from click.testing import CliRunner, Result

from tests.bench import instructions, kept
from tests.bench.counting import CountingError
from tests.bench.kept import Comparison, Counts

COUNTS = {"messages-new": 2_000_000.4, "quit": 500_000.0}
Check: TypeAlias = Callable[..., Result]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of kept figures in this test, which does not exist yet."""
    monkeypatch.setattr(instructions, "KEPT", tmp_path / "instructions.json")
    return tmp_path / "instructions.json"


@pytest.fixture
def check(file: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Return a function that runs the program with the given options as if the given counts had been measured.

    ``absent`` is the reason why this machine cannot count.
    """

    def run(counts: Counts | Exception, *options: str, absent: str | None = None) -> Result:
        def measure(*_: object) -> Counts:
            if isinstance(counts, Exception):
                raise counts
            return counts

        monkeypatch.setattr(instructions, "counted", lambda server: replace(server, missing=lambda: absent))
        monkeypatch.setattr(instructions, "measure", measure)
        return CliRunner().invoke(instructions.main, options)

    return run


@pytest.mark.parametrize(
    ("count", "regression", "progress"),
    [(100.0, False, False), (109.9, False, False), (110.1, True, False), (90.1, False, False), (89.9, False, True)],
)
def test_a_tenth_more_is_a_regression_and_a_tenth_less_is_progress(
    count: float, regression: bool, progress: bool
) -> None:
    comparison = Comparison("quit", count, 100.0)
    assert (comparison.is_regression, comparison.is_progress) == (regression, progress)


def test_without_a_kept_figure_it_is_neither() -> None:
    comparison = Comparison("quit", 100.0, None)
    assert (comparison.change, comparison.is_regression, comparison.is_progress) == (None, False, False)


def test_a_change_is_a_fraction_of_the_kept_figure() -> None:
    assert Comparison("quit", 150.0, 200.0).change == -0.25


def test_recording_leaves_other_works_and_other_builds_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kept.json"
    monkeypatch.setattr(kept, "build", lambda: "old")
    kept.record(file, COUNTS)
    monkeypatch.setattr(kept, "build", lambda: "new")
    kept.record(file, COUNTS)
    kept.record(file, {"quit": 400_000.0})
    assert kept.read(file) == {
        "old": {"messages-new": 2_000_000, "quit": 500_000},
        "new": {"messages-new": 2_000_000, "quit": 400_000},
    }


def test_builds_differ_by_version_and_by_options_that_change_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = "'--prefix=/a b' '--with-lto' '--enable-optimizations' '--enable-ipv6'"
    monkeypatch.setattr(sysconfig, "get_config_var", lambda name: arguments)
    monkeypatch.setattr(platform, "python_version", lambda: "3.13.1")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(platform, "python_compiler", lambda: "GCC 14.2.0")
    assert kept.build() == "CPython 3.13.1 aarch64 GCC 14.2.0 --enable-optimizations --with-lto"


def test_the_check_passes_without_kept_figures_and_says_how_to_keep_them(check: Check) -> None:
    result = check(COUNTS)
    assert result.exit_code == 0
    assert f"not kept for {kept.build()}" in result.output and "--record" in result.output


def test_the_check_passes_with_the_recorded_figures(check: Check, file: Path) -> None:
    check(COUNTS, "--record")
    assert kept.read(file) == {kept.build(): {"messages-new": 2_000_000, "quit": 500_000}}
    result = check(COUNTS)
    assert result.exit_code == 0 and "--record" not in result.output


def test_recording_keeps_a_regression_too(check: Check, file: Path) -> None:
    check(COUNTS, "--record")
    assert check({"quit": 560_000.0}, "--record").exit_code == 0
    assert kept.read(file)[kept.build()]["quit"] == 560_000


def test_the_check_fails_and_names_the_works_that_became_slower(check: Check) -> None:
    check(COUNTS, "--record")
    result = check(COUNTS | {"quit": 560_000.0})
    assert result.exit_code == 1
    assert "above what is kept: quit." in result.output and "+12.0%" in result.output


def test_the_check_suggests_to_keep_an_improvement(check: Check) -> None:
    check(COUNTS, "--record")
    result = check(COUNTS | {"quit": 400_000.0})
    assert result.exit_code == 0 and "Better by more than a tenth: quit." in result.output


def test_figures_are_written_as_json(check: Check, tmp_path: Path) -> None:
    assert check(COUNTS, "--json", str(tmp_path / "figures.json")).exit_code == 0
    assert b'"instructions":{"messages-new":2000000.4,"quit":500000.0}' in (tmp_path / "figures.json").read_bytes()


def test_a_failure_of_the_server_is_reported_in_one_sentence(check: Check) -> None:
    result = check(CountingError("valgrind does not count"))
    assert result.exit_code == 1 and result.output == "Error: valgrind does not count\n"


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_without_valgrind_it_is_skipped_except_in_ci(
    ci: str, status: int, check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    result = check(AssertionError("counted without valgrind"), absent="valgrind is not installed")
    assert result.exit_code == status and "valgrind is not installed" in result.output


def test_kept_figures_are_those_of_the_counted_works() -> None:
    for counts in kept.read(instructions.KEPT).values():
        assert set(counts) == set(instructions.NAMES)
