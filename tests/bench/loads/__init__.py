"""The clients of the benchmark: separate programs, so that their CPU time stays apart, on the core for loads.

Each is run as ``python -m tests.bench.loads.NAME``. It prints one JSON object on standard output when its work is done,
or ends with status 1 and a line on standard error if a server did not do its part.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson

from tests.bench.servers.running import LOAD_CORE, ROOT

PATIENCE = 300.0
"""Seconds after which a load has failed."""


class LoadError(Exception):
    """A load could not do its work, or a run did other work than is measured; it gives no figures."""


@contextmanager
def started(name: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Start the load ``name`` with pipes to its standard input and output, for works that control it while it runs.

    If it has not ended at the end of the block, it is killed. ``ended`` tells whether it succeeded.
    """
    process = subprocess.Popen(
        ["taskset", "--cpu-list", str(LOAD_CORE), sys.executable, "-m", f"{__name__}.{name}", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait until the load has ended and return the JSON that it printed last. Raises LoadError if it failed."""
    try:
        printed, errors = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise LoadError(f"the load has not ended after {PATIENCE:.0f} seconds") from None
    if process.returncode:
        lines = errors.strip().splitlines()
        raise LoadError(lines[-1] if lines else f"the load ended with status {process.returncode}")
    found = orjson.loads(printed.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def run(name: str, *arguments: object) -> dict[str, Any]:
    """Run the load ``name`` until it ends and return what it printed. Raises LoadError if it failed."""
    with started(name, *arguments) as process:
        return ended(process)
