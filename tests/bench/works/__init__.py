"""The kinds of work that are measured, one module each.

A module ``works/held.py`` holds ``WORK = Work("held", "what it is, in a line", rows)``; its name stands in ``NAMES``,
which is the order of the report. ``rows(effort)`` gives the rows: a server each, or a way of using one. The runner does
the rest: it enters all rows of the work (their servers live side by side, idle while it is not their turn), takes one
run of each row by turns, A B C A B C …, and leaves them. A row looks like this:

    @contextmanager
    def ready(server: Server, effort: Effort) -> Iterator[Run]:
        with server.running() as running:
            count = …                               # warm up, and find how much work lasts ``effort.seconds``
            def run() -> Sample:                    # one run; called several times
                …
                return {Measure("CPU", "µs a message"): 71.3}
            yield run

    def rows(effort: Effort) -> Sequence[Row]:
        return [Row(server.name, server, partial(ready, server)) for server in SERVERS.values()]

All runs of a row give the same measures. A work that wants a fresh server for each run starts it in ``run``. A run that
fails raises ``LoadError`` with what is wrong: no figure is made of failed messages. A quiet machine, the repeating of
disturbed runs and servers that are not installed are the runner's business, not a work's.
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
)
"""The works, in the order of the report."""

NOT_QUICK = frozenset({"latency"})
"""What a quick run leaves out, unless it is asked for by name."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is done in a run. ``quick`` is for seeing that all works, and for the order of size.

    ``seconds`` is the server's CPU time that a run shall take, ``triples`` the number of (client, sender, recipient).
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

    ``ready(effort)`` starts what is needed, warms it up, gives the run and ends everything. What stands before the
    first comma of ``name`` is the name that ``--server`` chooses by. ``most_runs`` is for a peer whose runs take long
    and hardly differ.
    """

    name: str
    server: Server
    ready: Callable[[Effort], AbstractContextManager[Run]]
    most_runs: int | None = None

    def runs(self, effort: Effort) -> int:
        """How many runs are wanted."""
        return min(effort.runs, self.most_runs or effort.runs)


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of work: its name on the command line, what it is in a line, and who does it."""

    name: str
    says: str
    rows: Callable[[Effort], Sequence[Row]]


def work(name: str) -> Work:
    """Give the work of that name, one of ``NAMES``."""
    found = importlib.import_module(f"{__name__}.{name.replace('-', '_')}").WORK
    assert isinstance(found, Work)
    return found
