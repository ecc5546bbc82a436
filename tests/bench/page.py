"""Write the tables of docs/development/performance.md from the figures of a run, in Markdown, beside the charts.

The same figures give the same file. This module measures and judges nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.bench.figures import Figures
from tests.bench.report import grid, judged, parts_alike
from tests.bench.targets import verdicts
from tests.bench.works import NAMES, work

_MARKUP = re.compile(r"\[/?[a-z]*\]")
_NOTE = "<!-- Written by scripts/bench: edit tests/bench/page.py instead. -->"


def write(figures: Figures, pictures: Sequence[Path], folder: Path) -> Path:
    """Write ``figures.md`` into the folder, which is that of the charts, and return its path."""
    path = folder / "figures.md"
    path.write_text("\n".join(_lines(figures, pictures)) + "\n", "utf-8")
    return path


def _lines(figures: Figures, pictures: Sequence[Path]) -> Iterator[str]:
    machine = figures.machine
    days = sorted({date[:10] for date in figures.dates.values()})
    yield _NOTE
    yield "\n## The figures\n"
    yield (
        f"Measured on {' and '.join(days)}: {machine.processor}, {machine.cores} cores, {machine.kernel}. "
        f"Median of {figures.runs} runs (lowest – highest)."
    )
    yield "\nVersions: " + "; ".join(dict.fromkeys(figure.version for figure in figures.figures)) + "."
    for picture in pictures:
        yield f"\n![{picture.stem}]({picture.name})"
    yield "\n### Targets\n"
    yield from _table([["", "at most", "reached", ""], *(_verdict_lines(figures))])
    for name in (name for name in NAMES if name in figures.dates):
        yield f"\n### {name}: {work(name).says}\n"
        for alike in parts_alike([figure for figure in figures.figures if figure.work == name]):
            yield from _table(grid(alike))
            yield ""
    for row, why in figures.skipped.items():
        yield f"\nNot measured: {row}: {why}"


def _verdict_lines(figures: Figures) -> Iterator[list[str]]:
    for verdict in verdicts(figures):
        yield [verdict.target.says, *(_MARKUP.sub("", cell) for cell in judged(verdict))]


def _table(lines: Iterable[Sequence[str]]) -> Iterator[str]:
    headings, *rows = lines
    yield _row(headings)
    yield "|---|" + "---:|" * (len(headings) - 1)
    for row in rows:
        yield _row(row)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("\n", ", ").replace("|", "/") for cell in cells) + " |"
