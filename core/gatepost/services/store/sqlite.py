"""The store in a file: SQLite with a write-ahead log, read on the loop and written by one thread.

Reads. A read is one look-up in SQLite on the event loop. It takes a few microseconds, less than handing it to a thread
would. The cache is SQLite's own, which stays correct when another process writes; a dict of ours would not. All reads
within 100 ms share one transaction, because taking its lock is half the cost of a read.

Writes. A write goes into a dict, ``_unwritten``, where reads look first. Every 100 ms the writer thread writes the
batch of pending entries in one transaction, so a crash loses at most 100 ms of writes. An operation that must be atomic
among processes, or durable, is a transaction of its own, which first writes all that is pending.

Failures. A batch that could not be written stays in the dict and is retried; the log says so once. Removing expired
entries, making room and checkpoints are small steps after each batch: a store without writes does not grow.

Expiry. Entries expire by the wall clock, because they outlive the process. An entry that expires later than any entry
written now could was written while the clock was wrong, and counts as expired.

This module does not know the meaning of the entries.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from gatepost import events
from gatepost.errors import StoreError
from gatepost.events import NULL_RECORDER, Recorder
from gatepost.services.clock import Clock, Timer
from gatepost.services.store.store import DAY, MAX_ENTRIES, MAX_TTL, Change, Entry, Key, NamespacedStore, Store

# All times are in seconds.
BATCH_EVERY: Final = 0.1
BATCH_FROM: Final = 5_000  # pending entries that are written without waiting for the time
SNAPSHOT: Final = 0.1  # how long reads share a transaction, in which they do not see what other processes write
RETRY_AFTER: Final = 1.0
SWEEP_EVERY: Final = 60.0
SWEEP_ROWS: Final = 1_000
MAX_UNWRITTEN: Final = 100_000
LOCK_TIMEOUT: Final = 5.0
LOCK_RETRY: Final = 0.02
FARTHEST: Final = MAX_TTL + DAY  # the latest expiry from now; a day more, because a clock may be set back a little

READER: Final = """
PRAGMA cache_size = -8000;
PRAGMA query_only = ON;
PRAGMA busy_timeout = 0;
"""
SCHEMA: Final = """
PRAGMA cache_size = -8000;
PRAGMA journal_size_limit = 16777216;
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (
    namespace TEXT NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    expires REAL NOT NULL,
    PRIMARY KEY (namespace, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_expires ON entries (expires);
COMMIT;
"""
FIND: Final = "SELECT value, expires FROM entries WHERE namespace = ? AND key = ?"
KEEP: Final = "INSERT OR REPLACE INTO entries (namespace, key, value, expires) VALUES (?, ?, ?, ?)"
DROP: Final = "DELETE FROM entries WHERE namespace = ? AND key = ?"
SWEEP: Final = """DELETE FROM entries WHERE (namespace, key) IN
           (SELECT namespace, key FROM entries WHERE expires <= ? OR expires > ? LIMIT ?)"""
EVICT: Final = """DELETE FROM entries WHERE (namespace, key) IN
           (SELECT namespace, key FROM entries ORDER BY expires LIMIT ?)"""
COUNT: Final = "SELECT count(*) FROM entries"

Batch: TypeAlias = dict[Key, Entry]
Found: TypeAlias = tuple[bytes, float] | None
"""An ``Entry``, or a row of the table with the same columns, or None."""
T = TypeVar("T")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)


def _unusable(path: Path, error: Exception) -> StoreError:
    if isinstance(error, OSError | sqlite3.OperationalError):
        what = error.strerror if isinstance(error, OSError) else error
        hint = "Is its folder there and not full, and do file and folder belong to the account that gatepost runs as?"
        return StoreError(f"the store {path} cannot be used: {what}. {hint}")
    hint = "Stop gatepost and move the file away to start afresh"
    return StoreError(f"the store {path} is damaged or not a store of gatepost: {error}. {hint}")


class _Reader:
    """The connection of the event loop, which never waits for a lock. Reads see the file as of their transaction."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection = connection
        self._execute = connection.cursor().execute
        self._clock = clock
        self._timer: Timer | None = None

    def read(self, key: Key) -> Found:
        """Return the entry of ``key``, expired or not."""
        if self._timer is None:
            self._timer = self._clock.call_later(SNAPSHOT, self.refresh)
            self._connection.execute("BEGIN")
        try:
            found: Found = self._execute(FIND, key).fetchone()
        except sqlite3.Error:
            self.refresh()
            raise
        return found

    def refresh(self) -> None:
        """End the transaction, so that the next read sees what has been written since."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            with contextlib.suppress(sqlite3.Error):  # the next read reports the problem
                self._connection.rollback()


class _Writer:
    """The state of the writer thread: the only connection that writes, and the entries that it still owes.

    ``reader`` is the connection for the event loop, opened here because opening may block.
    """

    def __init__(self, path: Path, clock: Clock, max_entries: int) -> None:
        self._clock = clock
        self._max_entries = max_entries
        self._owed: Batch = {}
        self._next_sweep = 0.0
        path.touch(mode=0o600)
        self._connection = _connect(path)
        self.reader = _connect(path)
        try:
            self._enable_wal()
            self._connection.executescript(SCHEMA)
            self.reader.executescript(READER)
            self._rows = self._count()
        except BaseException:
            self.close()
            raise

    def _enable_wal(self) -> None:
        """Switch the file to a write-ahead log.

        SQLite does not apply its lock timeout here, so wait in this function for a process that does the same.
        """
        deadline = time.monotonic() + LOCK_TIMEOUT
        mode = None
        while mode is None:
            try:
                (mode,) = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(LOCK_RETRY)
        if mode != "wal":
            raise sqlite3.OperationalError("its file system cannot share memory (WAL)")

    def close(self) -> None:
        """Close both connections. The writer goes last, because it merges the write-ahead log into the file."""
        self.reader.close()
        self._connection.close()

    def write(self, batch: Batch, key: Key | None, change: Change | None, durable: bool) -> tuple[Batch, Entry | None]:
        """Write what is still owed, ``batch``, and the result of ``change`` for ``key``, in one transaction.

        Returns the entries written from this and earlier batches, and the result of ``change``.
        """
        self._owed.update(batch)
        # In WAL mode, NORMAL survives a crash of the process, and FULL a crash of the machine.
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        with self._connection:
            # IMMEDIATE waits for the lock now. A transaction that reads first, as a change does, could not get the lock
            # later if another process has written in between (SQLITE_BUSY_SNAPSHOT).
            self._connection.execute("BEGIN IMMEDIATE")
            owed = self._owed.items()
            self._connection.executemany(
                KEEP, [(*key, entry.value, entry.expires) for key, entry in owed if entry.value]
            )
            self._connection.executemany(DROP, [key for key, entry in owed if not entry.value])
            made = None if key is None or change is None else self._change(key, change)
        # Only now: after a failure the batch stays owed, and goes with the next one, whose entries replace its own.
        written, self._owed = self._owed, {}
        with contextlib.suppress(sqlite3.Error):  # the batch is written; the next one will sweep
            self._keep_bounds(len(written) + 1)
        return written, made

    def _change(self, key: Key, change: Change) -> Entry | None:
        now = self._clock.now()
        found: Found = self._connection.execute(FIND, key).fetchone()
        entry = change(Entry(*found) if found and now < found[1] <= now + FARTHEST else None)
        if entry is not None:
            self._connection.execute(KEEP, (*key, entry.value, entry.expires))
        return entry

    def _keep_bounds(self, added: int) -> None:
        """Remove expired entries once a minute, and make room when full. Steps are bounded by the batch."""
        self._rows += added  # an upper bound: some replaced others, but counting takes a scan
        full = self._rows > self._max_entries
        if full or self._clock.monotonic() >= self._next_sweep:
            self._sweep()
            self._rows = self._count()
        if full:
            excess = self._rows - (self._max_entries - self._max_entries // 100)
            self._rows -= self._connection.execute(EVICT, (max(0, min(excess, SWEEP_ROWS + 2 * added)),)).rowcount

    def _sweep(self) -> None:
        now = self._clock.now()
        if self._connection.execute(SWEEP, (now, now + FARTHEST, SWEEP_ROWS)).rowcount < SWEEP_ROWS:
            self._next_sweep = self._clock.monotonic() + SWEEP_EVERY

    def _count(self) -> int:
        (rows,) = self._connection.execute(COUNT).fetchone()
        return int(rows)


class SqliteBackend:
    """The store in the file ``path``, as the event loop sees it. Several processes may open the same file.

    ``max_entries`` may be exceeded by what each process has written since its last batch.
    """

    def __init__(
        self, path: str, clock: Clock, recorder: Recorder = NULL_RECORDER, max_entries: int = MAX_ENTRIES
    ) -> None:
        self._path = Path(path).absolute()
        self._clock = clock
        self._recorder = recorder
        self._max_entries = max_entries
        self.moment = clock.now
        self._reader: _Reader | None = None
        self._unwritten: Batch = {}  # pending, being written, or failed: reads look here first
        self._pending: Batch = {}  # the part of it that was not passed to the writer yet
        self._timer: Timer | None = None
        self._writing = 0
        self._failing = False

    async def open(self) -> None:
        """Open the file, or create it, readable by its owner only."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="gatepost-store")
        try:
            self._writer = await self._in_thread(lambda: _Writer(self._path, self._clock, self._max_entries))
        except (OSError, sqlite3.Error) as error:
            self._executor.shutdown()
            raise _unusable(self._path, error) from error
        self._reader = _Reader(self._writer.reader, self._clock)

    async def close(self) -> None:
        """Write all entries and close the file."""
        if self._reader is None:
            return
        self._reader.refresh()
        self._reader = None
        try:
            if self._unwritten:
                await self._written(None, None, durable=False)
        finally:
            await self._in_thread(self._writer.close)
            self._executor.shutdown()

    def namespace(self, name: str) -> Store:
        """Return the store of the plugin instance ``name``."""
        return NamespacedStore(self, name)

    def find(self, key: Key) -> bytes | None:
        """Return the value of ``key`` as JSON, written or not, or None when it has none or it has expired."""
        reader = self._reader or self._opened()
        # An entry that was dropped but is not deleted yet has expired at 0, so it hides the row in the file.
        try:
            found = self._unwritten.get(key) or reader.read(key)
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from error
        if found is None:
            return None
        value, expires = found
        now = self.moment()
        return value if now < expires <= now + FARTHEST else None

    def keep(self, key: Key, entry: Entry) -> None:
        """Set the entry of ``key`` with the next batch."""
        self._opened()
        if len(self._unwritten) >= MAX_UNWRITTEN and key not in self._unwritten:
            raise StoreError(
                f"the store {self._path} cannot keep up: {MAX_UNWRITTEN} entries are waiting to be written"
            )
        self._unwritten[key] = self._pending[key] = entry
        if len(self._pending) >= BATCH_FROM:
            self._submit(None, None, durable=False)
        else:
            self._write_in(BATCH_EVERY)

    def drop(self, key: Key) -> None:
        """Remove the entry of ``key`` with the next batch. Until then an entry without a value stands for it."""
        self.keep(key, Entry(b"", 0.0))

    async def change(self, key: Key, change: Change, *, durable: bool = False) -> Entry | None:
        """Set the entry of ``key`` to the result of ``change``, in a transaction that has ended when this returns."""
        self._opened()
        return await self._written(key, change, durable=durable)

    def _opened(self) -> _Reader:
        if self._reader is None:
            raise StoreError(f"the store {self._path} is not open")
        return self._reader

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    async def _written(self, key: Key | None, change: Change | None, *, durable: bool) -> Entry | None:
        try:
            # Cancelling one client must not cancel the writes of others, which are in the same transaction.
            _, made = await asyncio.shield(self._submit(key, change, durable=durable))
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from error
        return made

    def _submit(
        self, key: Key | None, change: Change | None, *, durable: bool
    ) -> asyncio.Future[tuple[Batch, Entry | None]]:
        """Pass all pending entries to the writer, and then a change."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # One thread, so writes happen in the order in which they were submitted.
        batch, self._pending = self._pending, {}
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._executor, self._writer.write, batch, key, change, durable)
        self._writing += 1
        done.add_done_callback(self._after_write)
        return done

    def _write_in(self, seconds: float) -> None:
        # While a batch is being written no other is due: ``_after_write`` sees to what has come meanwhile.
        if self._timer is None and not self._writing:
            self._timer = self._clock.call_later(seconds, lambda: self._submit(None, None, durable=False))

    def _after_write(self, done: asyncio.Future[tuple[Batch, Entry | None]]) -> None:
        """Forget the entries that are written, except those that have been replaced since."""
        self._writing -= 1
        # The reader's transaction must end first, or reads would miss the entries that are forgotten here.
        if self._reader is not None:
            self._reader.refresh()
        error = done.exception()
        if error is None:
            for key, entry in done.result()[0].items():
                if self._unwritten.get(key) is entry:
                    del self._unwritten[key]
        self._report(error)
        if self._unwritten and self._reader is not None:
            self._write_in(RETRY_AFTER if self._failing else BATCH_EVERY)

    def _report(self, error: BaseException | None) -> None:
        """Log the first of several failures, and the first success after them."""
        if isinstance(error, sqlite3.Error) and not self._failing:
            self._failing = True
            self._recorder.event(
                events.STORE_CANNOT_WRITE, path=str(self._path), error=str(error), waiting=len(self._unwritten)
            )
        elif error is None and self._failing:
            self._failing = False
            self._recorder.event(events.STORE_WRITES_AGAIN, path=str(self._path))
