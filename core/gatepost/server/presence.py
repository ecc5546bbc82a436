"""The server's presence in its state folder, by which ``gatepost reload`` finds it and tells it what else is meant.

The server holds a lock on a file with its process id for as long as it lives. The kernel drops the lock with the
process, so no stale id is ever believed, and no stranger that has got the id gets the signal. What a signal cannot say
stands in a second file, for the server of that id only. The folder is the server's own, and nobody else writes there.
"""

from __future__ import annotations

import fcntl
import os
import signal
from contextlib import suppress
from pathlib import Path

from gatepost.errors import GatepostError

_LOCK = "server.pid"
_ACCEPT_SHRUNK = "accept-shrunk"


class Presence:
    """The presence of one server in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._descriptor = -1

    def begin(self) -> None:
        """Say that this process serves. A second server with this folder says nothing; neither fails for it."""
        self.take_acceptance()  # meant for a server that is gone
        try:
            self._descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.write(self._descriptor, b"%d\n" % os.getpid())
        except OSError:
            self.end()

    def end(self) -> None:
        """Say that this process no longer serves."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def take_acceptance(self) -> bool:
        """Return True, once, when this server was told to accept lists that have lost most of their entries."""
        path = self._folder / _ACCEPT_SHRUNK
        try:
            told = path.read_text(encoding="ascii")
            path.unlink()
        except (OSError, UnicodeError):
            return False
        return told.strip() == str(os.getpid())


def ask_to_reload(folder: Path, *, accept_shrunk: bool = False) -> int:
    """Send SIGHUP to the server whose state folder this is, and return its process id.

    Raises ``GatepostError`` with a sentence if none runs, or if this account may not do that.
    """
    try:
        number = _server_of(folder)
        if number is None:
            raise GatepostError(f"no gatepost is running with the state folder {folder}")
        if accept_shrunk:
            _write_anew(folder / _ACCEPT_SHRUNK, f"{number}\n")
        try:
            os.kill(number, signal.SIGHUP)
        except OSError:
            if accept_shrunk:
                (folder / _ACCEPT_SHRUNK).unlink()
            raise
    except OSError as error:
        raise GatepostError(f"cannot tell gatepost to reload: {error.strerror}: {error.filename or folder}") from error
    return number


def _server_of(folder: Path) -> int | None:
    """Return the process id of the server; None if there is none."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None  # nobody holds the lock
        return int(os.read(descriptor, 32) or b"0") or None
    finally:
        os.close(descriptor)


def _write_anew(path: Path, text: str) -> None:
    """Write a file that is not there yet, readable for the owner of its folder."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, text.encode())
        if os.geteuid() == 0:  # the server may run as another account
            owner = path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
    finally:
        os.close(descriptor)
