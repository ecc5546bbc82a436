"""The log: lines for people on a terminal, one JSON object a line otherwise.

Text that a client sent is escaped, so it cannot begin a new line, move a cursor, or pass for another field. A line
costs its sender some microseconds and never makes it wait: a thread writes. When nobody reads, lines are lost and
counted.

The process's own logging is left alone, except by ``EventLog.adopt``.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
import traceback
from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING

import orjson

from gatepost import events
from gatepost.events import Event, Level
from gatepost.telemetry.batches import Batches

if TYPE_CHECKING:
    from collections.abc import Callable

    from gatepost.config import Log as LogSettings
    from gatepost.telemetry.record import Record

STDERR = 2
BOUND = 20_000
"""Lines that may wait to be written."""
PAUSE = 0.01
"""Seconds for which a batch of lines grows, so that the thread does not wake up for each."""
LONGEST_TEXT = 2000
"""Characters of one fact."""
DEEPEST = 20
"""Innermost frames of a traceback."""

LEVELS = ("debug", "info", "warning", "error")
"""The levels that ``[log] level`` may name; nothing is logged at the first."""
DIM = "2"
COLOURS = {"info": "32", "warning": "33", "error": "1;31"}
"""How a level looks on a terminal (ECMA-48 §8.3.117)."""

_DISCONNECTED = events.DISCONNECTED.name
_PLAIN = re.compile(r"[^\s=\",]+")


class EventLog:
    """Writes the lines of events and records. ``write`` gets octets, whole lines, in a thread of the log's own."""

    def __init__(self, write: Callable[[bytes], object], *, human: bool, colours: bool = False, level: str = "info"):
        self._batches: Batches[bytes] = Batches(
            lambda lines: write(b"\n".join([*lines, b""])), name="gatepost-log", bound=BOUND, pause=PAUSE
        )
        self._human = human
        self._colours = colours
        self._levels = frozenset(LEVELS[LEVELS.index(level) :])
        self.says_info = "info" in self._levels
        """True when records are written, whose lines are of that level."""
        self._undescribable = 0
        self._second, self._seconds = 0, ""
        self._libraries = _LibraryHandler(self)

    def event(self, event: Event, /, **facts: object) -> None:
        """Write the line of an event; an exception becomes its traceback. Never blocks, never raises."""
        if event.level == "debug" and event.level in self._levels:
            facts = {name: _traceback_of(fact) for name, fact in facts.items()}
        self.line(event.name, event.level, facts)

    def record(self, record: Record) -> None:
        """Write the line of a refusal, a message or a session's end. Never blocks, never raises."""
        if self.says_info:
            line: dict[str, object] = {"timestamp": self._timestamp(), "level": "info", "event": record.event}
            add_facts(line, record)
            self._put(line)

    def line(self, name: str, level: Level, facts: Mapping[str, object]) -> None:
        """Write a line. Never blocks, never raises."""
        if level not in self._levels:
            return
        # The head stands first, and no fact can take its place.
        head = {"timestamp": self._timestamp(), "level": level, "event": name}
        self._put({**head, **facts, **head})

    def _timestamp(self) -> str:
        """Return the time in UTC to the millisecond. Its seconds are written out once for all lines in them."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second, self._seconds = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._seconds}.{int((now - second) * 1000):03}Z"

    def _put(self, line: dict[str, object]) -> None:
        try:
            octets = self._written(line)
            if len(octets) > LONGEST_TEXT:  # else no text in it can be longer
                octets = self._written({fact: _shortened(value) for fact, value in line.items()})
            self._batches.put(octets)
        except Exception:  # a fact that cannot even be described: its line is lost, the session goes on
            self._undescribable += 1

    def _written(self, line: dict[str, object]) -> bytes:
        return human_line(line, self._colours) if self._human else json_line(line)

    def plugin(self, name: str) -> PluginLog:
        """Return the log of the plugin ``name``."""
        return PluginLog(self, name)

    def adopt(self) -> None:
        """Write what libraries such as asyncio log with the standard library's logging, until ``close``."""
        logging.root.addHandler(self._libraries)

    @property
    def lost(self) -> int:
        """The number of lines that were never written."""
        return self._batches.lost + self._undescribable

    def close(self) -> None:
        """Write what waits."""
        logging.root.removeHandler(self._libraries)
        self._batches.close()


