"""The store in a file: SQLite with a write-ahead log, read on the loop and written by one thread.

A read is one look-up in SQLite on the loop, some microseconds, which is less than the way to a thread and back. The
read cache is SQLite's own: it stays right when another process writes, which a dict of ours would not. Reads of a tenth
of a second share a transaction, as taking its lock is half of what a read costs.

A write goes into a dict that reads look into first. Every 100 ms the writer thread takes what has come together and
writes it in one transaction, so a crash may lose 100 ms of what gatepost remembers of its clients. What must be atomic
among processes, or durable, is a transaction of its own, behind all writes that came before it.

A write that fails stays in the dict and is tried again with the next; that is logged once. Sweeping, making room and
checkpoints ride on writes, in small steps: a store that nobody writes to does not grow.

Entries expire by the wall clock, because they outlive the process. An entry that expires later than any could that is
written now was written by a clock that ran ahead; it counts as gone.

This module knows nothing of what is kept.
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

BATCH_EVERY: Final = 0.1
BATCH_FROM: Final = 5_000
SNAPSHOT: Final = 0.1
"""Seconds for which reads see the file as it was, but for our own writes."""
RETRY_AFTER: Final = 1.0
SWEEP_EVERY: Final = 60.0
SWEEP_ROWS: Final = 1_000
MAX_UNWRITTEN: Final = 100_000
LOCK_TIMEOUT: Final = 5.0
LOCK_RETRY: Final = 0.02
FARTHEST: Final = MAX_TTL + DAY  # a clock may be set back by a little

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
"""An entry, or a row that has what an entry has; None when there is none."""
T = TypeVar("T")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)


def _unusable(path: Path, error: Exception) -> StoreError:
    if isinstance(error, OSError | sqlite3.OperationalError):
        what = error.strerror if isinstance(error, OSError) else error
        hint = "Is its folder there and not full, and do file and folder belong to the account that gatepost runs as?"
        return StoreError(f"the store {path} cannot be used: {what}. {hint}")
    hint = "Stop gatepost and move it away to start afresh"
    return StoreError(f"the store {path} is damaged or no store of gatepost: {error}. {hint}")


class _Reader:
    """The connection for the loop, which waits for nobody's lock. What is read sees the file as of its transaction."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection = connection
        self._execute = connection.cursor().execute
        self._clock = clock
        self._timer: Timer | None = None

    def read(self, key: Key) -> Found:
        """The entry of ``key``, dead or alive."""
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
        """Let the next read see what has been written meanwhile."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            with contextlib.suppress(sqlite3.Error):  # the next read says what is wrong
                self._connection.rollback()


class _Writer:
    """What the writer thread holds: the one connection that writes, and the writes that have failed so far.

    ``reader`` is the connection for the loop, which waits for nobody's lock.
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
            self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        self._log_ahead()
        self._connection.executescript(SCHEMA)
        self.reader.executescript(READER)
        self._rows = self._count()

    def _log_ahead(self) -> None:
        """Switch the file to WAL. SQLite does not wait here for a process that does the same, so this does."""
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
        """Close both; the writing one goes last and folds the write-ahead log into the file."""
        self.reader.close()
        self._connection.close()

    def write(self, batch: Batch, key: Key | None, change: Change | None, durable: bool) -> tuple[Batch, Entry | None]:
        """Write ``batch``, all that failed before, and what ``change`` makes of ``key``, in one transaction.

        Returns what was written from batches, and what ``change`` made.
        """
        self._owed.update(batch)
        # In WAL mode NORMAL survives a crash of the process and FULL one of the machine.
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            self._write_owed()
            made = None if key is None or change is None else self._change(key, change)
        written, self._owed = self._owed, {}
        with contextlib.suppress(sqlite3.Error):  # all is written; the next batch sweeps instead
            self._keep_bounds(len(written) + 1)
        return written, made

    def _write_owed(self) -> None:
        kept = [(*key, entry.value, entry.expires) for key, entry in self._owed.items() if entry.value]
        dropped = [key for key, entry in self._owed.items() if not entry.value]
        self._connection.executemany(KEEP, kept)
        self._connection.executemany(DROP, dropped)

    def _change(self, key: Key, change: Change) -> Entry | None:
        now = self._clock.now()
        found: Found = self._connection.execute(FIND, key).fetchone()
        entry = change(Entry(*found) if found and now < found[1] <= now + FARTHEST else None)
        if entry is not None:
            self._connection.execute(KEEP, (*key, entry.value, entry.expires))
        return entry

    def _keep_bounds(self, added: int) -> None:
        """Sweep once a minute and make room when full, each a step that is bounded by what came in."""
        self._rows += added  # at most: some were there before, and counting costs a scan
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
    """The store in the file ``path``, on the loop's side. Several processes may open one file.

    ``max_entries`` is exceeded at most by what came in since the last batch of each process.
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
        self._unwritten: Batch = {}  # what reads must see first: pending, or on its way, or failed
        self._pending: Batch = {}  # the part of it that the writer has not been given
        self._timer: Timer | None = None
        self._under_way = 0
        self._failing = False

    async def open(self) -> None:
        """Open the file or make it, readable by its owner only."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="gatepost-store")
        try:
            self._writer = await self._in_thread(lambda: _Writer(self._path, self._clock, self._max_entries))
        except (OSError, sqlite3.Error) as error:
            self._executor.shutdown()
            raise _unusable(self._path, error) from error
        self._reader = _Reader(self._writer.reader, self._clock)

    async def close(self) -> None:
        """Write what waits and close the file."""
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
        """The store of the plugin instance ``name``."""
        return NamespacedStore(self, name)

    def find(self, key: Key) -> bytes | None:
        """The value of ``key``, as JSON, if its entry lives, written or not."""
        reader = self._reader or self._opened()
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
        """Put ``entry`` under ``key`` with the next batch."""
        self._opened()
        if len(self._unwritten) >= MAX_UNWRITTEN and key not in self._unwritten:
            raise StoreError(f"the store {self._path} cannot keep up: {MAX_UNWRITTEN} entries wait to be written")
        self._unwritten[key] = self._pending[key] = entry
        if len(self._pending) >= BATCH_FROM:
            self._submit(None, None, durable=False)
        else:
            self._write_in(BATCH_EVERY)

    def drop(self, key: Key) -> None:
        """Forget ``key`` with the next batch: an entry without a value says so."""
        self.keep(key, Entry(b"", 0.0))

    async def change(self, key: Key, change: Change, *, durable: bool = False) -> Entry | None:
        """Keep what ``change`` makes of the living entry, in a transaction that has ended when this returns."""
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
            # Cancelling one client's wait must not take the writes of others out of the queue.
            _, made = await asyncio.shield(self._submit(key, change, durable=durable))
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from error
        return made

    def _submit(
        self, key: Key | None, change: Change | None, *, durable: bool
    ) -> asyncio.Future[tuple[Batch, Entry | None]]:
        """Give the writer all that is pending, and a change behind it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._pending = self._pending, {}
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._executor, self._writer.write, batch, key, change, durable)
        self._under_way += 1
        done.add_done_callback(self._landed)
        return done

    def _write_in(self, seconds: float) -> None:
        if self._timer is None and not self._under_way:
            self._timer = self._clock.call_later(seconds, lambda: self._submit(None, None, durable=False))

    def _landed(self, done: asyncio.Future[tuple[Batch, Entry | None]]) -> None:
        """Let go of what is written; what was put again since then stays."""
        self._under_way -= 1
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
        """Log the first of a row of failures, and its end."""
        if isinstance(error, sqlite3.Error) and not self._failing:
            self._failing = True
            self._recorder.event(
                events.STORE_CANNOT_WRITE, path=str(self._path), error=str(error), waiting=len(self._unwritten)
            )
        elif error is None and self._failing:
            self._failing = False
            self._recorder.event(events.STORE_WRITES_AGAIN, path=str(self._path))
