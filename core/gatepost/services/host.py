"""The host: what a plugin sees of the process that it runs in, its log and the server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol


class Log(Protocol):
    """What a plugin gets when its constructor asks for ``log``: structured lines that bear its name."""

    def info(self, event: str, **facts: object) -> None:
        """What an administrator may want to know."""

    def warning(self, event: str, **facts: object) -> None:
        """What an administrator should look at."""

    def error(self, event: str, **facts: object) -> None:
        """What does not work."""


class NullLog:
    """A log that keeps nothing, for policies that are only looked at."""

    __slots__ = ()

    def info(self, event: str, **facts: object) -> None:
        """Forget it."""

    def warning(self, event: str, **facts: object) -> None:
        """Forget it."""

    def error(self, event: str, **facts: object) -> None:
        """Forget it."""


class Server(Protocol):
    """What the ``startup`` and ``shutdown`` hooks see of the process."""

    hostname: str

    def every(self, seconds: float, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``job()`` every ``seconds`` until the server stops. An error is logged and does not end the series."""
