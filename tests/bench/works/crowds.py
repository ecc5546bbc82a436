"""Loads that a work controls while they run: clients that stay, and known ones that arrive meanwhile.

Both are context managers, and their clients disconnect on exit. ``grown`` measures the cost of a crowd to a server.
"""

from __future__ import annotations

import select
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Self

import orjson

from tests.bench import loads
from tests.bench.figures import Measure, Sample
from tests.bench.loads import LoadError
from tests.bench.tree import Tree
from tests.bench.works import Effort

ACCEPT_LIMIT = 30.0
SETTLING = 0.5
"""Seconds between the last client of a stage, or of the warm-up, and the measurement."""


class Crowd:
    """Clients of two processes, because one process may have no more than 20,000 descriptors.

    ``rate`` of them arrive per second. They are silent strangers, or with ``greeted`` known clients that send EHLO.
    """

    def __init__(self, port: int, rate: float, *, greeted: bool = False) -> None:
        self._options = ("--port", port, "--rate", rate / 2, *(["--greeted"] if greeted else []))

    def __enter__(self) -> Self:
        with ExitStack() as leaving:
            self._loads = [
                leaving.enter_context(loads.started("held", *self._options, "--first", first)) for first in (0, 1)
            ]
            self._leave = leaving.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._leave.close()

    def grow(self, count: int) -> None:
        """Grow to ``count`` clients, an even number. Raises LoadError if one of them is no longer connected."""
        for load in self._loads:
            _tell(load, str(count // 2))
        lost = sum(_answer(load)["lost"] for load in self._loads)
        if lost:
            raise LoadError(f"{lost} of {count} clients were not held")


class Newcomers:
    """Known clients that arrive one at a time, one ``every`` so many seconds, and send a message each."""

    def __init__(self, port: int, every: float) -> None:
        self._options = ("--port", port, "--every", every)

    def __enter__(self) -> Self:
        with ExitStack() as leaving:
            self._load = leaving.enter_context(loads.started("newcomers", *self._options))
            _answer(self._load)
            self._leave = leaving.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._leave.close()

    def forget(self) -> None:
        """Start a new count for ``seen``."""
        _tell(self._load, "")
        _answer(self._load)

    def seen(self) -> dict[str, Any]:
        """Return the number ``served`` since the last call, and the seconds ``p50``, ``p99`` and ``longest``."""
        _tell(self._load, "")
        answer = _answer(self._load)
        if not answer["served"]:
            raise LoadError("no newcomer was served")
        return answer


def grown(crowd: Crowd, tree: Tree, stages: Sequence[int], effort: Effort) -> Sample:
    """Let the crowd grow in stages, and return the figures of each.

    CPU is the mean of the clients that arrive in the stage. Memory (PSS) is given in two ways, since either alone may
    mislead. "memory" is the mean of all connected clients, above the warm server without clients: the first of them
    pay for one-time allocations, or reuse memory that earlier clients have freed. "memory, further" is the mean of all
    clients after the first stage, which has settled both. "holding" is the CPU time for all of them while nothing
    happens, measured in the last stage.
    """
    sample: dict[Measure, float] = {}
    time.sleep(SETTLING)  # nobody is connected any more
    sockets, empty, before = tree.sockets(), tree.memory().pss, (0, tree.cpu())  # before: clients, CPU seconds
    first = 0.0
    for stage in stages:
        crowd.grow(stage)
        _wait_until_accepted(tree, sockets + stage)
        cpu, pss = tree.cpu(), tree.memory().pss
        sample[Measure("CPU", "µs each", stage)] = (cpu - before[1]) / (stage - before[0]) * 1e6
        sample[Measure("memory", "KiB each", stage)] = (pss - empty) / stage
        if stage == stages[0]:
            first = pss
        else:
            sample[Measure("memory, further", "KiB each", stage)] = (pss - first) / (stage - stages[0])
        sample[Measure("memory in all", "MiB", stage)] = pss / 1024
        before = (stage, cpu)
    sample[Measure("holding", "CPU ms in 10 s", stages[-1])] = _rest(tree, 2 if effort.quick else 5) * 10_000
    crowd.grow(stages[-1])  # it grows no further: this checks that all are still connected
    return sample


def _wait_until_accepted(tree: Tree, sockets: int) -> None:
    """Wait until the server has accepted all clients: a connected one may still be in its backlog."""
    end = time.monotonic() + ACCEPT_LIMIT
    while tree.sockets() < sockets:
        if time.monotonic() > end:
            raise LoadError(f"{sockets - tree.sockets()} clients were not accepted within {ACCEPT_LIMIT:.0f} seconds")
        time.sleep(0.1)
    time.sleep(SETTLING)


def _rest(tree: Tree, seconds: float) -> float:
    """Return the CPU seconds that the idle server uses per second."""
    cpu, begun = tree.cpu(), time.monotonic()
    time.sleep(seconds)
    return (tree.cpu() - cpu) / (time.monotonic() - begun)


def _tell(load: subprocess.Popen[str], line: str) -> None:
    assert load.stdin is not None
    try:
        load.stdin.write(f"{line}\n")
        load.stdin.flush()
    except BrokenPipeError:
        loads.ended(load)
        raise


def _answer(load: subprocess.Popen[str]) -> dict[str, Any]:
    assert load.stdout is not None
    if not select.select([load.stdout], [], [], loads.PATIENCE)[0]:
        raise LoadError(f"the load did not answer within {loads.PATIENCE:.0f} seconds")
    line = load.stdout.readline()
    return orjson.loads(line) if line else loads.ended(load)
