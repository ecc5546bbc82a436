"""The journal: the last records, in a file, for ``gatepost explain`` and ``gatepost log``.

It keeps refusals and accepted messages. The end of a session goes to the log only: it has no id that a client could
quote, and connections that come to nothing are most of what a server sees. Records go to a thread, which writes them
four times a second in one transaction each; a crash may lose that much.

Layout. A record is a row, with columns to search in, and up to ten rows of recipients. Its other facts are part of a
block, packed together with those of its neighbours: that takes a fifth of the room and of the time. Rows have no
index, because each would cost as much as the row; a million of them are searched in less than two seconds. Sums by the
hour are kept in the same transaction, and outlive the records.

Bounds. The journal is bounded by number, octets and age. A client that has more records in an hour than its share gets
blocks of its own kind, "loud", which go first: one client cannot push out the records of all others. Blocks go in the
order in which they were written, whatever the clock said then.

Faults. A batch that cannot be written is tried again; a damaged file, or one of another layout, is put aside.

Other processes read while the server writes (SQLite's write-ahead log; see ``search``).
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from gatepost import events
from gatepost.errors import StoreError
from gatepost.ip import network_of
from gatepost.services.store.files import MovedError, identity, is_damage, put_aside
from gatepost.telemetry.batches import Batches
from gatepost.telemetry.log import json_line
from gatepost.telemetry.record import RECIPIENTS_KEPT, Record

KEPT = frozenset({events.REFUSED.name, events.ACCEPTED.name})
"""The events whose records are kept."""
BOUND = 10_000
"""Records that may wait to be written."""
PAUSE = 0.25
"""Seconds for which a batch grows."""
RETRY = 1.0
"""Seconds after which a batch that could not be written is tried again."""
PATIENCE = 20.0
"""Seconds that the last batches are given at the end."""
RULINGS_FIRST, RULINGS_LAST = 5, 35
"""Rulings that are kept of one record, from its start and its end: a client may name a thousand recipients."""
LONGEST = 32_768
"""Octets of one record; of a longer one, only the last ruling is kept, or none."""
SHARE = 50
"""A client's share of the records in an hour is one in so many."""
MOST_CLIENTS = 10_000
"""Clients that are counted at a time."""
LOCK_TIMEOUT = 5.0
VERSION = 2

BLOCK: Final = 1024
"""The numbers of a block's records begin with its own number times this. It is more than a block can hold."""
MOST_IN_BLOCK: Final = 100
"""Records of a block. With more of them packing gains little, and whoever reads one record unpacks them all."""

SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA journal_size_limit = 16777216;
BEGIN IMMEDIATE;
PRAGMA user_version = {VERSION};
CREATE TABLE IF NOT EXISTS blocks (
    number INTEGER PRIMARY KEY, loud INTEGER NOT NULL, records INTEGER NOT NULL, last REAL NOT NULL, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS blocks_order ON blocks (loud, number, records, last);
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL, at REAL NOT NULL, event TEXT NOT NULL,
    client TEXT NOT NULL, sender TEXT, plugin TEXT NOT NULL, observed TEXT
);
CREATE TABLE IF NOT EXISTS recipients (
    record INTEGER NOT NULL, place INTEGER NOT NULL, recipient TEXT NOT NULL, PRIMARY KEY (record, place)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sums (
    hour INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, outcome TEXT NOT NULL, number INTEGER NOT NULL,
    PRIMARY KEY (hour, kind, name, outcome)
) WITHOUT ROWID;
COMMIT;
"""
COLUMNS: Final = ("id", "at", "event", "client", "sender", "plugin")
"""Facts of a record that are columns, and so no part of its block."""
ADD_BLOCK = "INSERT INTO blocks (loud, records, last, body) VALUES (?, ?, ?, ?)"
ADD_RECORD = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
ADD_RECIPIENT = "INSERT INTO recipients VALUES (?, ?, ?)"
ADD_SUM = """INSERT INTO sums VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (hour, kind, name, outcome) DO UPDATE SET number = number + excluded.number"""
TOTALS = "SELECT loud, sum(records) FROM blocks GROUP BY loud"
OLDEST = "SELECT number, records FROM blocks WHERE loud = ? ORDER BY number LIMIT 1"
OUTDATED = "SELECT number, loud, records FROM blocks WHERE last < ? ORDER BY number LIMIT 100"
DELETE_SUMS = "DELETE FROM sums WHERE hour = (SELECT min(hour) FROM sums) AND hour < ?"

Row = tuple[str, float, str, str, str | None, str, str | None]
"""The columns of a record but its number."""


def _ignore(*said: object) -> None:
    """Do nothing."""


class Journal:
    """Keeps the last ``keep`` records in the file ``path``, and up to a twentieth more. Open it before use.

    The file takes at most ``size`` octets, beside a write-ahead log of at most 16 MiB, and holds no record that is
    older than ``age`` seconds by more than an hour. ``on_failure`` is called with a sentence at the first of several
    failures, ``on_loss`` with the number of records that were lost, ``on_replaced`` with the reason why the file was
    put aside and a new one begun.
    """

    def __init__(
        self,
        path: Path,
        keep: int,
        size: int = 1 << 62,
        age: float = 1e12,
        *,
        on_failure: Callable[[str], object] = _ignore,
        on_loss: Callable[[int], object] = _ignore,
        on_replaced: Callable[[str], object] = _ignore,
    ) -> None:
        self._path = path
        self._keep = keep
        self._size = size
        self._age = age
        self._on_failure = on_failure
        self._on_loss = on_loss
        self._on_replaced = on_replaced
        self._most_in_block = max(1, min(MOST_IN_BLOCK, keep // 20))
        self._share = max(1, keep // SHARE)
        self._hour = 0
        self._of_clients: dict[str, int] = {}
        """Records of each client in this hour."""
        self._totals = [0, 0]
        """Records in the file, of blocks that are not loud and that are."""
        self._next_outdated = 0.0
        self._file: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None
        self._batches: Batches[Record] | None = None

    def open(self) -> None:
        """Open the file or make it, readable by its owner only. Raises ``StoreError`` with a sentence."""
        try:
            self._connect_or_replace()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the journal {self._path} cannot be used: {error}") from error
        self._batches = Batches(
            self._write,
            name="gatepost-journal",
            bound=BOUND,
            pause=PAUSE,
            retry=RETRY,
            on_failure=self._on_failure,
            on_loss=self._on_loss,
        )

    def put(self, record: Record) -> None:
        """Keep a record, if it is of an event that is kept. Never blocks, never raises."""
        if self._batches is not None and record.event in KEPT:
            self._batches.put(record)

    @property
    def lost(self) -> int:
        """The number of records that were never written."""
        return self._batches.lost if self._batches else 0

    def close(self) -> None:
        """Write what waits, and close the file. Takes 20 seconds at most. May be called twice."""
        ended = self._batches is None or self._batches.close(PATIENCE)
        if ended:  # else the thread still uses it
            self._disconnect()

    # All that follows runs in the thread of the batches, once the journal is open.

    def _connect_or_replace(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except (OSError, sqlite3.Error) as error:
            if not is_damage(error):
                raise
            return self._replace(error)

    def _replace(self, why: Exception) -> sqlite3.Connection:
        self._disconnect()
        if identity(self._path) == self._file is not None:
            try:
                put_aside(self._path)
            except OSError:  # it is the folder that we may not use
                raise why from None
        connection = self._connect()
        self._on_replaced(str(why))
        return connection

    def _connect(self) -> sqlite3.Connection:
        self._file = identity(self._path)  # also of one that we may not open
        self._path.touch(mode=0o600)
        self._file = identity(self._path)
        # It is made in one thread and used in another; closing waits for that thread.
        connection = sqlite3.connect(self._path, LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            _check_version(connection)
            connection.executescript(SCHEMA)
            self._totals = [0, 0]
            for loud, records in connection.execute(TOTALS):
                self._totals[loud] = records
        except BaseException:
            with suppress(sqlite3.Error):
                connection.close()
            raise
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with suppress(sqlite3.Error):  # of a damaged file
                connection.close()

    def _write(self, records: list[Record]) -> None:
        """Write a batch in one transaction, into a new file if the old one is damaged."""
        try:
            connection = self._connection or self._connect_or_replace()
            if identity(self._path) != self._file:
                raise MovedError("the file was deleted or replaced")
            self._transact(connection, records)
        except (OSError, sqlite3.Error) as error:
            if not _is_lost(error):
                raise
            self._transact(self._replace(error), records)

    def _transact(self, connection: sqlite3.Connection, records: list[Record]) -> None:
        parts: tuple[list[Record], list[Record]] = ([], [])
        for record in records:
            parts[self._is_loud(record)].append(record)
        sums: dict[tuple[int, str, str, str], int] = {}
        totals = list(self._totals)
        try:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                for loud, part in enumerate(parts):
                    for start in range(0, len(part), self._most_in_block):
                        _add_block(connection, loud, part[start : start + self._most_in_block], sums)
                    self._totals[loud] += len(part)
                connection.executemany(ADD_SUM, [(*key, number) for key, number in sums.items()])
                self._trim(connection, records[-1].at)
        except BaseException:
            self._totals = totals
            raise

    def _is_loud(self, record: Record) -> bool:
        """Count a record of a client. True when the client has had its share of this hour."""
        hour = int(record.at // 3600)
        counts = self._of_clients
        if hour != self._hour or len(counts) > MOST_CLIENTS:
            counts.clear()
            self._hour = hour
        client = network_of(record.client) if ":" in record.client else record.client
        count = counts[client] = counts.get(client, 0) + 1
        return count > self._share

    def _trim(self, connection: sqlite3.Connection, now: float) -> None:
        """Delete blocks until the journal is within its bounds; of the outdated ones, some each minute.

        Only some, because the clock may be wrong for a while: a journal of years must not be gone in that time.
        """
        while self._delete_oldest(connection, self._keep):
            pass
        while _octets(connection) > self._size and self._delete_oldest(connection, 0):
            pass
        if not self._next_outdated - 60 <= now < self._next_outdated:
            self._next_outdated = now + 60
            for number, loud, records in connection.execute(OUTDATED, (now - self._age,)).fetchall():
                self._delete(connection, number, loud, records)
            connection.execute(DELETE_SUMS, ((now - self._age) // 3600,))

    def _delete_oldest(self, connection: sqlite3.Connection, keep: int) -> bool:
        """Delete the oldest block of the loud ones, or of all others if those have less than a quarter of the room.

        Return False if fewer than ``keep`` records would be left.
        """
        total = sum(self._totals)
        loud = int(self._totals[1] * 4 > total or not self._totals[0])
        found = connection.execute(OLDEST, (loud,)).fetchone()
        if found is None or total - found[1] < keep or total == found[1]:
            return False
        self._delete(connection, found[0], loud, found[1])
        return True

    def _delete(self, connection: sqlite3.Connection, number: int, loud: int, records: int) -> None:
        rows = (number * BLOCK, (number + 1) * BLOCK)
        connection.execute("DELETE FROM blocks WHERE number = ?", (number,))
        connection.execute("DELETE FROM records WHERE number >= ? AND number < ?", rows)
        connection.execute("DELETE FROM recipients WHERE record >= ? AND record < ?", rows)
        self._totals[loud] -= records


def _check_version(connection: sqlite3.Connection) -> None:
    """Raise an error that is a damage for a file of another layout; 0 is a new file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, VERSION):
        raise MovedError("another version of gatepost made it")


