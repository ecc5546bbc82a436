"""Events: what the server tells its administrator besides mail, and the protocol of whoever keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from gatepost.telemetry import Record


class Recorder(Protocol):
    """Where records and other events go: the log and the journal in a server, a list in tests."""

    def keeps(self, event: str) -> bool:
        """False when records of ``event`` would be thrown away, so that they need not be made."""

    def record(self, record: Record) -> None:
        """Keep one record. Never blocks, never raises."""

    def event(self, name: str, level: str = "info", **facts: object) -> None:
        """Say that something happened that is no ruling: a plugin failed, a circuit opened."""
