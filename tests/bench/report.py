"""Tables for the terminal: what was measured, work by work, then the targets. It draws nothing and keeps nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Figure, Figures
from tests.bench.targets import Verdict, verdicts
from tests.bench.works import NAMES

Column: TypeAlias = tuple[str, str]
"""A measure's name and unit; its size stands in the line."""


def show(figures: Figures, console: Console) -> None:
    """Print it all."""
    machine = figures.machine
    console.print(f"{machine.processor}, {machine.cores} cores, {machine.kernel}", highlight=False)
    console.print(f"Median of {figures.runs} runs (lowest – highest)" if figures.runs > 1 else "One run of each")
    for work in (name for name in NAMES if name in figures.dates):
        for alike in parts_alike([figure for figure in figures.figures if figure.work == work]):
            console.print(_work_table(f"{work}, {figures.dates[work]}", alike))
    for row, why in figures.skipped.items():
        console.print(f"Not measured: {row}: {why}", style="yellow", markup=False)
    for version in dict.fromkeys(figure.version for figure in figures.figures):
        console.print(version, style="dim", highlight=False)
    console.print(_target_table(verdicts(figures)))


def parts_alike(figures: Iterable[Figure]) -> list[list[Figure]]:
    """Part the rows by what is measured of them: each part makes one table without holes."""
    by_row: dict[str, list[Figure]] = {}
    for figure in figures:
        by_row.setdefault(figure.row, []).append(figure)
    parts: dict[frozenset[Column], list[Figure]] = {}
    for of_row in by_row.values():
        parts.setdefault(frozenset(map(_column, of_row)), []).extend(of_row)
    return list(parts.values())


def _column(figure: Figure) -> Column:
    return figure.measure.name, figure.measure.unit


def _line(figure: Figure) -> str:
    return figure.row if figure.measure.at is None else f"{figure.row}, {figure.measure.at:,}"


def _work_table(title: str, figures: Iterable[Figure]) -> Table:
    headings, *lines = grid(figures)
    table = _table(title, *headings)
    for line in lines:
        table.add_row(*line)
    return table


def grid(figures: Iterable[Figure]) -> Iterator[list[str]]:
    """The lines of a table: its headings, then one for each row and size."""
    found = {(_line(figure), _column(figure)): figure for figure in figures}
    columns = list(dict.fromkeys(column for _, column in found))
    yield ["", *("\n".join(column) for column in columns)]
    for line in dict.fromkeys(line for line, _ in found):
        yield [line, *(_cell(found.get((line, column))) for column in columns)]


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    return table


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    spread = f" ({number(figure.least)} – {number(figure.most)})" if len(figure.samples) > 1 else ""
    return number(figure.median) + spread


def number(value: float) -> str:
    """Three digits that matter, without an exponent: 0.123, 1.23, 12.3, 123, 12,345."""
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2 if abs(value) >= 0.9995 else 3
    return f"{value:,.{digits}f}"


def _target_table(all_of_them: Iterable[Verdict]) -> Table:
    table = _table("Targets", "", "at most", "reached", "")
    for verdict in all_of_them:
        table.add_row(verdict.target.says, *judged(verdict))
    return table


def judged(verdict: Verdict) -> Iterator[str]:
    """Yield the limit of a target, the figure that was reached, and what that means."""
    yield f"{number(verdict.target.limit)} {verdict.target.unit}"
    if verdict.reached is None or verdict.percent is None:
        yield from ("–", "not measured")
        return
    yield number(verdict.reached)
    if not verdict.judged:
        yield "not judged (quick run)"
    elif verdict.met:
        yield f"[green]met[/], {-verdict.percent:.0f} % below"
    else:
        yield f"[red]missed[/] by {verdict.percent:.1f} %"
