"""The log: lines for people on a terminal, a JSON object a line otherwise.

Whatever a client said is escaped, so it cannot begin a new line, move a cursor, or pass for another field. A line costs
its sender some microseconds and never waits: a thread writes. When nobody reads, lines are lost and counted.

structlog makes the lines, and this is the only module that imports it. Nothing of the process's logging is configured,
except by ``adopt``.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import orjson
import structlog
from structlog.processors import JSONRenderer

from gatepost import events
from gatepost.config import Log as LogSettings
from gatepost.events import Event, Level
from gatepost.telemetry.batches import Batches
from gatepost.telemetry.record import Record

STDERR = 2
BOUND = 20_000
"""Lines that may wait to be written."""
PAUSE = 0.01
"""Seconds that a batch of lines grows, so that a thread is not woken for each."""
RECIPIENTS_SHOWN = 10
"""Recipients that a line names; ``recipient_count`` says how many there are."""
LONGEST_TEXT = 2000
"""Characters of one fact."""

DIM = "2"
COLOURS = {"debug": DIM, "info": "32", "warning": "33", "error": "1;31"}
"""How a level looks on a terminal (ECMA-48 §8.3.117)."""

Facts = MutableMapping[str, Any]
_PLAIN = re.compile(r"[^\s=\",]+")


class EventLog:
    """Lines of events and records. ``write`` gets octets, whole lines, in a thread of the log's own."""

    def __init__(self, write: Callable[[bytes], object], *, human: bool, colours: bool = False, level: str = "info"):
        self._batches: Batches[bytes] = Batches(
            lambda lines: write(b"".join(lines)), name="gatepost-log", bound=BOUND, pause=PAUSE
        )
        self._unsaid = 0
        self.says_info = logging.getLevelName(level.upper()) <= logging.INFO
        """True when records are written, whose lines are of that level."""
        self._logger = structlog.wrap_logger(
            structlog.BytesLogger(_Lines(self._batches)),  # type: ignore[arg-type]
            processors=_human_lines(colours) if human else _json_lines(),
            wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        ).bind()
        self._adopting = _Adopting(self)

    def event(self, event: Event, /, **facts: object) -> None:
        """Write the line of an event. Never blocks, never raises."""
        self.line(event.name, event.level, facts)

    def line(self, name: str, level: Level, facts: Mapping[str, object]) -> None:
        """Write a line. Never blocks, never raises."""
        try:
            getattr(self._logger, level)(name, **facts)
        except Exception:  # a fact that cannot even be described: the line is lost, the session goes on
            self._unsaid += 1

    def record(self, record: Record) -> None:
        """Write the line of a refusal, a message or a session's end. Never blocks, never raises."""
        if self.says_info:
            self.line(record.event, "info", line_of(record))

    def plugin(self, name: str) -> PluginLog:
        """The log of the plugin ``name``."""
        return PluginLog(self, name)

    def adopt(self) -> None:
        """Take the lines of libraries such as asyncio, which use the standard library's logging."""
        logging.root.addHandler(self._adopting)

    @property
    def lost(self) -> int:
        """Lines that were never written."""
        return self._batches.lost + self._unsaid

    def close(self) -> None:
        """Write what waits."""
        logging.root.removeHandler(self._adopting)
        self._batches.close()


class PluginLog:
    """What a plugin gets as ``log``: lines that bear its name."""

    __slots__ = ("_log", "_name")

    def __init__(self, log: EventLog, name: str) -> None:
        self._log = log
        self._name = name

    def info(self, event: str, **facts: object) -> None:
        """What an administrator may want to know."""
        self._write(event, "info", facts)

    def warning(self, event: str, **facts: object) -> None:
        """What an administrator should look at."""
        self._write(event, "warning", facts)

    def error(self, event: str, **facts: object) -> None:
        """What does not work."""
        self._write(event, "error", facts)

    def _write(self, event: str, level: Level, facts: dict[str, object]) -> None:
        self._log.line(event, level, {**facts, "plugin": self._name})


def open_log(settings: LogSettings) -> EventLog:
    """The log that the configuration wants, on standard error."""
    is_terminal = os.isatty(STDERR)
    human = settings.format == "human" or (settings.format == "auto" and is_terminal)
    colours = is_terminal and "NO_COLOR" not in os.environ
    return EventLog(write_to_stderr, human=human, colours=colours, level=settings.level)


