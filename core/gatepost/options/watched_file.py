"""A list file that is reread when it changes: addresses, networks, entries, one per line or in a format of its own.

When its content is used, the file is checked for changes (modification time, size, inode), at most once per second. If
a file disappears or can no longer be read or parsed, there is a warning and the last good content stays in use, because
an empty allow list or recipient list would refuse good mail. This module does not know the meaning of the lines.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from gatepost import events
from gatepost.events import NULL_RECORDER, Recorder

T = TypeVar("T")

LOOK_EVERY = 1.0
"""Seconds between two checks for changes."""

_COMMENT = re.compile(r"(?:^|\s)#.*")


class WatchedFile:
    """A text file (UTF-8) that may change while the server runs.

    In a model it is written as a path, relative to the configuration file. ``monotonic`` is the clock for the checks,
    for tests; ``recorder`` is told if a change cannot be used. Raises ValueError, with a sentence, if the file cannot
    be read at first.
    """

    __slots__ = (
        "_look_at",
        "_monotonic",
        "_parsed",
        "_recorder",
        "_signature",
        "_text",
        "_unreadable",
        "_unusable",
        "path",
    )

    def __init__(
        self,
        path: Path | str,
        monotonic: Callable[[], float] = time.monotonic,
        recorder: Recorder = NULL_RECORDER,
    ) -> None:
        self.path = Path(path)
        self._monotonic = monotonic
        self._recorder = recorder
        self._look_at = monotonic() + LOOK_EVERY
        self._unreadable: str | None = None
        self._unusable: str | None = None
        self._parsed: tuple[Callable[[str], Any], str, Any] | None = None
        try:
            self._signature, self._text = _read(self.path)
        except (OSError, UnicodeError) as error:
            raise ValueError(_sentence(self.path, error)) from None

    @property
    def problem(self) -> str | None:
        """The reason why the content in use is not the file's current content; None if it is."""
        return self._unreadable or self._unusable

    def text(self) -> str:
        """Return the file's content, or its last good content."""
        now = self._monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY
            self._look()
        return self._text

    def lines(self) -> tuple[str, ...]:
        """Return the lines without empty ones and without comments: ``#`` at the start or after a blank."""
        stripped = (_COMMENT.sub("", line).strip() for line in self.text().splitlines())
        return tuple(line for line in stripped if line)

    def parsed(self, parse: Callable[[str], T]) -> T:
        """Return the result of ``parse`` for the text, which is kept until the file changes.

        Pass the same function each time. If it raises ValueError on a changed file, its last good result stays in use
        and ``problem`` gives the reason; on the first call the error is raised.
        """
        text = self.text()
        # Compared by ==, because a bound method is a new object each time that it is named.
        known = self._parsed if self._parsed is not None and self._parsed[0] == parse else None
        if known is not None and known[1] is text:
            result: T = known[2]
            return result
        try:
            result = parse(text)
        except ValueError as error:
            if known is None:
                raise
            result = known[2]
            self._unusable = self._report(self._unusable, f"{self.path}: {error}")
        else:
            self._unusable = None
        self._parsed = (parse, text, result)
        return result

    def _look(self) -> None:
        try:
            # A file that was unreadable is read again even if it looks unchanged: its permissions may have changed.
            if _signature(os.stat(self.path)) != self._signature or self._unreadable:
                self._signature, self._text = _read(self.path)
            self._unreadable = None
        except (OSError, UnicodeError) as error:
            self._unreadable = self._report(self._unreadable, _sentence(self.path, error))

    def _report(self, before: str | None, problem: str) -> str:
        """Log a warning if the problem is a new one, and return it."""
        if problem != before:
            self._recorder.event(events.FILE_UNUSABLE, path=str(self.path), error=problem)
        return problem

    def __repr__(self) -> str:
        return f"WatchedFile({str(self.path)!r})"

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls._from_option, serialization=core_schema.to_string_ser_schema(when_used="json")
        )

    @classmethod
    def _from_option(cls, value: object, info: ValidationInfo) -> WatchedFile:
        if isinstance(value, WatchedFile):
            return value
        if isinstance(value, str | Path):
            context = info.context or {}
            return cls(Path(context.get("folder", ""), value), recorder=context.get("recorder", NULL_RECORDER))
        raise ValueError("expected the path of a file, as text")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "x-kind": "file"}


_Signature = tuple[int, int, int, int]


def _signature(status: os.stat_result) -> _Signature:
    """Return facts that change with the content. Raises OSError if this is not a regular file: a pipe would block."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "it is not a regular file")
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_dev


def _read(path: Path) -> tuple[_Signature, str]:
    """Return signature and text, in this order, so that the next check sees a change while reading."""
    signature = _signature(os.stat(path))
    return signature, path.read_text(encoding="utf-8-sig")


def _sentence(path: Path, error: OSError | UnicodeError) -> str:
    why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
    return f"cannot read {path}: {why}"
