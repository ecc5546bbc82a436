"""The spool: the octets of messages are kept here while the messages are judged.

Up to 512 KiB of a message stay in memory; a larger one goes to a file without a name, so that a crash leaves nothing
behind. All messages together have a budget of memory, and the disk must keep some room (RFC 5321 §4.2: 452 if not).
What clients send ahead of their turn counts against the same budget (``take``).

It does not know what the octets mean.
"""

from __future__ import annotations

import io
import os
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, Final

from gatepost.errors import SpoolError

BLOCK: Final = 256 * 1024
"""The number of octets read and written at a time."""
LOOK_EVERY: Final = 0.1
"""Seconds between two checks of the room on the disk."""


class Spool:
    """Memory for small messages, a folder for large ones, and a budget of memory for all of them together.

    ``memory`` is the size up to which a message stays in memory, ``budget`` the memory that all messages may take
    together, ``min_free`` the room that the disk must keep; all in octets. Without a folder all stay in memory.
    """

    def __init__(self, folder: Path | None, *, memory: int = 512 * 1024, budget: int = 1 << 28, min_free: int = 0):
        self.folder = folder
        self.memory = memory
        self.budget = budget
        self.min_free = min_free
        self.in_memory = 0
        self._free = 0
        self._look_again = 0.0

    def has_room(self) -> bool:
        """Return False when a new message must wait: the memory budget is spent, or the disk is nearly full."""
        if self.in_memory + self.memory > self.budget:
            return False
        if self.folder is None or not self.min_free:
            return True
        # The disk is asked ten times a second instead of for each message, since that takes a system call.
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + LOOK_EVERY
            self._free = _free(self.folder)
        return self._free >= self.min_free

    def take(self, octets: int) -> bool:
        """Count ``octets`` that somebody else keeps in memory. Return False, and count none, if the budget is spent."""
        if self.in_memory + octets > self.budget:
            return False
        self.in_memory += octets
        return True

    def give_back(self, octets: int) -> None:
        """Count no longer what ``take`` has counted."""
        self.in_memory -= octets

    def content(self) -> Content:
        """Return an empty content. The caller closes it."""
        return Content(self)


def _free(folder: Path) -> int:
    """Return how many octets the disk under ``folder`` has left for us; -1 when that cannot be found out."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return -1
    return disk.f_bavail * disk.f_frsize


class Content:
    """The octets of one message: in memory, or in a file without a name once they are too many."""

    __slots__ = ("_buffer", "_file", "_spool", "size")

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._buffer = bytearray()
        self._file: BinaryIO | None = None
        self.size = 0

    def write(self, block: bytes) -> None:
        """Append ``block``. Raises ``SpoolError`` when the disk does not take it."""
        more = len(block)
        self.size += more
        spool, file = self._spool, self._file
        if file is None:
            if spool.folder is None or (self.size <= spool.memory and spool.in_memory + more <= spool.budget):
                self._buffer += block
                spool.in_memory += more
                return
            try:
                # Without a name from the start (or unlinked at once), so that a crash leaves nothing behind.
                file = self._file = tempfile.TemporaryFile(dir=spool.folder, buffering=0)  # noqa: SIM115, see close()
            except OSError as error:
                raise SpoolError(f"cannot make a file in {spool.folder}: {error.strerror}") from error
            _write_all(file, self._buffer)
            spool.in_memory -= len(self._buffer)
            self._buffer = bytearray()
        _write_all(file, block)

    def read(self, start: int, length: int) -> bytes:
        """Return at most ``length`` octets from ``start``. Readers do not disturb each other."""
        if self._file is None:
            return bytes(self._buffer[start : start + length])
        try:
            return os.pread(self._file.fileno(), length, start)
        except OSError as error:
            raise SpoolError(f"cannot read from the spool: {error.strerror}") from error

    def close(self) -> None:
        """Release memory and disk. May be called twice."""
        self._spool.in_memory -= len(self._buffer)
        self._buffer = bytearray()
        if self._file is not None:
            self._file.close()
            self._file = None


def _write_all(file: BinaryIO, block: bytes | bytearray) -> None:
    """Write ``block`` to a file without a buffer, which may take less than all at a time."""
    rest = memoryview(block)
    try:
        while rest:
            written = file.write(rest)  # not within the slice, whose index mypyc evaluates twice
            rest = rest[written:]
    except OSError as error:
        raise SpoolError(f"cannot write to the spool: {error.strerror}") from error


class ContentReader(io.RawIOBase):
    """A content as a file that can be read and sought."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._content.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        block = self._content.read(self._position, len(buffer))
        buffer[: len(block)] = block
        self._position += len(block)
        return len(block)
