"""The page of figures has a table for each work, the charts, and the targets."""

from __future__ import annotations

from pathlib import Path

from tests.bench import page
from tests.bench.figures import Figure, Figures, Machine, Measure

CPU = Measure("CPU", "µs a message")


def test_it_shows_the_figures_and_the_same_figures_give_the_same_page(tmp_path: Path) -> None:
    figures = Figures(
        Machine("a processor", 2, "Linux"),
        "CPython",
        quick=False,
        runs=5,
        dates={"messages-new": "2026-01-05T10:00:00+00:00"},
        figures=(
            Figure("messages-new", "gatepost", "gatepost 1.0", CPU, (100.0, 90.0, 120.0)),
            Figure("messages-new", "haraka", "Haraka 3", CPU, (400.0,)),
        ),
        skipped={"messages-new: postfix": "it is not installed"},
    )
    written = page.write(figures, [tmp_path / "messages.svg"], tmp_path).read_text()
    assert "2026-01-05: a processor, 2 cores, Linux. Median of 5 runs" in written
    assert "gatepost 1.0; Haraka 3." in written
    assert "![messages](messages.svg)" in written
    assert "|  | CPU, µs a message |\n|---|---:|\n| gatepost | 100 (90.0 – 120) |\n| haraka | 400 |" in written
    assert "| messages-new: CPU at most 1/3 of Haraka's | 0.333 of Haraka's | 0.250 | met, 25 % below |" in written
    assert "Not measured: messages-new: postfix: it is not installed" in written
    assert page.write(figures, [tmp_path / "messages.svg"], tmp_path).read_text() == written
