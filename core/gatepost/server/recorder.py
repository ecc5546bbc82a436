"""The recorder of a server: all events go to the log, and those that ``gatepost explain`` shows also to the journal."""

from __future__ import annotations

from gatepost import events
from gatepost.config import Config
from gatepost.events import Event
from gatepost.services.host import Log
from gatepost.telemetry import KEPT, EventLog, Journal, Record, open_log


class ServerRecorder:
    """The log and the journal that the configuration asks for. The log works at once, the journal from ``open`` on."""

    def __init__(self, config: Config, log: EventLog | None = None) -> None:
        self.log = log or open_log(config.log)
        self.log.adopt()
        journal = config.journal
        self._journal = (
            Journal(
                journal.path,
                journal.keep,
                journal.size,
                journal.age,
                on_failure=lambda why: self.event(events.JOURNAL_FAILED, error=why),
                on_loss=lambda number: self.event(events.RECORDS_LOST, number=number),
                on_replaced=lambda why: self.event(events.JOURNAL_REPLACED, path=str(journal.path), error=why),
            )
            if journal.enabled
            else None
        )

    def open(self) -> None:
        """Open the journal. Raises ``StoreError`` with a sentence for the administrator."""
        if self._journal is not None:
            self._journal.open()

    def keeps(self, event: Event) -> bool:
        """Return True when the log or the journal keeps records of ``event``."""
        return self.log.says_info or (self._journal is not None and event.name in KEPT)

    def record(self, record: Record) -> None:
        """Keep one record. Never blocks, never raises."""
        self.log.record(record)
        if self._journal is not None:
            self._journal.put(record)

    def event(self, event: Event, /, **facts: object) -> None:
        """Log ``event``."""
        self.log.event(event, **facts)

    def plugin_log(self, name: str) -> Log:
        """Return the log of the plugin instance ``name``."""
        return self.log.plugin(name)

    def close(self) -> None:
        """Write what is still queued, and close both."""
        if self._journal is not None:
            self._journal.close()
        self.log.close()