def write_to_stderr(octets: bytes) -> None:
    """Write all of it. Raises ``OSError`` when nobody reads any more."""
    while octets:
        octets = octets[os.write(STDERR, octets) :]


def line_of(record: Record) -> dict[str, Any]:
    """What the log says of a record. What there is not is left out; a sender of "" is the null reverse-path."""
    facts: dict[str, Any] = {
        "client": record.client,
        "helo": record.helo or None,
        "sender": record.sender,
        "recipients": list(record.recipients[:RECIPIENTS_SHOWN]) or None,
        "recipient_count": len(record.recipients) or None,
        "phase": record.phase,
        "outcome": record.reply or None,
        "plugin": record.plugin or None,
        # The end of a session is no decision: there is nothing to explain.
        "id": record.id if record.event != events.DISCONNECTED.name else None,
        "session": record.session,
        "size": record.size or None,
        "seconds": round(record.seconds, 3),
        "trusted": record.trusted or None,
    }
    return {name: value for name, value in facts.items() if value is not None}


def escaped(text: str) -> str:
    """``text`` for a terminal: control characters, line ends, bidirectional overrides and lone surrogates are escaped.

    What Unicode calls printable stays. Backslashes are doubled, so that an escape cannot be feigned.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        character
        if character.isprintable() and character != "\\"
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def json_line(value: object, **options: Any) -> bytes:
    """``value`` as JSON in UTF-8, whatever is in it; characters that a terminal would obey are escaped there too."""
    try:
        octets = orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:  # a lone surrogate, or a number too large
        return json.dumps(_describable(value)).encode()
    if octets.isascii() and b"\x7f" not in octets:
        return octets
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1].replace("\x7f", "\\u007f")
        for character in octets.decode()
    ).encode()


def _describable(value: object) -> object:
    """``value`` with nothing in it that the standard library's JSON does not know."""
    match value:
        case dict():
            return {str(key): _describable(part) for key, part in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_describable(part) for part in value]
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case int() | None:
            return value
        case float():
            return value if isfinite(value) else None
    return repr(value)


class _Adopting(logging.Handler):
    """Makes events of what libraries give to the standard library's logging."""

    def __init__(self, log: EventLog) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line. Never blocks."""
        facts = {"library": record.name, "text": record.getMessage()}
        if record.exc_info:
            facts["error"] = repr(record.exc_info[1])
        if record.levelno >= logging.ERROR:
            self._log.event(events.LIBRARY_ERROR, **facts)
        else:
            self._log.event(events.LIBRARY_WARNING, **facts)


class _Lines:
    """The file that structlog writes to."""

    __slots__ = ("__weakref__", "write")  # structlog refers to it weakly

    def __init__(self, batches: Batches[bytes]) -> None:
        self.write = batches.put

    def flush(self) -> None:
        """Nothing waits here."""


def _json_lines() -> list[Any]:
    return [_headed, JSONRenderer(serializer=json_line)]


def _human_lines(colours: bool) -> list[Any]:
    def line(logger: object, method: str, facts: Facts) -> bytes:
        time, level, event, *rest = facts.items()
        parts = [f"{_painted(name, DIM, colours)}={_quoted(value)}" for name, value in rest]
        head = (time[1], _painted(f"{level[1]:<7}", COLOURS.get(method, ""), colours), f"{escaped(str(event[1])):<12}")
        return " ".join((*head, *parts)).encode()

    return [_headed, line]


def _painted(text: str, style: str, colours: bool) -> str:
    return f"\x1b[{style}m{escaped(text)}\x1b[0m" if colours and style else escaped(text)


def _headed(logger: object, method: str, facts: Facts) -> Facts:
    """The facts behind time, level and event, which no fact can take the place of; long texts are cut."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = {"timestamp": now, "level": method, "event": facts["event"]}
    for name, value in facts.items():
        if type(value) is str and len(value) > LONGEST_TEXT:
            facts[name] = value[:LONGEST_TEXT] + "…"
    return {**head, **facts, **head}


def _quoted(value: object) -> str:
    """A value that cannot pass for another field: in quotation marks as soon as there is room for doubt."""
    if isinstance(value, list | tuple):
        return ",".join(map(_quoted, value))
    text = escaped(f"{value:g}" if isinstance(value, float) else str(value))
    if text and _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace('"', '\\"') + '"'
