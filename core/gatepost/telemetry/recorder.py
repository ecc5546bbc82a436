"""Recorders that need no server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatepost.telemetry.record import Record


class Hush:
    """A log and recorder that keeps nothing."""

    def info(self, event: str, **facts: object) -> None:
        """Forget it."""

    def warning(self, event: str, **facts: object) -> None:
        """Forget it."""

    def error(self, event: str, **facts: object) -> None:
        """Forget it."""

    def keeps(self, event: str) -> bool:
        """Nothing is kept."""
        return False

    def record(self, record: Record) -> None:
        """Forget it."""

    def event(self, name: str, level: str = "info", **facts: object) -> None:
        """Forget it."""
