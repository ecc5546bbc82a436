"""Files of SQLite that turn out to be damaged: how to tell, and how to put one aside so that a new one can be begun.

The store and the journal use it. Neither is worth the mail that would wait until somebody has looked.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

_DAMAGED: Final = frozenset(
    {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
    }
)
"""Errors that no later attempt cures. A full disk, a lock and a failed write are not among them."""
_PRIMARY: Final = 0xFF  # the octet of an extended error code that says its kind


class MovedError(sqlite3.DatabaseError):
    """The file is no longer the one that was opened: it was deleted, or another process has put it aside."""


def is_damage(error: BaseException | None) -> bool:
    """Return True when the file is lost for good, so that a new one should be begun."""
    if isinstance(error, MovedError | PermissionError):
        return True
    code = getattr(error, "sqlite_errorcode", None) if isinstance(error, sqlite3.Error) else None
    return code is not None and (code in _DAMAGED or code & _PRIMARY in _DAMAGED)


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells the file at ``path`` from any other, or None when there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def put_aside(path: Path) -> Path:
    """Rename the file and its write-ahead log, in the place of an earlier one put aside. Return its new path.

    One is kept and not all: a disk that fails again and again must not be filled as well. Nobody of this process may
    have the file open, because SQLite deletes its write-ahead log by name. Raises ``OSError``.
    """
    aside = Path(f"{path}.damaged")
    for left_over in (f"{aside}-shm", f"{aside}-wal"):
        Path(left_over).unlink(missing_ok=True)
    os.replace(path, aside)
    Path(f"{path}-shm").unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):  # there is none when the file was closed in order
        os.replace(f"{path}-wal", f"{aside}-wal")
    return aside
