"""The tests that run a line: known from one run of the suite under coverage, and kept until the sources change."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path

import coverage

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".bench" / "mutation"
SUITE = ("tests/core", "tests/wire", "tests/plugins_builtin")
"""The tests that are run against mutants. The others start processes of their own, in which coverage sees nothing."""
SOURCES = ("core/gatepost", "plugins_builtin/gatepost_builtin")


class Suite:
    """The tests by the lines that they run, and the seconds that each takes."""

    def __init__(self, covered: coverage.CoverageData, seconds: dict[str, float]) -> None:
        self._covered = covered
        self._seconds = seconds

    def tests_of(self, path: str, lines: Iterable[int]) -> list[str]:
        """Return the tests that run one of these lines, the quickest first; without any, those that use the module."""
        by_line = self._covered.contexts_by_lineno(str(ROOT / path))
        found = {test for line in lines for test in _tests(by_line.get(line, ()))}
        if not found:
            found = {test for contexts in by_line.values() for test in _tests(contexts)}
        return sorted(found, key=lambda test: (self.seconds(test), test))

    def seconds(self, test: str) -> float:
        """Return the time that a test took, with all its parameters."""
        return self._seconds.get(test, 1.0)


def _tests(contexts: Iterable[str]) -> Iterator[str]:
    for context in contexts:
        if context:
            yield context.partition("|")[0].partition("[")[0]


def learn(python: str = sys.executable) -> Suite:
    """Return what is known of the suite; run it first if the sources or tests have changed since."""
    data, times, stamp = (KEPT / name for name in ("coverage", "times.xml", "stamp"))
    now = _stamp()
    if not stamp.exists() or stamp.read_text() != now:
        KEPT.mkdir(parents=True, exist_ok=True)
        run = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "auto", "--dist", "worksteal"]
        sources = [f"--cov={source}" for source in SOURCES]
        options = ["--cov-context=test", "--cov-report=", f"--junitxml={times}", "-o", "junit_family=xunit1"]
        subprocess.run(
            [*run, *sources, *options, *SUITE], cwd=ROOT, env={**os.environ, "COVERAGE_FILE": str(data)}, check=True
        )
        stamp.write_text(now)
    covered = coverage.CoverageData(str(data))
    covered.read()
    return Suite(covered, _times(times))


def _times(report: Path) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        name = f"{case.get('file')}::{case.get('name', '').partition('[')[0]}"
        seconds[name] = seconds.get(name, 0.0) + float(case.get("time", 0))
    return seconds


def _stamp() -> str:
    digest = hashlib.sha256()
    for folder in (*SOURCES, "tests"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
