"""The charts show the figures, on light and dark pages, and the same figures give the same files."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.bench.figures import Figure, Figures, Machine, Measure

pictures = pytest.importorskip("tests.bench.pictures", reason="matplotlib is not installed")

TEXT = "{http://www.w3.org/2000/svg}text"


def figures(*rows: str) -> Figures:
    """Return figures for all charts with these rows."""
    found = []
    for size, row in enumerate(rows, 1):
        for work, measure in (("messages-new", "CPU"), ("messages-reused", "CPU"), ("large", "CPU")):
            found.append(Figure(work, row, "1.0", Measure(measure, "µs"), (100.0 * size,)))
        found.append(Figure("large", f"{row}, ten at once", "1.0", Measure("memory rise", "MiB"), (7.0 * size,)))
        found.append(Figure("held", row, "1.0", Measure("memory", "KiB", 5000), (3.3 * size,)))
        found += [Figure("held", row, "1.0", Measure("memory in all", "MiB", at), (at / 99,)) for at in (1000, 5000)]
        found += [Figure("latency", row, "1.0", Measure(name, "ms"), (1.5 * size,)) for name in ("p50", "p99")]
    dates = {"messages-new": "2026-01-05T10:00:00Z"}
    return Figures(Machine("a processor", 2, "Linux"), "CPython", False, 5, dates, tuple(found))


def words(file: Path) -> str:
    """Return all text of a chart."""
    return " ".join("".join(text.itertext()) for text in ElementTree.parse(file).iter(TEXT))


def test_all_charts_are_drawn_with_their_values(tmp_path: Path) -> None:
    drawn = pictures.draw(figures("gatepost", "haraka"), tmp_path)
    assert {file.name for file in drawn} == {"messages.svg", "held.svg", "large.svg", "latency.svg"}
    said = words(tmp_path / "messages.svg")
    assert "takes 50% of the CPU that it takes in Haraka" in said
    assert "gatepost, default chain" in said
    assert "200 100 one per connection: µs of CPU" in said
    assert "2026-01-05, medians of 5 runs, server on one core of a processor" in said
    assert "Haraka: 6.6 KiB each" in words(tmp_path / "held.svg")


def test_the_same_figures_give_the_same_files(tmp_path: Path) -> None:
    first = [file.read_bytes() for file in pictures.draw(figures("gatepost", "haraka"), tmp_path / "a")]
    assert first == [file.read_bytes() for file in pictures.draw(figures("gatepost", "haraka"), tmp_path / "b")]


def test_charts_that_need_a_peer_are_left_out_without_it(tmp_path: Path) -> None:
    assert [file.name for file in pictures.draw(figures("gatepost"), tmp_path)] == ["latency.svg"]


def test_every_colour_has_a_counterpart_for_dark_pages(tmp_path: Path) -> None:
    for file in pictures.draw(figures("gatepost", "gatepost-bare", "haraka"), tmp_path):
        drawn = re.sub(r"<style>.*</style>", "", file.read_text())
        used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})", drawn))
        assert pictures.OURS in used
        assert used <= pictures.DARK.keys()
