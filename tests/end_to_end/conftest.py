"""Fixtures of the tests of the whole server."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.end_to_end.gate import LOOPBACK, Gate, configuration

StartGate = Callable[..., Gate]


@pytest.fixture
def start_gate(tmp_path: Path) -> Iterator[StartGate]:
    """Return a function that starts a server with the given policy (TOML), which is stopped cleanly at the end."""
    with contextlib.ExitStack() as gates:

        def start(policy: str, listen: Sequence[str] = LOOPBACK) -> Gate:
            return gates.enter_context(Gate(tmp_path, configuration(tmp_path, policy, listen)))

        yield start
