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
