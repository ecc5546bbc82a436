"""The runs of a work: the rows take turns on a quiet machine, and a run that other programs disturbed is repeated.

Rows take turns, A B C A B C …, because a machine drifts: if it is slower for a minute, that affects all rows alike.
Everything that a run starts descends from this process, so all other CPU time of the machine is that of others. This
module knows rows and their figures, and nothing of what a run does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from time import monotonic, sleep

from tests.bench.figures import Figure, Sample
from tests.bench.loads import LoadError
from tests.bench.tree import Tree, machine_cpu
from tests.bench.works import Effort, Row, Run, Work

DISTURBED = 0.15
"""Cores used by others above which a machine is not quiet, so that a run is repeated."""
WINDOW = 0.5
"""Seconds that a machine must have been quiet before a run."""
QUIET_PATIENCE = 30.0
"""Seconds after which a run begins even though the machine is not quiet."""
ATTEMPTS = 2
"""The most runs that are taken for each wanted one."""

FAILURES = (LoadError, RuntimeError, OSError)
"""Failures of a server or a load; any other exception is a bug of the benchmark."""

Tell = Callable[[str], None]
"""A function that shows a line about the progress."""


@dataclass(slots=True)
class Result:
    """The figures of a work, and the reasons why rows could not be measured or failed, by row."""

    figures: list[Figure] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Turn:
    """A row that is ready, and its runs so far, each with the cores that others used meanwhile."""

    row: Row
    run: Run
    taken: list[tuple[float, Sample]] = field(default_factory=list)

    def wants(self, effort: Effort) -> bool:
        """Return whether there are too few good runs and another one is permitted."""
        good = sum(others <= DISTURBED for others, _ in self.taken)
        wanted = self.row.runs(effort)
        return good < wanted and len(self.taken) < _most(wanted, effort)

    def kept(self, effort: Effort) -> list[tuple[float, Sample]]:
        """Return the least disturbed runs, in the order they were taken."""
        least = sorted(range(len(self.taken)), key=lambda number: self.taken[number][0])
        least = least[: self.row.runs(effort)]
        return [self.taken[number] for number in sorted(least)]


def measure(work: Work, effort: Effort, wanted: Callable[[Row], bool], tell: Tell) -> Result:
    """Do the work with all wanted rows. A row that fails is left out; the others continue."""
    result = Result()
    with ExitStack() as stack:
        turns = []
        for row in filter(wanted, work.rows(effort)):
            if why := row.server.missing():
                result.absent[row.name] = why
                continue
            tell(f"{work.name}: {row.name} gets ready")
            try:
                turns.append(_Turn(row, stack.enter_context(row.ready(effort))))
            except FAILURES as error:
                result.failed[row.name] = str(error)
        for attempt in range(_most(effort.runs, effort)):
            for turn in [turn for turn in turns if turn.wants(effort)]:
                tell(f"{work.name}: {turn.row.name}, run {attempt + 1}")
                if why := _take(turn, effort):
                    result.failed[turn.row.name] = why
                    turns.remove(turn)
    result.figures = [figure for turn in turns for figure in _figures(work, turn, effort)]
    return result


def _most(wanted: int, effort: Effort) -> int:
    return wanted if effort.quick else ATTEMPTS * wanted


def _take(turn: _Turn, effort: Effort) -> str | None:
    """Take a run. Returns the reason if it failed."""
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
        before = machine_cpu()  # with ours, since servers may still be cleaning up
        sleep(WINDOW)
        if (machine_cpu() - before) / WINDOW < DISTURBED:
            return


def _others() -> float:
    """Return the CPU seconds of all processes but ours."""
    return machine_cpu() - Tree(os.getpid()).cpu()


def _figures(work: Work, turn: _Turn, effort: Effort) -> list[Figure]:
    kept = turn.kept(effort)
    others = tuple(round(others, 3) for others, _ in kept)
    row, version = turn.row.name, turn.row.server.version()
    return [
        Figure(work.name, row, version, measure, tuple(sample[measure] for _, sample in kept), others)
        for measure in kept[0][1]
    ]
