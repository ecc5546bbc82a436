"""Dialogue files as pytest tests: each is played without sockets and through the real SMTP door.

``pytest_gatepost`` imports this when it finds the first such file. ``dialogue`` describes the format.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gatepost.errors import GatepostError
from gatepost.testing.dialogue import Dialogue, DialogueSyntaxError, DifferenceError, Driver


class DialogueFile(pytest.File):
    """A ``*.smtp`` file."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield a test for each driver that can play the dialogue."""
        try:
            dialogue = Dialogue.read(self.path)
        except DialogueSyntaxError as error:
            raise self.CollectError(str(error)) from None
        for driver in dialogue.drivers:
            yield DialogueItem.from_parent(self, name=driver, dialogue=dialogue, driver=driver)


class DialogueItem(pytest.Item):
    """A dialogue played by one driver."""

    def __init__(self, *, dialogue: Dialogue, driver: Driver, **known: Any) -> None:
        super().__init__(**known)
        self._dialogue = dialogue
        self._driver = driver

    def runtest(self) -> None:
        """Play it in an event loop of its own; through the door in uvloop, as a server does."""
        factory = uvloop.new_event_loop if self._driver == "door" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(self._dialogue.play(self._driver))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the difference without the traceback, which only has frames of the kit."""
        if isinstance(excinfo.value, DifferenceError | GatepostError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return the file and the title of the test."""
        return self.path, 0, f"{self.path.name}, {self._driver}"
