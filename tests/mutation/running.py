"""Running tests against mutants, each worker in a copy of the repository of its own."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.mutation.choosing import ROOT, Suite
from tests.mutation.mutants import Mutant

SECONDS = 40.0
"""The time of the tests that are run for a mutant: of more, the quickest are chosen."""
STARTING = 30.0
"""Seconds that pytest may take besides. A mutant that makes tests hang is noticed by that."""
SLOWER = 3.0
"""The factor by which tests may be slower than when they were timed."""


@dataclass(frozen=True, slots=True)
class Result:
    """The fate of a mutant: whether a test noticed it, and how many were run."""

    mutant: Mutant
    noticed: bool
    tests: int


def run_all(
    mutants: Sequence[Mutant], suite: Suite, workers: int, until: float, done: Callable[[Result], None]
) -> list[Result]:
    """Run the tests of each mutant, until ``until`` (of ``time.monotonic``), and call ``done`` with each result."""
    waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    for mutant in mutants:
        waiting.put(mutant)
    results: list[Result] = []

    def work() -> None:
        with _copy() as copy:
            while time.monotonic() < until:
                try:
                    mutant = waiting.get_nowait()
                except queue.Empty:
                    return
                result = _run(copy, mutant, _choose(suite, mutant), suite)
                results.append(result)
                done(result)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _choose(suite: Suite, mutant: Mutant) -> list[str]:
    lines = range(mutant.line, mutant.line + mutant.old.count("\n") + 1)
    chosen: list[str] = []
    seconds = 0.0
    for test in suite.tests_of(mutant.path, lines):
        seconds += suite.seconds(test)
        if chosen and seconds > SECONDS:
            break
        chosen.append(test)
    return chosen


def _run(copy: Path, mutant: Mutant, tests: list[str], suite: Suite) -> Result:
    if not tests:
        return Result(mutant, noticed=False, tests=0)
    file = copy / mutant.path
    source = file.read_text()
    limit = STARTING + SLOWER * sum(map(suite.seconds, tests))
    file.write_text(mutant.apply(source))
    try:
        noticed = _fails(copy, tests, limit)
    finally:
        file.write_text(source)
    return Result(mutant, noticed, len(tests))


def _fails(copy: Path, tests: list[str], limit: float) -> bool:
    chosen = copy / "chosen"
    chosen.write_text("\n".join(tests))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "--tb=no",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:cov",
        f"@{chosen}",
    ]
    path = f"{copy / 'core'}:{copy / 'plugins_builtin'}"
    process = subprocess.Popen(
        command,
        cwd=copy,
        env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(limit) != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with servers that its tests have left behind
        process.wait()


@contextmanager
def _copy() -> Iterator[Path]:
    """Make a copy of what git knows of, as it is now."""
    with tempfile.TemporaryDirectory(prefix="gatepost-mutation-") as folder:
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in names.split("\0"):
            if name and (ROOT / name).is_file():
                target = Path(folder, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)
        yield Path(folder)
