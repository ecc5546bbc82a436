"""The benchmark for CI: the instructions that gatepost's default chain takes for a unit of work, beside kept figures.

    python -m tests.bench.instructions

Unlike seconds, instructions do not depend on the load of the machine: two runs differ by about one percent. They depend
on the interpreter's build, so ``instructions.json`` has figures for each build. A count of more than ten percent above
the kept figure is a regression, with exit status 1. If nothing is kept for a build, the program says how to keep it and
succeeds. Newer libraries, above all uvloop, may change the figures too.

Only the server's process is counted, without clients and kernel, in the steady state: every client is known, and every
DNS answer is cached. Everything else is as in the benchmark's works for "gatepost-interpreted", except for the store,
which is in memory (``counting``). The count of a reused connection includes its beginning and its end.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import click
import orjson
import uvloop
from rich.console import Console
from rich.table import Table

from tests.bench import kept
from tests.bench.clients import client
from tests.bench.counting import Counter, CountingError, counted
from tests.bench.kept import Comparison, Counts
from tests.bench.loads.dialogues import Lines, leaving, lines, messages, patient
from tests.bench.loads.large import message, sending
from tests.bench.loads.session import Dialogue, SessionError, hold
from tests.bench.servers import gatepost
from tests.bench.servers.running import Running, Server

KEPT = Path(__file__).with_name("instructions.json")
WARM_UP = 80
"""Messages before anything is counted, so that all clients are known and the interpreter has specialized its code."""
FIRST = 8
"""Units of each work before it is counted, which fill the caches of the work itself."""
TIMES = 3
"""Number of counts of each work. The lowest is used, since timers and the like can only add to it."""

CLIENTS = [lines(client(number)) for number in range(1, 9)]
"""Clients whose DNS answers are cached (``servers.dns``)."""
MEGABYTES = 8
"""Size of a large message, many times what is spooled in memory."""
LARGE = message(MEGABYTES * 10**6)

Sessions: TypeAlias = Iterator[tuple[str, Dialogue]]
"""Addresses and dialogues of sessions, one after another."""


def _client(number: int) -> Lines:
    return CLIENTS[number % len(CLIENTS)]


def _letters(own: Lines, count: int) -> Dialogue:
    return messages(own, [own] * count, pipelined=False, accepted=lambda: None)


def _introducing(units: int) -> Sessions:
    return ((_client(number).address, patient(_client(number))) for number in range(units))


def _new(units: int) -> Sessions:
    return ((_client(number).address, _letters(_client(number), 1)) for number in range(units))


def _reused(units: int) -> Sessions:
    yield CLIENTS[0].address, _letters(CLIENTS[0], units)


def _leaving(units: int) -> Sessions:
    return ((_client(number).address, leaving()) for number in range(units))


def _large(units: int) -> Sessions:
    return ((_client(number).address, sending(_client(number), LARGE)) for number in range(units // MEGABYTES))


@dataclass(frozen=True, slots=True)
class Work:
    """A work that is counted: ``sessions`` yields those for a number of units, and ``units`` are counted at once."""

    name: str
    unit: str
    sessions: Callable[[int], Sessions]
    units: int


WORKS = (
    Work("messages-new", "1 KiB message, a connection each", _new, 40),
    Work("messages-reused", "1 KiB message, connection reused", _reused, 80),
    Work("large", "MB of large messages", _large, MEGABYTES),
    Work("quit", "connect, banner, QUIT", _leaving, 80),
)
NAMES = tuple(work.name for work in WORKS)


def measure(server: Server, works: Iterable[Work], profiles: Path | None = None) -> dict[str, float]:
    """Return the instructions for a unit of each work. callgrind's files are copied into the folder ``profiles``.

    Raises SessionError, OSError or CountingError, and RuntimeError if the server does not start.
    """
    counts = {}
    with server.running() as running:
        _hold(running, _introducing(WARM_UP))
        counter = Counter(running)
        counter.switch_on()
        for work in works:
            _hold(running, work.sessions(FIRST))
            counts[work.name] = min(_count(counter, running, work) for _ in range(TIMES))
            if profiles is not None:
                shutil.copy(counter.profile, profiles / f"{work.name}.callgrind")
    return counts


def _count(counter: Counter, running: Running, work: Work) -> float:
    return counter.count(lambda: _hold(running, work.sessions(work.units))) / work.units


def _hold(running: Running, sessions: Sessions) -> None:
    async def hold_all() -> None:
        for address, dialogue in sessions:
            await hold(running.port, address, dialogue)

    uvloop.run(hold_all())


@click.command()
@click.option("--only", "names", multiple=True, type=click.Choice(NAMES), help="This work only; may be repeated.")
@click.option("--record", "recording", is_flag=True, help="Keep the figures for this build, even if they are worse.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there.")
@click.option(
    "--profiles",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Copy callgrind's files into this folder, for callgrind_annotate or kcachegrind.",
)
def main(names: tuple[str, ...], recording: bool, file: Path | None, profiles: Path | None) -> None:
    """Count instructions and compare them with the kept figures."""
    server = counted(gatepost.default_chain(interpreted=True))
    if absent := server.missing():
        _skip(absent)
        return
    try:
        counts = measure(server, [work for work in WORKS if work.name in (names or NAMES)], profiles)
    except (SessionError, OSError, CountingError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    if file:
        file.write_bytes(orjson.dumps({"build": kept.build(), "version": server.version(), "instructions": counts}))
    status = report(counts, kept.read(KEPT).get(kept.build(), {}))
    if recording:
        kept.record(KEPT, counts)
        print(f"Kept in {KEPT.name} for {kept.build()}.")
    sys.exit(0 if recording else status)


def _skip(absent: str) -> None:
    """Print what is absent, or fail if ``CI`` is set."""
    if os.environ.get("CI"):
        raise click.ClickException(absent)
    print(f"Instructions are not counted: {absent}")


def report(counts: Counts, kept_counts: Counts) -> int:
    """Print a table and what to do next. Returns the exit status: 1 for a regression."""
    comparisons = kept.compare(counts, kept_counts)
    console = Console(highlight=False, soft_wrap=True)
    console.print(_table(comparisons))
    if any(each.kept is None for each in comparisons):
        console.print(f"Some figures are not kept for {kept.build()}. To keep them: {_command('--record')}")
    if progress := [each.name for each in comparisons if each.is_progress]:
        console.print(f"Better by more than a tenth: {', '.join(progress)}. To keep that: {_command('--record')}")
    regressions = [each.name for each in comparisons if each.is_regression]
    if regressions:
        console.print(f"More than {kept.TOLERANCE:.0%} above what is kept: {', '.join(regressions)}.", style="bold red")
        console.print(f"To find the cause: {_command('--profiles FOLDER')}; to accept it: {_command('--record')}")
    return 1 if regressions else 0


def _command(option: str) -> str:
    return f"python -m tests.bench.instructions {option}"


def _table(comparisons: Iterable[Comparison]) -> Table:
    units = {work.name: work.unit for work in WORKS}
    table = Table(title=f"Thousands of instructions, {kept.build()}", title_justify="left", title_style="bold")
    table.add_column()
    for heading in ("counted", "kept", "change"):
        table.add_column(heading, justify="right")
    for each in comparisons:
        known = "–" if each.kept is None else f"{each.kept / 1000:,.0f}"
        change = "–" if each.change is None else f"{round(each.change, 3) + 0.0:+.1%}"
        style = "bold red" if each.is_regression else None
        table.add_row(units[each.name], f"{each.count / 1000:,.0f}", known, change, style=style)
    return table


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the server is stopped too
    main()
