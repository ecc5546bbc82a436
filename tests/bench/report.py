"""Tables for the terminal: one for each work, then the targets. It draws nothing and keeps nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Figure, Figures, Measure
from tests.bench.targets import Verdict, verdicts


def show(figures: Figures, console: Console) -> None:
    """Print it all."""
    console.print(
        f"{figures.date}, {figures.machine.processor}, {figures.machine.cores} cores, {figures.machine.kernel}"
    )
    console.print(f"Median of {figures.runs} runs (lowest – highest)" if figures.runs > 1 else "One run of each")
    for work in dict.fromkeys(figure.work for figure in figures.figures):
        console.print(_work_table(work, [figure for figure in figures.figures if figure.work == work]))
    for row, why in figures.skipped.items():
        console.print(f"Not measured: {row}: {why}", style="yellow")
    for version in dict.fromkeys(figure.version for figure in figures.figures):
        console.print(version, style="dim")
    console.print(_target_table(verdicts(figures)))


def _work_table(work: str, figures: Iterable[Figure]) -> Table:
    found = {(figure.row, figure.measure): figure for figure in figures}
    measures = list(dict.fromkeys(measure for _, measure in found))
    table = Table(title=work, title_justify="left", title_style="bold")
    table.add_column("")
    for measure in measures:
        table.add_column(_heading(measure), justify="right")
    for row in dict.fromkeys(row for row, _ in found):
        table.add_row(row, *(_cell(found.get((row, measure))) for measure in measures))
    return table


def _heading(measure: Measure) -> str:
    size = f"\nat {measure.at:,}" if measure.at is not None else ""
    return f"{measure.name}\n{measure.unit}{size}"


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
    table = Table(title="Targets", title_justify="left", title_style="bold")
    for heading in ("", "limit", "reached", ""):
        table.add_column(heading, justify="left" if not heading else "right")
    for verdict in all_of_them:
        table.add_row(verdict.target.says, *_judged(verdict))
    return table


def _judged(verdict: Verdict) -> Iterator[str]:
    yield f"{number(verdict.target.limit)} {verdict.target.unit}"
    if verdict.reached is None or verdict.percent is None:
        yield from ("–", "not measured")
        return
    yield number(verdict.reached)
    if verdict.met:
        yield f"[green]met[/], {-verdict.percent:.0f} % below"
    else:
        yield f"[red]missed[/] by {verdict.percent:.0f} %"