def _is_lost(error: Exception) -> bool:
    """Return True when another attempt cannot help: the file is damaged, or a table of ours is not there."""
    return is_damage(error) or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_ERROR


def _octets(connection: sqlite3.Connection) -> int:
    """Return how much of the file is in use."""
    (pages,), (free,), (size,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def _add_block(
    connection: sqlite3.Connection, loud: int, records: Sequence[Record], sums: dict[tuple[int, str, str, str], int]
) -> None:
    bodies, rows = [], []
    for record in records:
        observed: list[str] = []
        bodies.append(_body(record, observed))
        rows.append(_row(record, observed))
        _add_sums(sums, record, observed)
    last = max([record.at for record in records])
    packed = zlib.compress(b"[" + b",".join(bodies) + b"]", 1)
    number = connection.execute(ADD_BLOCK, (loud, len(records), last, packed)).lastrowid
    first = (number or 0) * BLOCK
    connection.executemany(ADD_RECORD, [(first + place, *row) for place, row in enumerate(rows)])
    connection.executemany(
        ADD_RECIPIENT,
        [
            (first + place, order, _text(recipient))
            for place, record in enumerate(records)
            for order, recipient in enumerate(record.recipients[:RECIPIENTS_KEPT])
        ],
    )


def _row(record: Record, observed: list[str]) -> Row:
    sender = record.sender if record.sender is None else _text(record.sender)
    names = f",{','.join(observed)}," if observed else None
    return record.id, record.at, record.event, record.client, sender, record.plugin, names


def _body(record: Record, observed: list[str]) -> bytes:
    """Return as JSON what is not in columns, and add to ``observed`` the observed plugins that had an opinion.

    The middle of a long list of rulings is left out.
    """
    head = record.head()
    for name in COLUMNS:
        del head[name]
    del head["recipients"]
    rulings = record.rulings
    if len(rulings) > RULINGS_FIRST + RULINGS_LAST:
        rulings = rulings[:RULINGS_FIRST] + rulings[-RULINGS_LAST:]
    compact = [ruling.compact(observed) for ruling in rulings]
    body = json_line((head, compact))
    for kept in (compact[-1:], []):
        if len(body) > LONGEST:
            body = json_line((head, kept))
    return body


def _add_sums(sums: dict[tuple[int, str, str, str], int], record: Record, observed: list[str]) -> None:
    hour = int(record.at // 3600)
    _add(sums, (hour, "plugin", record.plugin, record.event))
    for name in observed:
        _add(sums, (hour, "plugin", name, "observed"))
    if record.next_hop:
        _add(sums, (hour, "next_hop", record.next_hop, record.event))
    for name in record.failed_next_hops:
        _add(sums, (hour, "next_hop", name.partition(": ")[0], "failed"))


def _add(sums: dict[tuple[int, str, str, str], int], key: tuple[int, str, str, str]) -> None:
    sums[key] = sums.get(key, 0) + 1


def _text(text: str) -> str:
    """Return ``text`` as SQLite can keep it: without lone surrogates."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
