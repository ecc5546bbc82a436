"""The benchmark of gatepost beside its peers: ``python -m tests.bench``, from the root of the repository.

Servers run on the first core, loads on the last. What is measured is said in ``works/``, with whom in ``servers/``.
The JSON file is written after each work, so that a run that is interrupted keeps what it has, and a work that is
measured again takes the place of what the file has of it.
Exit status: 0; 1 if a server failed in a run, or if a target is missed and ``--strict`` is given.
"""

from __future__ import annotations

import datetime
import os
import platform
import signal
import sys
from pathlib import Path
from time import monotonic

import click
from rich.console import Console

from tests.bench import page, report, runs, targets
from tests.bench.figures import Figures, Machine
from tests.bench.servers.running import interpreter
from tests.bench.works import FULL, NAMES, NOT_QUICK, QUICK, Effort, Row, work

WIDTH = 120
"""Columns where nobody's terminal says how many there are."""


@click.command()
@click.option("--quick", is_flag=True, help="One short run of each: shows that all works, and judges no target.")
@click.option("--work", "works", multiple=True, type=click.Choice(NAMES), help="This work only; may be repeated.")
@click.option("--server", "servers", multiple=True, metavar="NAME", help="This server only; may be repeated.")
@click.option("--runs", "count", type=click.IntRange(1), help="Runs of each row, instead of 5.")
@click.option(
    "--json",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write figures there, beside those of other works.",
)
@click.option("--read", "kept", type=click.Path(exists=True, path_type=Path), help="Measure nothing; show this file.")
@click.option(
    "--pictures",
    type=click.Path(file_okay=False, path_type=Path),
    help="Draw pictures and write figures.md here.",
)
@click.option("--strict", is_flag=True, help="Exit with status 1 when a target is missed.")
@click.option("--list", "listing", is_flag=True, help="Name the works and their servers, and measure nothing.")
def main(
    quick: bool,
    works: tuple[str, ...],
    servers: tuple[str, ...],
    count: int | None,
    file: Path | None,
    kept: Path | None,
    pictures: Path | None,
    strict: bool,
    listing: bool,
) -> None:
    """Measure gatepost beside its peers."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    effort = _effort(quick, count)
    names = works or tuple(name for name in NAMES if not quick or name not in NOT_QUICK)
    if listing:
        _list(names, effort)
        return
    _check_servers(servers, names, effort)
    figures, failed = (Figures.load(kept), False) if kept else _measure(names, effort, servers, file)
    report.show(figures, Console(width=None if sys.stdout.isatty() else WIDTH))
    if pictures:
        _draw(figures, pictures)
    missed = any(verdict.met is False for verdict in targets.verdicts(figures))
    sys.exit(1 if failed or (strict and missed) else 0)


def _effort(quick: bool, count: int | None) -> Effort:
    chosen = QUICK if quick else FULL
    return Effort(chosen.quick, count or chosen.runs, chosen.seconds, chosen.triples)


def _list(names: tuple[str, ...], effort: Effort) -> None:
    for name in names:
        print(f"{name}: {work(name).says}")
        for row in work(name).rows(effort):
            absent = row.server.missing()
            print(f"    {row.name}" + (f" – {absent}" if absent else ""))


def _check_servers(servers: tuple[str, ...], names: tuple[str, ...], effort: Effort) -> None:
    known = {_server_name(row) for name in names for row in work(name).rows(effort)}
    for unknown in set(servers) - known:
        raise click.BadParameter(
            f"no chosen work has {unknown}; there are {', '.join(sorted(known))}", param_hint="--server"
        )


def _server_name(row: Row) -> str:
    return row.name.partition(",")[0]


def _measure(
    names: tuple[str, ...], effort: Effort, servers: tuple[str, ...], file: Path | None
) -> tuple[Figures, bool]:
    def wanted(row: Row) -> bool:
        return not servers or _server_name(row) in servers

    figures = _begun(effort, file)
    failed = False
    # Progress is for whoever watches; what is printed on standard output is the report.
    watching = Console(stderr=True, highlight=False, soft_wrap=True)
    with watching.status("") as status:
        for name in names:
            watching.print(f"{name}: {work(name).says}")
            begun, date = monotonic(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            result = runs.measure(work(name), effort, wanted, status.update)
            figures = figures.with_work(name, date, result.figures, result.absent | result.failed)
            failed = failed or bool(result.failed)
            watching.print(f"    {monotonic() - begun:.0f} s")
            if file:
                figures.save(file)
    return figures, failed


def _begun(effort: Effort, file: Path | None) -> Figures:
    """The figures that the file has already, if any."""
    new = Figures(_machine(), interpreter(), effort.quick, effort.runs)
    if file is None or not file.exists():
        return new
    kept = Figures.load(file)
    if not kept.is_like(new):
        raise click.BadParameter(
            "what it has was taken on another machine, with another interpreter or other runs", param_hint="--json"
        )
    return kept


def _machine() -> Machine:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return Machine(processor or platform.machine(), os.cpu_count() or 1, f"{platform.system()} {platform.release()}")


def _draw(figures: Figures, folder: Path) -> None:
    from tests.bench.pictures import draw  # matplotlib is slow to import, and need not be installed for measuring

    page.write(figures, draw(figures, folder), folder)


if __name__ == "__main__":
    main()
