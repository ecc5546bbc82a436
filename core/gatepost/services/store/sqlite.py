"""The store in a file: SQLite with a write-ahead log, read on the loop and written by one thread.

Reads. A read is one look-up in SQLite on the event loop. It takes a few microseconds, less than handing it to a thread
would. The cache is SQLite's own, which stays correct when another process writes; a dict of ours would not. All reads
within 100 ms share one transaction, because taking its lock is half the cost of a read.

Writes. A write goes into a dict, ``_unwritten``, where reads look first. Every 100 ms the writer thread writes the
batch of pending entries in one transaction, so a crash loses at most 100 ms of writes. An operation that must be atomic
among processes, or durable, does not wait for that. While the writer is busy, such operations gather, and all of them
are one transaction: they share one sync of the disk, and one wait for a lock that another process holds.

Failures. A batch that could not be written stays in the dict and is retried; the log says so once. Removing expired
entries, making room and checkpoints are small steps after each batch: a store without writes does not grow.

Damage. A file that is damaged, deleted or replaced is put aside (``files``), and a new one is begun: its entries are
lost, and the log says so. The worst that follows is that clients wait once more and somebody gets a message twice (RFC
1047); without the store, nobody would get any. Until the new file is there, reads find only what waits to be written.

Expiry. Entries expire by the wall clock, because they outlive the process. An entry that expires later than any entry
written now could was written while the clock was wrong, and counts as expired.

This module does not know the meaning of the entries.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from gatepost import events
from gatepost.errors import StoreError
from gatepost.events import NULL_RECORDER, Recorder
from gatepost.services.clock import Clock, Timer
from gatepost.services.store.files import MovedError, identity, is_damage, put_aside
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


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)


def _unusable(path: Path, error: BaseException) -> StoreError:
    if not is_damage(error) or isinstance(error, OSError):
        what = error.strerror if isinstance(error, OSError) else error
        hint = "Is its folder there and not full, and do file and folder belong to the account that gatepost runs as?"
        return StoreError(f"the store {path} cannot be used: {what}. {hint}")
    return StoreError(f"the store {path} is damaged: {error}")


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

    def close(self) -> None:
        """Close the connection."""
        self.refresh()
        self._connection.close()


class _Step:
    """A change that somebody waits for, and the entries that were put since the step before it, to be written first."""

    __slots__ = ("before", "change", "durable", "error", "key", "made", "outcome")

    def __init__(
        self, before: Batch, key: Key, change: Change, durable: bool, outcome: asyncio.Future[Entry | None]
    ) -> None:
        self.before = before
        self.key = key
        self.change = change
        self.durable = durable
        self.outcome = outcome
        self.made: Entry | None = None
        self.error: Exception | None = None
        """The change's own error, which is none of the store's and of no other step."""

    def settle(self, error: BaseException | None) -> None:
        """Tell the caller, unless it has stopped waiting."""
        if self.outcome.done():
            return
        if error is None and self.error is None:
            self.outcome.set_result(self.made)
        else:
            self.outcome.set_exception(error or self.error or RuntimeError())


class _Writer:
    """The state of the writer thread: the only connection that writes, and the entries that it still owes.

    ``reader`` is the connection for the event loop, opened here because opening may block. Both are None while the
    file cannot be opened.
    """

    def __init__(self, path: Path, clock: Clock, max_entries: int) -> None:
        self._path = path
        self._clock = clock
        self._max_entries = max_entries
        self._owed: Batch = {}
        self._next_sweep = 0.0
        self._rows = 0
        self._file: tuple[int, int] | None = None
        self._connection: sqlite3.Connection | None = None
        self.reader: sqlite3.Connection | None = None

    def open(self) -> str:
        """Open the file, or make it. If it is damaged, put it aside and begin a new one; return why, else ""."""
        try:
            self._open()
        except (OSError, sqlite3.Error) as error:
            if not is_damage(error):
                raise
            try:
                self._put_aside()
            except OSError:  # it is the folder that we may not use
                raise error from None
            self._open()
            return str(error)
        return ""

    def _put_aside(self) -> None:
        # Another process that shares the file may have put it aside already, and begun the next one.
        if self._file is not None and identity(self._path) == self._file:
            put_aside(self._path)

    def _open(self) -> sqlite3.Connection:
        self._file = identity(self._path)  # also of one that we may not open
        self._path.touch(mode=0o600)
        self._file = identity(self._path)
        connection = self._connection = _connect(self._path)
        try:
            self._enable_wal(connection)
            connection.executescript(SCHEMA)
            self._rows = self._count(connection)
            self.reader = _connect(self._path)
            self.reader.executescript(READER)
        except BaseException:
            if self.reader is not None:
                self.reader.close()
            self.close()
            raise
        return connection

    def _enable_wal(self, connection: sqlite3.Connection) -> None:
        """Switch the file to a write-ahead log.

        SQLite does not apply its lock timeout here, so wait in this function for a process that does the same.
        """
        deadline = time.monotonic() + LOCK_TIMEOUT
        mode = None
        while mode is None:
            try:
                (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(LOCK_RETRY)
        if mode != "wal":
            raise sqlite3.OperationalError("its file system cannot share memory (WAL)")

    def close(self) -> None:
        """Close the connection. The reader must be closed before: who goes last merges the write-ahead log."""
        self.reader = None
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(sqlite3.Error):  # of a damaged file
                connection.close()

    def write(self, steps: list[_Step], last: Batch, anew: bool) -> Batch:
        """Write what is still owed, the steps in their order, and then ``last``, in one transaction.

        With ``anew`` the file is first put aside and another begun. Returns the entries written from this and earlier
        batches. After an error they are owed, unless it is a damage: then the caller calls again, with ``anew``.
        """
        try:
            if anew:
                self.close()
                self._put_aside()
            return self._transact(steps, last)
        except BaseException as error:
            if anew or not is_damage(error):
                for step in steps:
                    self._owed.update(step.before)
                self._owed.update(last)
            raise

    def _transact(self, steps: list[_Step], last: Batch) -> Batch:
        connection = self._connection or self._open()
        if identity(self._path) != self._file:
            raise MovedError("the file was deleted or replaced")
        # In WAL mode, NORMAL survives a crash of the process, and FULL a crash of the machine.
        durable = any(step.durable for step in steps)
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        written = dict(self._owed)
        with connection:
            # IMMEDIATE waits for the lock now. A transaction that reads first, as a change does, could not get the lock
            # later if another process has written in between (SQLITE_BUSY_SNAPSHOT).
            connection.execute("BEGIN IMMEDIATE")
            _write_entries(connection, self._owed)
            for step in steps:
                _write_entries(connection, step.before)
                written.update(step.before)
                self._take(connection, step)
            _write_entries(connection, last)
            written.update(last)
        self._owed = {}
        with contextlib.suppress(sqlite3.Error):  # the batch is written; the next one will sweep
            self._keep_bounds(connection, len(written) + len(steps))
        return written

    def _take(self, connection: sqlite3.Connection, step: _Step) -> None:
        now = self._clock.now()
        found: Found = connection.execute(FIND, step.key).fetchone()
        step.made, step.error = None, None  # it may be the second attempt
        try:
            step.made = step.change(Entry(*found) if found and now < found[1] <= now + FARTHEST else None)
        except Exception as error:
            step.error = error
        if step.made is not None:
            connection.execute(KEEP, (*step.key, step.made.value, step.made.expires))

    def _keep_bounds(self, connection: sqlite3.Connection, added: int) -> None:
        """Remove expired entries once a minute, and make room when full. Steps are bounded by the batch."""
        self._rows += added  # an upper bound: some replaced others, but counting takes a scan
        full = self._rows > self._max_entries
        if full or self._clock.monotonic() >= self._next_sweep:
            self._sweep(connection)
            self._rows = self._count(connection)
        if full:
            excess = self._rows - (self._max_entries - self._max_entries // 100)
            self._rows -= connection.execute(EVICT, (max(0, min(excess, SWEEP_ROWS + 2 * added)),)).rowcount

    def _sweep(self, connection: sqlite3.Connection) -> None:
        now = self._clock.now()
        if connection.execute(SWEEP, (now, now + FARTHEST, SWEEP_ROWS)).rowcount < SWEEP_ROWS:
            self._next_sweep = self._clock.monotonic() + SWEEP_EVERY

    def _count(self, connection: sqlite3.Connection) -> int:
        (rows,) = connection.execute(COUNT).fetchone()
        return int(rows)


def _write_entries(connection: sqlite3.Connection, entries: Batch) -> None:
    if entries:
        kept = [(*key, entry.value, entry.expires) for key, entry in entries.items() if entry.value]
        connection.executemany(KEEP, kept)
        connection.executemany(DROP, [key for key, entry in entries.items() if not entry.value])


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
        self._is_open = False
        self._reader: _Reader | None = None  # None also while the file cannot be opened
        self._unwritten: Batch = {}  # pending, being written, or failed: reads look here first
        self._pending: Batch = {}  # the part of it that was neither passed to the writer nor to a step yet
        self._steps: list[_Step] = []  # they wait for the writer
        self._timer: Timer | None = None
        self._writing: asyncio.Future[Batch] | None = None
        self._error: BaseException | None = None  # of the last transaction
        self._damage: BaseException | None = None  # of the file that is open; the next write begins a new one

    async def open(self) -> None:
        """Open the file, or create it, readable by its owner only. One that is damaged or unreadable is put aside."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="gatepost-store")
        self._writer = _Writer(self._path, self._clock, self._max_entries)
        try:
            damage = await asyncio.get_running_loop().run_in_executor(self._executor, self._writer.open)
        except (OSError, sqlite3.Error) as error:
            self._executor.shutdown()
            raise _unusable(self._path, error) from error
        self._is_open = True
        self._renew_reader()
        if damage:
            self._recorder.event(events.STORE_REPLACED, path=str(self._path), error=damage)

    async def close(self) -> None:
        """Write all entries and close the file."""
        if not self._is_open:
            return
        self._is_open = False
        try:
            # At most three transactions: the one in progress, that of the steps, and the last one. Each waits for a
            # lock no longer than ``LOCK_TIMEOUT``.
            await self._all_written()
            if self._unwritten:
                self._write_now()
                await self._all_written()
            if self._unwritten and self._error is not None:
                raise _unusable(self._path, self._error) from self._error
        finally:
            self._close_reader()
            await asyncio.get_running_loop().run_in_executor(self._executor, self._writer.close)
            self._executor.shutdown()

    async def _all_written(self) -> None:
        """Wait until the writer is idle."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    def namespace(self, name: str) -> Store:
        """Return the store of the plugin instance ``name``."""
        return NamespacedStore(self, name)

    def find(self, key: Key) -> bytes | None:
        """Return the value of ``key`` as JSON, written or not, or None when it has none or it has expired."""
        if not self._is_open:
            raise self._not_open()
        # An entry that was dropped but is not deleted yet has expired at 0, so it hides the row in the file.
        found: Found = self._unwritten.get(key)
        if found is None and self._reader is not None:
            try:
                found = self._reader.read(key)
            except sqlite3.Error as error:
                self._look_at(error)
        if found is None:
            return None
        value, expires = found
        now = self.moment()
        return value if now < expires <= now + FARTHEST else None

    def keep(self, key: Key, entry: Entry) -> None:
        """Set the entry of ``key`` with the next batch."""
        if not self._is_open:
            raise self._not_open()
        if len(self._unwritten) >= MAX_UNWRITTEN and key not in self._unwritten:
            raise StoreError(
                f"the store {self._path} cannot keep up: {MAX_UNWRITTEN} entries are waiting to be written"
            )
        self._unwritten[key] = self._pending[key] = entry
        if len(self._pending) >= BATCH_FROM:
            self._write_now()
        else:
            self._write_in(BATCH_EVERY)

    def drop(self, key: Key) -> None:
        """Remove the entry of ``key`` with the next batch. Until then an entry without a value stands for it."""
        self.keep(key, Entry(b"", 0.0))

    async def change(self, key: Key, change: Change, *, durable: bool = False) -> Entry | None:
        """Set the entry of ``key`` to the result of ``change``, in a transaction that has ended when this returns."""
        if not self._is_open:
            raise self._not_open()
        outcome: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        before, self._pending = self._pending, {}
        self._steps.append(_Step(before, key, change, durable, outcome))
        self._write_now()
        try:
            return await outcome  # cancelling it takes no write back, and none of others in the same transaction
        except (OSError, sqlite3.Error) as error:
            raise _unusable(self._path, error) from error

    def _not_open(self) -> StoreError:
        return StoreError(f"the store {self._path} is not open")

    def _look_at(self, error: sqlite3.Error) -> None:
        """Raise ``StoreError`` for a failed read, unless it shows a damage: then there is no such entry any more."""
        if not is_damage(error):
            raise _unusable(self._path, error) from error
        self._damage = error
        self._write_now()

    def _write_now(self) -> None:
        """Pass all that waits to the writer, for one transaction. While it is busy, ``_after_write`` sees to that."""
        if self._writing is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        steps, self._steps = self._steps, []
        last, self._pending = self._pending, {}
        self._pass(steps, last)

    def _pass(self, steps: list[_Step], last: Batch) -> None:
        damage, self._damage = self._damage, None
        if damage is not None:
            self._close_reader()
        loop = asyncio.get_running_loop()
        self._writing = loop.run_in_executor(self._executor, self._writer.write, steps, last, damage is not None)
        self._writing.add_done_callback(partial(self._after_write, steps, last, damage))

    def _write_in(self, seconds: float) -> None:
        # While a batch is being written no other is due: ``_after_write`` sees to what has come meanwhile.
        if self._timer is None and self._writing is None:
            self._timer = self._clock.call_later(seconds, self._write_now)

    def _after_write(
        self, steps: list[_Step], last: Batch, damage: BaseException | None, done: asyncio.Future[Batch]
    ) -> None:
        """Forget the entries that are written, except those that have been replaced since."""
        # The reader's transaction must end first, or reads would miss the entries that are forgotten here.
        if self._reader is not None:
            self._reader.refresh()
        error = done.exception()
        if damage is None and is_damage(error):
            self._damage = error
            self._pass(steps, last)  # once more, into a new file
            return
        self._writing = None
        self._renew_reader()
        if error is None:
            for key, entry in done.result().items():
                if self._unwritten.get(key) is entry:
                    del self._unwritten[key]
        for step in steps:
            step.settle(error)
        self._report(error, damage)
        if self._steps:
            self._write_now()
        elif self._unwritten and self._is_open:
            self._write_in(RETRY_AFTER if error is not None else BATCH_EVERY)

    def _renew_reader(self) -> None:
        """Read from the file that the writer has opened."""
        if self._reader is None and self._writer.reader is not None:
            self._reader = _Reader(self._writer.reader, self._clock)

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _report(self, error: BaseException | None, damage: BaseException | None) -> None:
        """Log a new file, the first of several failures, and the first success after them."""
        if damage is not None and error is None:
            self._recorder.event(events.STORE_REPLACED, path=str(self._path), error=str(damage))
        if error is not None and self._error is None:
            self._recorder.event(
                events.STORE_CANNOT_WRITE, path=str(self._path), error=str(error), waiting=len(self._unwritten)
            )
        elif error is None and self._error is not None:
            self._recorder.event(events.STORE_WRITES_AGAIN, path=str(self._path))
        self._error = error
