"""Takes the runs of a work: every row by turns, on a quiet machine, and again when somebody else was busy.

By turns, A B C A B C …, since a machine drifts: what it is slower at for a minute hits all rows alike. It knows rows
and their figures, and nothing of what a run does. All that a run starts descends from this process, so what the machine
did besides is the work of others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic, sleep

from tests.bench.figures import Figure, Sample
from tests.bench.loads import LoadError
from tests.bench.tree import Tree, machine_cpu
from tests.bench.works import Effort, Row, Run, Work

DISTURBED = 0.15
"""Cores in use by others at which a machine is not quiet, and a run is taken again."""
WINDOW = 0.5
"""Seconds for which a machine must be quiet before a run."""
QUIET_PATIENCE = 30.0
"""Seconds after which a run begins on a machine that is not quiet."""
ATTEMPTS = 2
"""How many runs are taken at most, for each that is wanted."""

FAILURES = (LoadError, RuntimeError, OSError)
"""What is the fault of a server or a load; all else is a mistake here."""

Tell = Callable[[str], None]
"""Takes a line about what goes on."""


@dataclass(slots=True)
class Result:
    """What came of a work: figures, and by row why one could not be measured or failed."""

    figures: list[Figure] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Turn:
    """A row that is ready, and its runs so far with the cores that others used meanwhile."""

    row: Row
    run: Run
    taken: list[tuple[float, Sample]] = field(default_factory=list)

    def wants(self, effort: Effort) -> bool:
        """Whether there are too few good runs, and more may be tried."""
        good = sum(others <= DISTURBED for others, _ in self.taken)
        wanted = self.row.runs(effort)
        return good < wanted and len(self.taken) < _most(wanted, effort)

    def kept(self, effort: Effort) -> list[tuple[float, Sample]]:
        """The runs that were disturbed least, in the order they were taken."""
        least = sorted(range(len(self.taken)), key=lambda number: self.taken[number][0])
        least = least[: self.row.runs(effort)]
        return [self.taken[number] for number in sorted(least)]


def measure(work: Work, effort: Effort, wanted: Callable[[Row], bool], tell: Tell) -> Result:
    """Do the work with all rows that are wanted. A row that fails is left out; the others go on."""
    result = Result()
    with ExitStack() as stack:
        turns = _made_ready(work, [row for row in work.rows(effort) if wanted(row)], effort, stack, result, tell)
        for attempt in range(_most(effort.runs, effort)):
            for turn in list(turns):
                if not turn.wants(effort):
                    continue
                tell(f"{work.name}: {turn.row.name}, run {attempt + 1}")
                if why := _take(turn, effort):
                    result.failed[turn.row.name] = why
                    turns.remove(turn)
    result.figures = [figure for turn in turns for figure in _figures(work, turn, effort)]
    return result


def _most(wanted: int, effort: Effort) -> int:
    return wanted if effort.quick else ATTEMPTS * wanted


def _made_ready(
    work: Work, rows: Sequence[Row], effort: Effort, stack: ExitStack, result: Result, tell: Tell
) -> list[_Turn]:
    turns = []
    for row in rows:
        if why := row.server.missing():
            result.absent[row.name] = why
            continue
        tell(f"{work.name}: {row.name} gets ready")
        try:
            turns.append(_Turn(row, stack.enter_context(row.ready(effort))))
        except FAILURES as error:
            result.failed[row.name] = str(error)
    return turns


def _take(turn: _Turn, effort: Effort) -> str | None:
    """Take a run, or say why it failed."""
    if not effort.quick:
        _wait_until_quiet()
    before, begun = _others(), monotonic()
    try:
        sample = turn.run()
    except FAILURES as error:
        return str(error)
    others = (_others() - before) / (monotonic() - begun)
    turn.taken.append((max(0.0, others), sample))
    return None


def _wait_until_quiet() -> None:
    end = monotonic() + QUIET_PATIENCE
    while monotonic() < end:
        before = machine_cpu()  # ours counts too: servers that still clean up
        sleep(WINDOW)
        if (machine_cpu() - before) / WINDOW < DISTURBED:
            return


def _others() -> float:
    """CPU seconds of all processes but ours."""
    return machine_cpu() - Tree(os.getpid()).cpu()


def _figures(work: Work, turn: _Turn, effort: Effort) -> list[Figure]:
    kept = turn.kept(effort)
    others = tuple(round(others, 3) for others, _ in kept)
    row, version = turn.row.name, turn.row.server.version()
    return [
        Figure(work.name, row, version, measure, tuple(sample[measure] for _, sample in kept), others)
        for measure in kept[0][1]
    ]
