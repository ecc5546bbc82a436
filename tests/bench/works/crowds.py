"""Loads that a work talks with while they run: clients that stay, and good ones that come meanwhile.

Both are context managers; when they are left their clients are gone. ``grown`` says what a crowd costs a server.
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
"""Seconds between the last client of a stage, or of the warm-up, and a look at the server."""


class Crowd:
    """Clients that are held by two processes: one may have no more than 20,000 descriptors.

    ``rate`` of them come in a second. Strangers are silent; ``greeted`` are known clients that say EHLO.
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
        """Hold so many clients, an even number. Raises LoadError if some of those that came are not held any more."""
        for load in self._loads:
            _tell(load, str(count // 2))
        lost = sum(_answer(load)["lost"] for load in self._loads)
        if lost:
            raise LoadError(f"{lost} of {count} clients were not held")


class Newcomers:
    """Known clients that come one by one and send a message each, ``every`` so many seconds."""

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
        """Begin anew with what ``seen`` gives."""
        _tell(self._load, "")
        _answer(self._load)

    def seen(self) -> dict[str, Any]:
        """How they were served since: ``served`` of them, and the seconds ``p50``, ``p99`` and ``longest``."""
        _tell(self._load, "")
        answer = _answer(self._load)
        if not answer["served"]:
            raise LoadError("no newcomer was served")
        return answer


def grown(crowd: Crowd, tree: Tree, stages: Sequence[int], effort: Effort) -> Sample:
    """Let the crowd grow in stages, and give the figures of each.

    CPU is the mean of those who come in the stage. Memory (PSS) is counted in two ways, since either may flatter.
    "memory" is the mean of all who are there, over the server that was warmed up and had nobody: the first of them pay
    for what it sets up once, or fill what it has free from earlier clients. "memory, further" is the mean of all who
    came after the first stage, which has settled both. What it takes to hold them all, while nothing happens, is seen
    in the last stage.
    """
    sample: dict[Measure, float] = {}
    time.sleep(SETTLING)  # nobody is connected any more
    sockets, empty, before = tree.sockets(), tree.memory().pss, (0, tree.cpu())
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
    crowd.grow(stages[-1])  # all are still there
    return sample


def _wait_until_accepted(tree: Tree, sockets: int) -> None:
    """A server may have work to do yet when its clients have come."""
    end = time.monotonic() + ACCEPT_LIMIT
    while tree.sockets() < sockets:
        if time.monotonic() > end:
            raise LoadError(f"{sockets - tree.sockets()} clients were not accepted within {ACCEPT_LIMIT:.0f} seconds")
        time.sleep(0.1)
    time.sleep(SETTLING)


def _rest(tree: Tree, seconds: float) -> float:
    """CPU seconds in a second of doing nothing."""
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
