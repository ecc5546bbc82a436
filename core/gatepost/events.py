"""Events: every kind of line that gatepost itself writes to its log, and the protocol of what keeps them.

The log of an administrator is an interface: alerts and filters match its names. So each event is declared here once,
with its level, its meaning and its facts; code names the constant (``recorder.event(events.STALL, plugin=…)``), and the
manual's page is made from this list. A fact has the same meaning in every line, so facts are explained once too.

Plugins log lines of their own, which are not declared here. This module knows neither sessions nor files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

if TYPE_CHECKING:
    from gatepost.telemetry import Record

Level = Literal["debug", "info", "warning", "error"]
"""``debug``: for authors; ``info``: nothing to do; ``warning``: have a look; ``error``: something does not work."""


@dataclass(frozen=True, slots=True, eq=False)
class Event:
    """One kind of line in the log."""

    name: str
    level: Level
    meaning: str
    """One sentence for the administrator, in Markdown."""
    facts: tuple[str, ...] = ()
    """The names of what the line says besides, explained in ``FACTS``. A fact without a value is left out."""


class Recorder(Protocol):
    """The keeper of records and events: the log and the journal in a server, a list in tests.

    Its methods may be called in any thread; they never block and never raise.
    """

    def keeps(self, event: Event) -> bool:
        """Return False when records of ``event`` would be thrown away, so that they need not be made."""

    def record(self, record: Record) -> None:
        """Keep the record of an outcome."""

    def event(self, event: Event, /, **facts: object) -> None:
        """Report that ``event`` happened, with facts that it declares."""


class NullRecorder:
    """A recorder that keeps nothing, for rehearsals and for values that are used without a server."""

    __slots__ = ()

    def keeps(self, event: Event) -> bool:
        """Return False."""
        return False

    def record(self, record: Record) -> None:
        """Forget it."""

    def event(self, event: Event, /, **facts: object) -> None:
        """Forget it."""


NULL_RECORDER: Final = NullRecorder()


FACTS: Final[Mapping[str, str]] = {
    "client": "the client's address",
    "helo": "the name that the client gave in HELO or EHLO",
    "sender": "the reverse-path; empty for bounces",
    "recipients": "the first ten recipients",
    "recipient_count": "the number of recipients",
    "phase": "the phase of the session",
    "outcome": "the reply that the client got",
    "plugin": "the plugin that decided or failed; `score` and `gatepost` stand for the core",
    "answer": "the answer of the plugin, and what else it would have done",
    "id": "the id for `gatepost explain`, which the reply quotes too",
    "session": "the id of the session, the same in all its lines",
    "size": "the size of the message in octets",
    "seconds": "the time that the decision took; in `disconnected`, the time that the session has lasted",
    "trusted": "the reason why the client, the sender or a recipient was trusted; absent if no one was",
    "next_hop": "the next hop, as `forward` names it: the one that took the message, failed or is back",
    "failed_next_hops": "the next hops that were tried and did not take the message, each with its failure",
    "error": "the details of a failure",
    "listen": "the addresses that gatepost listens on",
    "clients": "the number of clients that gatepost holds at most",
    "order": "the plugins in their configured order",
    "state": "the folder of the store, the journal and the spool, unless configured otherwise",
    "advice": "a way to mend it",
    "keys": "the changed settings that only a restart takes up",
    "connected": "the number of clients still connected",
    "job": "the name of the plugin's function",
    "package": "the plugin's package",
    "version": "the version of that package",
    "reason": "a sentence for the plugin's author",
    "path": "the path of the file",
    "entries": "the number of entries in use",
    "found": "the number of entries in the changed file",
    "waiting": "the number of entries that wait to be written",
    "number": "the number of records that were lost since this was last reported",
    "library": "the name of the library's logger, such as `asyncio`",
    "text": "the library's message",
    "traceback": "the end of the exception's traceback",
}
"""The facts of all events, each with its meaning."""

# Sessions and messages: one line for each outcome, made from its record.

_OF_RECORDS: Final = (
    *("client", "helo", "sender", "recipients", "recipient_count", "phase", "outcome"),
    *("plugin", "id", "session", "size", "seconds", "trusted", "next_hop", "failed_next_hops"),
)
REFUSED: Final = Event("refused", "info", "A client, a recipient or a message was refused.", _OF_RECORDS)
ACCEPTED: Final = Event("accepted", "info", "A message was accepted and handed over.", _OF_RECORDS)
DISCONNECTED: Final = Event(
    "disconnected",
    "info",
    "A session ended.",
    tuple(fact for fact in _OF_RECORDS if fact != "id"),  # it is no decision, so there is nothing to explain
)

# The process.

STARTED: Final = Event("started", "info", "gatepost accepts clients.", ("listen", "clients", "order", "state"))
RUNNING_AS_ROOT: Final = Event("running_as_root", "warning", "The configuration has no `user`.", ("advice",))
RELOADED: Final = Event("reloaded", "info", "New sessions use the new configuration.", ("order",))
RESTART_NEEDED: Final = Event(
    "restart_needed", "warning", "A reloaded configuration has changes that only a restart takes up.", ("keys",)
)
RELOAD_FAILED: Final = Event(
    "reload_failed",
    "error",
    "The new configuration is wrong, or a plugin cannot start with it; the old one stays in use.",
    ("error",),
)
STOPPING: Final = Event("stopping", "info", "The listeners close; sessions may still finish.", ("connected",))
HANDOVER_RUNNING: Final = Event(
    "handover_running",
    "warning",
    "gatepost is stopping and waits for the handover of a message, for which this plugin has 15 minutes at most.",
    ("plugin", "session", "client"),
)
STOPPED: Final = Event("stopped", "info", "gatepost has stopped, and nothing is left to do.")

# Clients.

TURNED_AWAY: Final = Event(
    "turned_away",
    "info",
    "A client connected when there were too many, or when gatepost was stopping; no plugin was asked.",
    ("client", "outcome"),
)
INTERNAL_ERROR: Final = Event(
    "internal_error",
    "error",
    "An error in gatepost itself; the client got 451 with the same `id`, and no mail is lost.",
    ("id", "error"),
)
MARKS_FAILED: Final = Event(
    "marks_failed",
    "error",
    "The store could not be used at a handover, so recipients of the message may get it twice; mail passes even so.",
    ("id", "error"),
)
HAND_OVER_FAILED: Final = Event(
    "hand_over_failed",
    "error",
    "An error in gatepost itself during the handover, usually because the spool cannot be read; "
    "the client was asked to come back.",
    ("session", "error"),
)

# Plugins.

PLUGIN_FAILED: Final = Event(
    "plugin_failed",
    "error",
    "A plugin raised an error, took too long, or returned nonsense.",
    ("plugin", "phase", "session", "id", "error"),
)
OBSERVED: Final = Event(
    "observed",
    "info",
    "A plugin in observe mode answered; the answer was not applied.",
    ("client", "plugin", "answer", "phase", "session"),
)
PLUGIN_TRACEBACK: Final = Event(
    "plugin_traceback",
    "debug",
    "The traceback of an exception of a plugin, whose `plugin_failed` has the same `id`.",
    ("plugin", "phase", "session", "id", "traceback"),
)
STALL: Final = Event(
    "stall",
    "warning",
    "A plugin, or gatepost itself (`gatepost`), blocked all clients for some time.",
    ("plugin", "phase", "session", "seconds"),
)
CIRCUIT_OPENED: Final = Event(
    "circuit_opened",
    "error",
    "A plugin failed five times in a row and is not asked for 30 seconds.",
    ("plugin", "phase", "session"),
)
CIRCUIT_CLOSED: Final = Event(
    "circuit_closed",
    "warning",
    "A plugin whose circuit was open works again.",
    ("plugin", "phase", "session"),
)
IGNORES_CANCELLATION: Final = Event(
    "ignores_cancellation",
    "error",
    "A plugin keeps running although its client has left, or although gatepost is stopping; "
    "gatepost does not wait for it.",
    ("session", "client", "connected"),
)
JOB_FAILED: Final = Event("job_failed", "error", "A repeated job of a plugin failed this time.", ("job", "error"))
SHUTDOWN_FAILED: Final = Event(
    "shutdown_failed", "error", "A plugin could not shut down properly.", ("plugin", "error")
)
DEPRECATED: Final = Event(
    "deprecated",
    "warning",
    "A plugin uses something that [a later version of gatepost](../compatibility.md) will remove.",
    ("plugin", "package", "version", "reason"),
)
FILE_UNUSABLE: Final = Event(
    "file_unusable",
    "warning",
    "A list file can no longer be read or parsed; its last valid content stays in use.",
    ("path", "error"),
)
NAME_SERVER_SKIPPED: Final = Event(
    "name_server_skipped",
    "warning",
    "The system's list of name servers has a line that gatepost cannot read, and the line is skipped.",
    ("path", "error"),
)

LIST_SHRUNK: Final = Event(
    "list_shrunk",
    "error",
    "A list of recipients has lost more than half of its entries at once, and more than ten, so its last content stays "
    "in use; run `gatepost reload --accept-shrunk` if that is meant.",
    ("path", "entries", "found", "advice"),
)

# Next hops.

NEXT_HOP_FAILED: Final = Event(
    "next_hop_failed",
    "warning",
    "A next hop cannot be reached or refuses gatepost; for 30 seconds it is tried after the others.",
    ("next_hop", "error"),
)
NEXT_HOP_BACK: Final = Event("next_hop_back", "info", "A next hop that had failed works again.", ("next_hop",))

# The store, the journal and libraries.

STORE_CANNOT_WRITE: Final = Event(
    "store_cannot_write",
    "error",
    "The store cannot be written; the data stays in memory, and gatepost keeps trying.",
    ("path", "error", "waiting"),
)
STORE_WRITES_AGAIN: Final = Event("store_writes_again", "info", "The store could be written again.", ("path",))
STORE_REPLACED: Final = Event(
    "store_replaced",
    "error",
    "The store was damaged, unreadable or deleted; a new one was begun, and the old one, if it is still there, "
    "is kept beside it.",
    ("path", "error"),
)
STORE_FAILED: Final = Event(
    "store_failed", "warning", "Data that is no longer needed could not be deleted; it expires by itself.", ("error",)
)
MEMORY_LOST: Final = Event(
    "memory_lost", "error", "gatepost stopped before the last plugin data could be written to the store.", ("error",)
)
JOURNAL_FAILED: Final = Event(
    "journal_failed",
    "error",
    "The journal cannot be written, or not fast enough; gatepost keeps trying, and `records_lost` says what was lost.",
    ("error",),
)
JOURNAL_REPLACED: Final = Event(
    "journal_replaced",
    "error",
    "The journal was damaged, unreadable, deleted or of another version; a new one was begun, and the old one, if it "
    "is still there, is kept beside it.",
    ("path", "error"),
)
RECORDS_LOST: Final = Event("records_lost", "warning", "Some records never reached the journal.", ("number",))
_OF_LIBRARIES: Final = ("library", "text", "error")
LIBRARY_WARNING: Final = Event(
    "library_warning", "warning", "A library that gatepost or a plugin uses logged a warning.", _OF_LIBRARIES
)
LIBRARY_ERROR: Final = Event(
    "library_error", "error", "A library that gatepost or a plugin uses logged an error.", _OF_LIBRARIES
)

EVENTS: Final = tuple(value for value in tuple(vars().values()) if isinstance(value, Event))
"""Every event above, in that order."""
