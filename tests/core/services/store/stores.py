"""A look into the file of a store, and another process that locks it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

HOUR = 3600.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 – the thread has no event to wait for
            await asyncio.sleep(0.002)


def rows(path: Path) -> list[tuple[str, bytes, bytes]]:
    """Return the rows that another program finds in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT namespace, key, value FROM entries ORDER BY key").fetchall()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process is writing."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def commits(path: Path) -> int:
    """Return how many transactions the write-ahead log holds (https://sqlite.org/fileformat2.html#walformat)."""
    log = Path(f"{path}-wal").read_bytes()
    page = int.from_bytes(log[8:12], "big")
    salt = log[16:24]
    frames = [log[start : start + 24] for start in range(32, len(log), 24 + page)]
    return sum(frame[4:8] != bytes(4) for frame in frames if frame[8:16] == salt)
