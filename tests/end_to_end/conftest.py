"""What the tests of the whole server share: a server on a configuration, which ends with its test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.end_to_end.gate import LOOPBACK, Gate, configuration

StartGate = Callable[..., Gate]


@pytest.fixture
def start_gate(tmp_path: Path) -> Iterator[StartGate]:
    """Return a function of a policy (TOML) that starts a server, which is stopped in good order at the end."""
    with contextlib.ExitStack() as gates:

        def start(policy: str, listen: Sequence[str] = LOOPBACK) -> Gate:
            return gates.enter_context(Gate(tmp_path, configuration(tmp_path, policy, listen)))

        yield start
