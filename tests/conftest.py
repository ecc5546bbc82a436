"""Fixtures of all tests: real peers, started for one test.

A test whose peer is not installed fails if the variable ``CI`` is set. Otherwise it is skipped, and the reason says
what to install.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping

import pytest
from hypothesis import HealthCheck, settings

from tests.peers import postfix as postfix_peer
from tests.peers import rbldnsd as rbldnsd_peer
from tests.peers.postfix import Postfix
from tests.peers.rbldnsd import Rbldnsd

# How long an example takes says nothing about the code when other processes keep the machine busy.
settings.register_profile("gatepost", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gatepost")


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
def start_rbldnsd() -> Iterator[Callable[[Mapping[str, Mapping[str, str]]], Rbldnsd]]:
    """Return a function that starts an rbldnsd with the given zones, which runs until the test ends."""
    _require(rbldnsd_peer.missing())
    with contextlib.ExitStack() as peers:
        yield lambda zones: peers.enter_context(Rbldnsd(zones))
