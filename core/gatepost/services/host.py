"""The interfaces of the process in which plugins run: its log and its server."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol


class Log(Protocol):
    """The service that a plugin gets as ``log``: structured lines under its name."""

    def info(self, event: str, **facts: object) -> None:
        """Log an event that administrators may want to know of."""

    def warning(self, event: str, **facts: object) -> None:
        """Log an event that administrators should look into."""

    def error(self, event: str, **facts: object) -> None:
        """Log an event that keeps something from working."""


class NullLog:
    """A log that drops everything, for policies that are only inspected."""

    __slots__ = ()

    def info(self, event: str, **facts: object) -> None:
        """Do nothing."""

    def warning(self, event: str, **facts: object) -> None:
        """Do nothing."""

    def error(self, event: str, **facts: object) -> None:
        """Do nothing."""


class Server(Protocol):
    """The server as the ``startup`` and ``shutdown`` hooks see it."""

    hostname: str

    def every(self, seconds: float, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``job()`` every ``seconds`` until the server stops. An error is logged and does not stop it."""
