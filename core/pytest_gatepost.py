"""The pytest plugin of gatepost's test kit: the fixtures ``policy`` and ``server``, and dialogue files (``*.smtp``).

pytest imports it at every start, so it stands beside the package, not in it, and imports gatepost only when a test uses
a fixture or a dialogue file is collected. Otherwise lines of gatepost would run before coverage is measured, and every
test run in this environment would pay for the import.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gatepost.testing import Policy, Server


@pytest.fixture
def policy() -> Iterator[Callable[..., Policy]]:
    """Return the maker of policies, ``gatepost.testing.Policy``. A DNS question without a script fails the test,
    and so does an exception of a plugin.
    """
    from gatepost.testing import Policy

    made: list[Policy] = []

    def make(*plugins: Any, **settings: Any) -> Policy:
        made.append(Policy(*plugins, **settings))
        return made[-1]

    yield make
    for each in made:
        each.check()


@pytest.fixture
def server() -> type[Server]:
    """Return the maker of servers, ``gatepost.testing.Server``: ``async with server(…) as live``."""
    from gatepost.testing import Server

    return Server


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect a dialogue file."""
    if file_path.suffix != ".smtp":
        return None
    from gatepost.testing.collecting import DialogueFile

    collected: pytest.Collector = DialogueFile.from_parent(parent, path=file_path)
    return collected
