"""The journal: the last records, in a file, for ``gatepost explain``.

It keeps refusals and accepted messages. The end of a session without either is in the log only: nobody asks for it by
an id, and connections that come to nothing are most of what a server sees. Records go to a thread, which writes them in
one transaction a quarter of a second; a crash may lose that much. The oldest go when there are too many.

Other processes read while the server writes (WAL). This module knows nothing of what a record means.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from gatepost import events
from gatepost.errors import StoreError
from gatepost.telemetry.batches import Batches
from gatepost.telemetry.log import json_line
from gatepost.telemetry.record import Record

KEPT = frozenset({events.REFUSED.name, events.ACCEPTED.name})
"""The events whose records are kept."""
BOUND = 10_000
"""Records that may wait to be written."""
PAUSE = 0.25
"""Seconds that a batch grows."""
RULINGS_FIRST, RULINGS_LAST = 5, 35
"""Rulings of one record that are kept, from its start and its end: a client may name a thousand recipients."""
LOCK_TIMEOUT = 5.0
VERSION = 1

SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA user_version = {VERSION};
CREATE TABLE IF NOT EXISTS records (id TEXT PRIMARY KEY, facts BLOB NOT NULL);
"""
TRIM = "DELETE FROM records WHERE id < (SELECT id FROM records ORDER BY id DESC LIMIT 1 OFFSET ?)"
"""Ids sort by time, so the oldest are those with the least ids."""


class Journal:
    """Keeps the last ``keep`` records in the file ``path``, and up to a twentieth more. Open it before use."""

    def __init__(self, path: Path, keep: int, on_loss: Callable[[str], object] = lambda sentence: None) -> None:
        self._path = path
        self._keep = keep
        self._on_loss = on_loss
        self._since_trimmed = 0
        self._connection: sqlite3.Connection | None = None
        self._batches: Batches[Record] | None = None

    def open(self) -> None:
        """Make ready. Raises ``StoreError`` with a sentence for the administrator."""
        try:
            self._path.touch(mode=0o600)
            self._connection = self._connected()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the journal {self._path} cannot be used: {error}") from error
        self._batches = Batches(self._write, name="gatepost-journal", bound=BOUND, pause=PAUSE, on_loss=self._on_loss)

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
        try:
            _check_version(connection)
            connection.executescript(SCHEMA)
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def put(self, record: Record) -> None:
        """Keep a record, if it is one of those that are kept. Never blocks, never raises."""
        if self._batches is not None and record.event in KEPT:
            self._batches.put(record)

    @property
    def lost(self) -> int:
        """Records that were never written."""
        return self._batches.lost if self._batches else 0

    def close(self) -> None:
        """Write what waits, and let go. May be called twice."""
        if self._batches is not None:
            self._batches.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, records: list[Record]) -> None:
        assert self._connection is not None
        rows = [(record.id, _packed(record)) for record in records]
        self._since_trimmed += len(rows)
        is_due = self._since_trimmed > self._keep // 20
        with _transaction(self._connection):
            self._connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?)", rows)
            if is_due:
                self._connection.execute(TRIM, (self._keep - 1,))
        if is_due:
            self._since_trimmed = 0


def _check_version(connection: sqlite3.Connection) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, VERSION):
        raise sqlite3.DatabaseError("another version of gatepost has made it; move it away to start afresh")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already, and that is what is to be said
            connection.execute("ROLLBACK")
        raise


def _packed(record: Record) -> bytes:
    facts = record.facts()
    rulings = facts["rulings"]
    assert isinstance(rulings, list)
    if len(rulings) > RULINGS_FIRST + RULINGS_LAST:
        facts["rulings"] = rulings[:RULINGS_FIRST] + rulings[-RULINGS_LAST:]
    return zlib.compress(json_line(facts), 1)


def find_records(path: Path, beginning: str, most: int = 10) -> list[dict[str, Any]]:
    """The facts of the records whose id begins so, at most ``most``, while a server may be writing.

    Raises ``StoreError`` when the journal cannot be read.
    """
    query = "SELECT facts FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
    try:
        path.open("rb").close()  # SQLite does not say why it cannot
        with contextlib.closing(_reading(path)) as connection:
            rows = connection.execute(query, (beginning, beginning + "\x7f", most)).fetchall()
        return [orjson.loads(zlib.decompress(facts)) for (facts,) in rows]
    except OSError as error:
        raise StoreError(f"the journal {path} cannot be read: {error.strerror}") from error
    except (sqlite3.Error, zlib.error) as error:
        raise StoreError(f"the journal {path} cannot be read: {error}") from error


def _reading(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing. Where nobody writes and we may not, the file is read as it stands."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", LOCK_TIMEOUT, uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.OperationalError:
        connection.close()
        if not path.is_file() or Path(f"{path}-wal").exists():
            raise
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    return connection
