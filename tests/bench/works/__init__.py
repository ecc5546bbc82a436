"""The kinds of work that are measured, one module each.

A module such as ``works/held.py`` defines ``WORK = Work("held", "a description in one line", rows)``, and its name is
in ``NAMES``, in the order of the report. ``rows(effort)`` returns the rows: a server each, or a way of using one. The
runner enters all rows of the work (their servers run side by side, each idle until its turn), takes one run of each row
in turn, A B C A B C …, and leaves them. A row looks like this:

    @contextmanager
    def ready(server: Server, effort: Effort) -> Iterator[Run]:
        with server.running() as running:
            count = …                               # warm up, and find the amount of work for ``effort.seconds``
            def run() -> Sample:                    # one run; called several times
                …
                return {Measure("CPU", "µs a message"): 71.3}
            yield run

    def rows(effort: Effort) -> Sequence[Row]:
        return [Row(server.name, server, partial(ready, server)) for server in SERVERS.values()]

All runs of a row return the same measures. A work that needs a fresh server for each run starts it in ``run``. A run
that fails raises ``LoadError`` with the reason, so that no figure includes failed messages. The runner, not the work,
waits for a quiet machine, repeats disturbed runs, and skips servers that are not installed.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.bench.figures import Sample
from tests.bench.servers.running import Server

NAMES = (
    "messages-new",
    "messages-reused",
    "pipelined",
    "large",
    "quit",
    "held",
    "idle",
    "plugins",
    "lookups",
    "latency",
    "as-run-new",
    "as-run-reused",
    "as-run-large",
    "alone",
)
"""The works, in the order of the report."""

NOT_QUICK = frozenset({"latency", "as-run-large"})
"""The works that a quick run leaves out unless they are named."""


@dataclass(frozen=True, slots=True)
class Effort:
    """The amount of work in a run. ``quick`` only shows that everything works, and the order of magnitude.

    ``seconds`` is the server's CPU time that a run aims at; ``triples`` is the number of (client, sender, recipient).
    """

    quick: bool
    runs: int
    seconds: float
    triples: int


QUICK = Effort(quick=True, runs=1, seconds=0.4, triples=500)
FULL = Effort(quick=False, runs=5, seconds=2.5, triples=10_000)

Run = Callable[[], Sample]
"""Do the work once, measured."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a work's table: a server, or a way of using it ("gatepost, 95 % from the cache").

    ``ready(effort)`` starts and warms up the server, yields the run, and stops everything. ``--server`` selects by the
    part of ``name`` before the first comma. ``most_runs`` is for a peer whose runs take long and hardly differ.
    """

    name: str
    server: Server
    ready: Callable[[Effort], AbstractContextManager[Run]]
    most_runs: int | None = None

    def runs(self, effort: Effort) -> int:
        """Return the number of runs of this row."""
        return min(effort.runs, self.most_runs or effort.runs)


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of work: its name on the command line, its description in one line, and its rows."""

    name: str
    says: str
    rows: Callable[[Effort], Sequence[Row]]


def work(name: str) -> Work:
    """Return the work with this name, one of ``NAMES``."""
    found = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").WORK
    assert isinstance(found, Work)
    return found
