"""The benchmark of gatepost beside its peers: ``python -m tests.bench``, from the root of the repository.

Servers run on the first core, loads on the last. What is measured is said in ``works/``, with whom in ``servers/``.
Exit status: 0; 1 if a server failed in a run, or if a target is missed and ``--strict`` is given.
"""

from __future__ import annotations

import datetime
import os
import platform
import signal
import sys
from pathlib import Path

import click
from rich.console import Console

from tests.bench import report, runs, targets
from tests.bench.figures import Figure, Figures, Machine
from tests.bench.servers.running import interpreter
from tests.bench.works import FULL, NAMES, NOT_QUICK, QUICK, Effort, Row, work

WIDTH = 120
"""Columns where nobody's terminal says how many there are."""


@click.command()
@click.option("--quick", is_flag=True, help="One short run of each: shows that all works, and orders of magnitude.")
@click.option("--work", "works", multiple=True, type=click.Choice(NAMES), help="This work only; may be repeated.")
@click.option("--server", "servers", multiple=True, metavar="NAME", help="This server only; may be repeated.")
@click.option("--runs", "count", type=click.IntRange(1), help="Runs of each row, instead of 5.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there.")
@click.option("--read", "kept", type=click.Path(exists=True, path_type=Path), help="Measure nothing; show this file.")
@click.option("--pictures", type=click.Path(file_okay=False, path_type=Path), help="Draw pictures into this folder.")
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
    figures, failed = (Figures.load(kept), False) if kept else _measure(names, effort, servers)
    if file:
        figures.save(file)
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


def _measure(names: tuple[str, ...], effort: Effort, servers: tuple[str, ...]) -> tuple[Figures, bool]:
    def wanted(row: Row) -> bool:
        return not servers or _server_name(row) in servers

    found: list[Figure] = []
    skipped: dict[str, str] = {}
    failed = False
    begun = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    # Progress is for whoever watches; what is printed on standard output is the report.
    with Console(stderr=True).status("") as status:
        for name in names:
            result = runs.measure(work(name), effort, wanted, status.update)
            found += result.figures
            skipped |= {f"{name}: {row}": why for row, why in (result.absent | result.failed).items()}
            failed = failed or bool(result.failed)
    return Figures(begun, _machine(), interpreter(), effort.quick, effort.runs, tuple(found), skipped), failed


def _machine() -> Machine:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return Machine(processor or platform.machine(), os.cpu_count() or 1, f"{platform.system()} {platform.release()}")


def _draw(figures: Figures, folder: Path) -> None:
    from tests.bench.pictures import draw  # matplotlib is slow to import, and need not be installed for measuring

    draw(figures, folder)


if __name__ == "__main__":
    main()