class PluginLog:
    """The ``log`` of a plugin: its lines bear the plugin's name."""

    __slots__ = ("_log", "_name")

    def __init__(self, log: EventLog, name: str) -> None:
        self._log = log
        self._name = name

    def info(self, event: str, **facts: object) -> None:
        """Log something that an administrator may want to know."""
        self._log.line(event, "info", {**facts, "plugin": self._name})

    def warning(self, event: str, **facts: object) -> None:
        """Log something that an administrator should look at."""
        self._log.line(event, "warning", {**facts, "plugin": self._name})

    def error(self, event: str, **facts: object) -> None:
        """Log something that does not work."""
        self._log.line(event, "error", {**facts, "plugin": self._name})


class _LibraryHandler(logging.Handler):
    """Makes events of what libraries log with the standard library's logging."""

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


def _traceback_of(fact: object) -> object:
    """Return the last part of an exception's traceback as text; anything else as it is."""
    if not isinstance(fact, BaseException):
        return fact
    try:
        text = "".join(traceback.format_exception(fact, limit=-DEEPEST))
    except Exception as error:  # the exception's own code fails
        return f"{type(fact).__name__}, which cannot be shown: {type(error).__name__}"
    return text if len(text) <= LONGEST_TEXT else "…" + text[1 - LONGEST_TEXT :]


def open_log(settings: LogSettings) -> EventLog:
    """Return the log that the configuration wants, on standard error."""
    is_terminal = os.isatty(STDERR)
    human = settings.format == "human" or (settings.format == "auto" and is_terminal)
    colours = is_terminal and "NO_COLOR" not in os.environ
    return EventLog(write_to_stderr, human=human, colours=colours, level=settings.level)


def write_to_stderr(octets: bytes) -> None:
    """Write all of it. Raises ``OSError`` when nobody reads any more."""
    while octets:
        octets = octets[os.write(STDERR, octets) :]


def add_facts(line: dict[str, object], record: Record) -> None:
    """Add the facts of a record to its line. Those without a value are left out; a sender of "" is the null path."""
    line["client"] = record.client
    if record.helo:
        line["helo"] = record.helo
    if record.sender is not None:
        line["sender"] = record.sender
    if record.recipients:
        line["recipients"] = record.recipients
    if record.recipient_count:
        line["recipient_count"] = record.recipient_count
    _add_outcome(line, record)


def _add_outcome(line: dict[str, object], record: Record) -> None:
    line["phase"] = record.phase
    if record.reply:
        line["outcome"] = record.reply
    if record.plugin:
        line["plugin"] = record.plugin
    if record.event != _DISCONNECTED:  # the end of a session is no decision: there is nothing to explain
        line["id"] = record.id
    line["session"] = record.session
    if record.size:
        line["size"] = record.size
    line["seconds"] = round(record.seconds, 3)
    if record.trusted:
        line["trusted"] = record.trusted
    if record.next_hop:
        line["next_hop"] = record.next_hop
    if record.failed_next_hops:
        line["failed_next_hops"] = record.failed_next_hops


def _shortened(value: object) -> object:
    return value[:LONGEST_TEXT] + "…" if type(value) is str and len(value) > LONGEST_TEXT else value


def human_line(line: Mapping[str, object], colours: bool) -> bytes:
    """Return a line for people: time, level and event, then ``name=value`` for each fact."""

    def painted(text: str, style: str) -> str:
        return f"\x1b[{style}m{escaped(text)}\x1b[0m" if colours else escaped(text)

    (_, time), (_, level), (_, event), *facts = line.items()
    head = (str(time), painted(f"{level:<7}", COLOURS[str(level)]), f"{escaped(str(event)):<12}")
    return " ".join((*head, *(f"{painted(name, DIM)}={_quoted(value)}" for name, value in facts))).encode()


def _quoted(value: object) -> str:
    """Return a value that cannot pass for another field: in quotation marks as soon as there is room for doubt."""
    if isinstance(value, list | tuple):
        return ",".join(map(_quoted, value))
    text = escaped(f"{value:g}" if isinstance(value, float) else str(value))
    if text and _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def escaped(text: str) -> str:
    """Return ``text`` for a terminal.

    Control characters, line ends, bidirectional overrides and lone surrogates are escaped; characters that Unicode
    calls printable stay. Backslashes are doubled, so that an escape cannot be feigned.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        character
        if character.isprintable() and character != "\\"
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def json_line(value: object) -> bytes:
    """Return ``value`` as JSON in UTF-8, whatever is in it. Characters that a terminal would obey are escaped."""
    try:
        octets = orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS)
    except orjson.JSONEncodeError:  # a lone surrogate, or a number too large
        return json.dumps(_describable(value)).encode()
    if octets.isascii() and b"\x7f" not in octets:  # orjson escapes the other control characters itself
        return octets
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1].replace("\x7f", "\\u007f")
        for character in octets.decode()
    ).encode()


def _describable(value: object) -> object:
    """Return ``value`` without anything that the standard library's JSON does not know."""
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
