"""The journal: the last records, in a file, for ``gatepost explain``.

It keeps refusals and accepted messages. The end of a session goes to the log only: it has no id that a client could
quote, and connections that come to nothing are most of what a server sees. Records go to a thread, which writes them
four times a second in one transaction each; a crash may lose that much. When there are too many, the oldest go.

Other processes read while the server writes (SQLite's write-ahead log). This module does not know what a record means.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Callable
from functools import partial
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
"""Seconds for which a batch grows."""
RULINGS_FIRST, RULINGS_LAST = 5, 35
"""Rulings that are kept of one record, from its start and its end: a client may name a thousand recipients."""
LOCK_TIMEOUT = 5.0
VERSION = 1

SCHEMA = f"""
PRAGMA journal_mode = WAL;
PRAGMA user_version = {VERSION};
CREATE TABLE IF NOT EXISTS records (id TEXT PRIMARY KEY, facts BLOB NOT NULL);
PRAGMA synchronous = NORMAL;
"""
TRIM = "DELETE FROM records WHERE id < (SELECT id FROM records ORDER BY id DESC LIMIT 1 OFFSET ?)"
"""Ids sort by time, so the oldest records are those with the least ids."""


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
        """Open the file or make it, readable by its owner only. Raises ``StoreError`` with a sentence."""
        try:
            self._path.touch(mode=0o600)
            # It is made here and used in the thread of the batches; closing waits for that thread.
            connection = sqlite3.connect(self._path, LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
            try:
                _check_version(connection)
                connection.executescript(SCHEMA)
            except BaseException:
                connection.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"the journal {self._path} cannot be used: {error}") from error
        self._connection = connection
        write = partial(self._write, connection)
        self._batches = Batches(write, name="gatepost-journal", bound=BOUND, pause=PAUSE, on_loss=self._on_loss)

    def put(self, record: Record) -> None:
        """Keep a record, if it is of an event that is kept. Never blocks, never raises."""
        if self._batches is not None and record.event in KEPT:
            self._batches.put(record)

    @property
    def lost(self) -> int:
        """The number of records that were never written."""
        return self._batches.lost if self._batches else 0

    def close(self) -> None:
        """Write what waits, and close the file. May be called twice."""
        if self._batches is not None:
            self._batches.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, connection: sqlite3.Connection, records: list[Record]) -> None:
        """Write a batch, and after each twentieth of ``keep`` delete the oldest; this runs in the thread."""
        rows = [(record.id, _packed(record)) for record in records]
        self._since_trimmed += len(rows)
        # The index is searched for the oldest record to keep once in a while, not with every batch.
        is_due = self._since_trimmed > self._keep // 20
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany("INSERT OR REPLACE INTO records VALUES (?, ?)", rows)
            if is_due:
                connection.execute(TRIM, (self._keep - 1,))
        if is_due:
            self._since_trimmed = 0


def _check_version(connection: sqlite3.Connection) -> None:
    """Raise ``sqlite3.DatabaseError`` for a file that another version of gatepost made; 0 is a new file."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version not in (0, VERSION):
        raise sqlite3.DatabaseError("another version of gatepost made it; move it away to start afresh")


def _packed(record: Record) -> bytes:
    """Return the facts of a record as compressed JSON, with the middle of a long list of rulings left out."""
    facts = record.facts()
    if len(record.rulings) > RULINGS_FIRST + RULINGS_LAST:
        kept = record.rulings[:RULINGS_FIRST] + record.rulings[-RULINGS_LAST:]
        facts["rulings"] = [ruling.facts() for ruling in kept]
    return zlib.compress(json_line(facts), 1)


def find_records(path: Path, beginning: str, most: int = 10) -> list[dict[str, Any]]:
    """Return the facts of at most ``most`` records whose id begins so. A server may be writing meanwhile.

    Raises ``StoreError`` when the journal cannot be read.
    """
    query = "SELECT facts FROM records WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"
    try:
        path.open("rb").close()  # SQLite does not say why it cannot
        with contextlib.closing(_connect_read_only(path)) as connection:
            rows = connection.execute(query, (beginning, beginning + "\x7f", most)).fetchall()
        return [orjson.loads(zlib.decompress(facts)) for (facts,) in rows]
    except OSError as error:
        raise StoreError(f"the journal {path} cannot be read: {error.strerror}") from error
    except (sqlite3.Error, zlib.error) as error:
        raise StoreError(f"the journal {path} cannot be read: {error}") from error


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """Return a connection that writes nothing.

    To read a file with a write-ahead log, SQLite makes two files beside it. Where this account may not, and no server
    runs (there is no such file), the file cannot change and is read as it is.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", LOCK_TIMEOUT, uri=True)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.OperationalError:
        connection.close()
        if not path.is_file() or Path(f"{path}-wal").exists():
            raise
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    return connection
