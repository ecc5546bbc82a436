"""Figures are kept as they were measured, and targets are judged by the medians of one run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.bench.figures import Figure, Figures, Machine, Measure
from tests.bench.report import judged, number
from tests.bench.targets import TARGETS, Target, verdicts
from tests.bench.works import FULL, NAMES, QUICK, Effort, work

CPU = Measure("CPU", "µs a message")


def figures(*found: Figure) -> Figures:
    machine = Machine("a processor", 2, "Linux")
    dates = {"messages-new": "2026-11-22T12:00:00+00:00", "quit": "2026-11-22T12:05:00+00:00"}
    return Figures(machine, "CPython 3.11", False, 3, dates, found, {"quit: haraka": "absent"})


def cpu(row: str, *samples: float) -> Figure:
    return Figure("messages-new", row, f"{row} 1.0", CPU, samples, (0.0, 0.1, 0.02))


def test_figures_come_back_from_their_file(tmp_path: Path) -> None:
    taken = figures(cpu("gatepost", 200, 190, 230), cpu("haraka", 700, 710, 690))
    taken.save(tmp_path / "figures.json")
    assert Figures.load(tmp_path / "figures.json") == taken


def test_a_work_that_is_measured_again_takes_the_place_of_what_was_kept_of_it() -> None:
    kept = figures(cpu("gatepost", 200), cpu("haraka", 700))
    later = "2026-11-23T08:00:00+00:00"
    other = Figure("quit", "gatepost", "", CPU, (5.0,))
    again = kept.with_work("quit", later, [other], {}).with_work("messages-new", later, [cpu("gatepost", 150)], {})
    assert again.find("messages-new", "gatepost", "CPU") == cpu("gatepost", 150)
    assert again.find("messages-new", "haraka", "CPU") is None
    assert again.find("quit", "gatepost", "CPU") == other
    assert again.skipped == {}
    assert kept.with_work("quit", later, [], {"haraka": "gone"}).skipped == {"quit: haraka": "gone"}
    assert (kept.date, again.date) == ("2026-11-22T12:05:00+00:00", later)


def test_only_what_was_taken_alike_may_stand_in_one_file() -> None:
    kept = figures(cpu("gatepost", 200))
    assert kept.is_like(figures())
    assert not kept.is_like(dataclasses.replace(kept, quick=True))


def test_of_two_ways_to_count_the_worse_is_judged() -> None:
    def memory(name: str, kib: float) -> Figure:
        return Figure("idle", "gatepost", "", Measure(name, "KiB each", 10_000), (kib,))

    def reached(*found: Figure) -> list[float | None]:
        return [verdict.reached for verdict in verdicts(figures(*found)) if verdict.target.work == "idle"]

    assert reached(memory("memory", 5), memory("memory, further", 6)) == [6]
    assert reached(memory("memory", 8), memory("memory, further", 6)) == [8]
    assert reached(memory("memory", 8)) == [8]


def test_without_a_size_the_largest_counts() -> None:
    memory = [Figure("idle", "gatepost", "", Measure("memory", "KiB each", at), (1.0,)) for at in (1000, 10_000, 5000)]
    found = figures(*memory).find("idle", "gatepost", "memory")
    assert found is not None
    assert found.measure.at == 10_000


def test_memory_of_fewer_clients_is_not_judged() -> None:
    of_few = Figure("idle", "gatepost", "", Measure("memory", "KiB each", 1000), (0.1,))
    assert [verdict.met for verdict in verdicts(figures(of_few)) if verdict.target.work == "idle"] == [None]


def test_a_ratio_is_one_of_medians() -> None:
    verdict = verdicts(figures(cpu("gatepost", 10, 140, 1000), cpu("haraka", 1, 700, 9999)))[0]
    assert verdict.target.says == "messages-new: CPU at most 1/3 of Haraka's"
    assert verdict.reached == pytest.approx(0.2)
    assert verdict.met
    assert verdict.percent == pytest.approx(-40)


def test_a_missed_target_says_by_how_much() -> None:
    verdict = verdicts(figures(cpu("gatepost", 350), cpu("haraka", 700)))[0]
    assert verdict.met is False
    assert verdict.percent == pytest.approx(50)


def test_what_misses_by_little_is_not_said_to_miss_by_nothing() -> None:
    verdict = verdicts(figures(cpu("gatepost", 334), cpu("haraka", 1000)))[0]
    assert list(judged(verdict)) == ["0.333 of Haraka's", "0.334", "[red]missed[/] by 0.2 %"]


def test_a_quick_run_shows_figures_and_judges_none() -> None:
    quick = dataclasses.replace(figures(cpu("gatepost", 350), cpu("haraka", 700)), quick=True)
    verdict = verdicts(quick)[0]
    assert verdict.met is None
    assert list(judged(verdict)) == ["0.333 of Haraka's", "0.500", "not judged (quick run)"]


def test_without_the_peer_nothing_is_judged() -> None:
    verdict = verdicts(figures(cpu("gatepost", 350)))[0]
    assert verdict.met is None


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.says)
@pytest.mark.parametrize("effort", [QUICK, FULL], ids=["quick", "full"])
def test_every_target_is_of_rows_that_are_measured(target: Target, effort: Effort) -> None:
    rows = {row.name for row in work(target.work).rows(effort)}
    assert {target.row, target.against or target.row} <= rows


@pytest.mark.parametrize("name", NAMES)
def test_a_work_goes_by_the_name_it_is_chosen_by(name: str) -> None:
    assert work(name).name == name


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.3333, "0.333"), (1.234, "1.23"), (9.999, "10.0"), (12.34, "12.3"), (99.97, "100"), (12345.6, "12,346")],
)
def test_numbers_have_three_digits_that_matter(value: float, shown: str) -> None:
    assert number(value) == shown
