"""Records, events and the log of plugins, kept for a test to inspect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from gatepost import events
from gatepost.errors import DNSTemporaryError, NextHopError, SpoolError, StoreError
from gatepost.telemetry import Record
from gatepost.testing.dns import UnscriptedQuestionError

SERVICE_FAILURES = (DNSTemporaryError, StoreError, SpoolError, NextHopError, UnscriptedQuestionError)
"""Errors of services, which happen because the test wants them to, or are raised by the scripted DNS itself."""


class PluginFailedError(AssertionError):
    """A plugin has raised an exception, which is its cause."""


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the log, written by the core or by the plugin ``source``."""

    name: str
    level: str = "info"
    facts: dict[str, object] = field(default_factory=dict)
    source: str = "gatepost"


class Events:
    """A sequence of events, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def __repr__(self) -> str:
        return repr(self.events)

    def named(self, name: str) -> list[dict[str, object]]:
        """Return the facts of all events with this name."""
        return [event.facts for event in self.events if event.name == name]

    @property
    def warnings(self) -> list[Event]:
        """The warnings and errors."""
        return [event for event in self.events if event.level in {"warning", "error"}]


class GateEvents(Events):
    """The recorder of a policy under test: keeps records and events."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Record] = []
        self._unexpected: list[tuple[str, BaseException]] = []

    def keeps(self, event: events.Event) -> bool:
        """Return True: all records are kept."""
        return True

    def record(self, record: Record) -> None:
        """Keep a record."""
        self.records.append(record)

    def event(self, event: events.Event, /, **facts: object) -> None:
        """Keep an event. The exceptions of plugins are kept for ``check``."""
        if event is not events.PLUGIN_TRACEBACK:
            self.events.append(Event(event.name, event.level, facts))
        elif isinstance(error := facts["traceback"], BaseException) and not isinstance(error, SERVICE_FAILURES):
            self._unexpected.append((f"{facts['plugin']} failed at {facts.get('phase', 'a job')}", error))

    def check(self) -> None:
        """Raise ``PluginFailedError`` for exceptions of plugins since the last call."""
        unexpected, self._unexpected = self._unexpected, []
        for what, error in unexpected:
            raise PluginFailedError(
                f"{what}: {type(error).__name__}: {error}\n"
                'If the test is about that, say policy(…, failures="expected")'
            ) from error


class PluginLog:
    """The ``log`` service of the plugin ``name``. It adds events to ``lines``."""

    def __init__(self, lines: Events, name: str) -> None:
        self._lines = lines
        self._name = name

    def info(self, event: str, **facts: object) -> None:
        """Keep an event."""
        self._keep(event, "info", facts)

    def warning(self, event: str, **facts: object) -> None:
        """Keep a warning."""
        self._keep(event, "warning", facts)

    def error(self, event: str, **facts: object) -> None:
        """Keep an error."""
        self._keep(event, "error", facts)

    def _keep(self, event: str, level: str, facts: dict[str, object]) -> None:
        self._lines.events.append(Event(event, level, facts, self._name))
