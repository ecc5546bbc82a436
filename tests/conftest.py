"""Fixtures and options of all tests: real peers, started for one test; the effort of properties; ``--at-least``.

A test whose peer is not installed fails if the variable ``CI`` is set. Otherwise it is skipped, and the reason says
what to install.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.peers import dovecot as dovecot_peer
from tests.peers import postfix as postfix_peer
from tests.peers import rbldnsd as rbldnsd_peer
from tests.peers.dovecot import Dovecot
from tests.peers.postfix import Postfix
from tests.peers.rbldnsd import Rbldnsd
from tests.properties import register_profiles

register_profiles()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--at-least", type=Path, metavar="FILE", help="Fail when fewer tests run than this file says.")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run in which all is well but fewer tests ran than before: a selection that shrank by mistake."""
    kept: Path | None = session.config.getoption("--at-least")
    if kept is None or hasattr(session.config, "workerinput") or exitstatus != pytest.ExitCode.OK:
        return
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    # A skip counts, since it is chosen for each machine: no root, another Python.
    ran = sum(len(reporter.stats.get(outcome, ())) for outcome in ("passed", "skipped"))
    if ran < (least := int(kept.read_text())):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.section("too few tests", red=True)
        reporter.line(f"{ran} tests ran, and {kept} wants {least} or more. If fewer are meant, lower it there.")


def _require(reason: str | None) -> None:
    if reason and os.environ.get("CI"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


@pytest.fixture
def require_program() -> Callable[[str, str], str]:
    """Return a function that takes a program and its Debian package and returns the program's path."""

    def require(program: str, package: str) -> str:
        path = shutil.which(program)
        _require(None if path else f"{program} is not installed: apt-get install {package}")
        return str(path)

    return require


@pytest.fixture
def postfix() -> Iterator[Postfix]:
    """Return a running Postfix that only this test uses."""
    _require(postfix_peer.missing())
    with Postfix() as peer:
        yield peer


@pytest.fixture
def dovecot_of() -> type[Dovecot]:
    """Return the class of a real Dovecot, which is installed."""
    _require(dovecot_peer.missing())
    return Dovecot


@pytest.fixture
def start_rbldnsd() -> Iterator[Callable[[Mapping[str, Mapping[str, str]]], Rbldnsd]]:
    """Return a function that starts an rbldnsd with the given zones, which runs until the test ends."""
    _require(rbldnsd_peer.missing())
    with contextlib.ExitStack() as peers:
        yield lambda zones: peers.enter_context(Rbldnsd(zones))
