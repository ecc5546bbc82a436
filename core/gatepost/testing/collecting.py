"""Dialogue files as tests of pytest: each is played without sockets and through the real door.

Imported when the first such file is found. How a dialogue is written stands in ``dialogue``.
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
    """One ``*.smtp`` file."""

    def collect(self) -> Iterator[pytest.Item]:
        """A test for each driver that can play it."""
        try:
            dialogue = Dialogue.read(self.path)
        except DialogueSyntaxError as error:
            raise self.CollectError(str(error)) from None
        for driver in dialogue.drivers:
            yield DialogueItem.from_parent(self, name=driver, dialogue=dialogue, driver=driver)


class DialogueItem(pytest.Item):
    """One dialogue with one driver."""

    def __init__(self, *, dialogue: Dialogue, driver: Driver, **known: Any) -> None:
        super().__init__(**known)
        self._dialogue = dialogue
        self._driver = driver

    def runtest(self) -> None:
        """Play it in a loop of its own: the door's is the one that servers run on."""
        factory = uvloop.new_event_loop if self._driver == "door" else None
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(self._dialogue.play(self._driver))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The difference alone, without the kit's own frames."""
        if isinstance(excinfo.value, DifferenceError | GatepostError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it is and what it is called."""
        return self.path, 0, f"{self.path.name}, {self._driver}"
