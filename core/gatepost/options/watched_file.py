"""A list file that is reread when it changes: addresses, networks, entries, one per line or in a format of its own.

A server looks at all its list files once a second (``ListFiles``). It believes a change when two looks agree, so a file
that is being written is not read in halves, and reads and parses it in a thread, while the content before serves. If a
file disappears or can no longer be read or parsed, there is a warning and the last good content stays in use, because
an empty allow list or recipient list would refuse good mail. A list whose absence refuses mail (``vouches``) may not
lose most of its entries at once, either. This module does not know the meaning of the lines.
"""

from __future__ import annotations

import math
import os
import re
import stat
import threading
import time
import weakref
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from gatepost import events
from gatepost.events import NULL_RECORDER, Recorder

T = TypeVar("T")

LOOK_EVERY: Final = 1.0
"""Seconds between two checks for changes."""
MAY_LOSE: Final = 10
"""Entries that a list that vouches may lose at once, also if they are more than half of it."""

_COMMENT = re.compile(r"(?:^|\s)#.*")
_Signature = tuple[int, int, int, int]


class WatchedFile:
    """A text file (UTF-8) that may change while the server runs.

    In a model it is written as a path, relative to the configuration file. In a server, a change is in use two to three
    seconds after it. A file that was made without a server, as in a test, is looked at when it is used, once a second
    by the clock ``monotonic``, and a change is believed at once. ``recorder`` is told if a change cannot be used.
    Raises ValueError, with a sentence, if the file cannot be read at first.
    """

    __slots__ = (
        "__weakref__",
        "_content",
        "_look_at",
        "_monotonic",
        "_recorder",
        "_seen",
        "_shrunk",
        "_signature",
        "_unreadable",
        "_unusable",
        "_vouches",
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
        """The time of the next check; infinity if a server makes the checks."""
        self._unreadable: str | None = None
        self._unusable: str | None = None
        self._shrunk = False
        """True while the file has lost too many entries for its content to be believed."""
        self._vouches = False
        self._seen: _Signature | str | None = None
        """The change that the last look has found: the signature, or why there is none."""
        try:
            self._signature, text = _read(self.path)
        except (OSError, UnicodeError) as error:
            raise ValueError(_sentence(self.path, error)) from None
        self._content: tuple[str, Callable[[str], Any] | None, Any] = (text, None, None)
        """The text in use, the function that parses it, and its result. Replaced as a whole, maybe in a thread."""

    @property
    def problem(self) -> str | None:
        """The reason why the content in use is not the file's current content; None if it is."""
        return self._unreadable or self._unusable

    def text(self) -> str:
        """Return the file's content, or its last good content."""
        self._look_if_due()
        return self._content[0]

    def lines(self) -> tuple[str, ...]:
        """Return the lines without empty ones and without comments: ``#`` at the start or after a blank."""
        stripped = (_COMMENT.sub("", line).strip() for line in self.text().splitlines())
        return tuple(line for line in stripped if line)

    def parsed(self, parse: Callable[[str], T], *, vouches: bool = False) -> T:
        """Return the result of ``parse`` for the text, which is kept until the file changes.

        Pass the same function each time; a server also calls it in a thread. If it raises ValueError on a changed file,
        its last good content stays in use and ``problem`` gives the reason; on the first call the error is raised.

        ``vouches`` says that mail is refused for want of an entry. ``len()`` of the result is then the number of
        entries, and a change that loses more than half of them and more than ten is not believed
        (``gatepost reload --accept-shrunk``).
        """
        self._vouches = self._vouches or vouches
        self._look_if_due()
        text, known, result = self._content
        # Compared by ==, because a bound method is a new object each time that it is named.
        if known is not None and known == parse:
            kept: T = result
            return kept
        made = parse(text)
        self._content = (text, parse, made)
        return made

    def _look_if_due(self) -> None:
        if self._look_at < math.inf and (now := self._monotonic()) >= self._look_at:
            self._look_at = now + LOOK_EVERY
            self.look(at_once=True)

    def look(self, *, at_once: bool = False, accept_shrunk: bool = False) -> None:
        """Check the file, and take over its content if it has changed and the last look found the same change.

        With ``at_once`` one look is enough; with ``accept_shrunk`` a list that vouches may lose any number of entries.
        Reads and parses: a server calls this in a thread.
        """
        found: _Signature | str
        try:
            found = _signature(os.stat(self.path))
        except OSError as error:
            found = _sentence(self.path, error)
        # A file that was unreadable is read again even if it looks unchanged: its permissions may have changed.
        is_known = found == self._signature and not self._unreadable and not (accept_shrunk and self._shrunk)
        if is_known or (found != self._seen and not at_once):
            self._seen = None if is_known else found
            return
        try:
            if isinstance(found, str):
                self._unreadable = self._report(self._unreadable, found)
                return
            signature, text = _read(self.path)
            if signature == found == _signature(os.stat(self.path)):  # else it has changed again: look once more
                self._unreadable = None
                self._take(signature, text, accept_shrunk)
        except (OSError, UnicodeError) as error:
            self._unreadable = self._report(self._unreadable, _sentence(self.path, error))

    def _take(self, signature: _Signature, text: str, accept_shrunk: bool) -> None:
        """Put ``text`` in use if it can be parsed and has not lost too many entries."""
        self._signature, self._seen, self._shrunk = signature, None, False
        _, parse, before = self._content
        after: Any = None
        if parse is not None:
            try:
                after = parse(text)
            except Exception as error:  # whatever a plugin's parser raises: other files are to be looked at
                why = str(error) if isinstance(error, ValueError) else repr(error)
                self._unusable = self._report(self._unusable, f"{self.path}: {why}")
                return
        if self._vouches and not accept_shrunk and _lost_too_many(before, after):
            self._shrunk = True
            self._unusable = f"{self.path}: it has lost most of its entries"
            self._recorder.event(
                events.LIST_SHRUNK,
                path=str(self.path),
                entries=len(before),
                found=len(after),
                advice="gatepost reload --accept-shrunk, if that is meant",
            )
            return
        self._unusable = None
        self._content = (text, parse, after)

    def follow(self, before: WatchedFile) -> None:
        """Take over the content of ``before``, which has the same path, unless the file has changed since."""
        if before._signature == self._signature and not before._unreadable:
            self._content = before._content
            self._unusable, self._shrunk, self._vouches = before._unusable, before._shrunk, before._vouches

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
            path = Path(context.get("folder", ""), value)
            files: ListFiles | None = context.get("files")
            recorder = context.get("recorder", NULL_RECORDER)
            return files.open(path, recorder) if files is not None else cls(path, recorder=recorder)
        raise ValueError("expected the path of a file, as text")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "x-kind": "file"}


class ListFiles:
    """The list files of one server, over all reloads. It holds them only as long as a policy does."""

    def __init__(self) -> None:
        self._files: weakref.WeakSet[WatchedFile] = weakref.WeakSet()
        self._looking = threading.Lock()

    def __len__(self) -> int:
        return len(self._files)

    def open(self, path: Path, recorder: Recorder) -> WatchedFile:
        """Return the file at ``path``, with the content that is in use if another policy has it already.

        So a reload parses nothing again, and is no way for a list to lose its entries unnoticed.
        """
        file = WatchedFile(path, recorder=recorder)
        file._look_at = math.inf
        for before in tuple(self._files):
            if before.path == path:
                file.follow(before)
        self._files.add(file)
        return file

    def look(self, *, at_once: bool = False, accept_shrunk: bool = False) -> None:
        """Look at each file: see ``WatchedFile.look``. May take long; call it in a thread."""
        with self._looking:
            for file in tuple(self._files):
                file.look(at_once=at_once, accept_shrunk=accept_shrunk)


def _lost_too_many(before: Sized, after: Sized) -> bool:
    """Return True when more than half of the entries are gone, and more than ten."""
    lost = len(before) - len(after)
    return lost > MAY_LOSE and 2 * lost > len(before)


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
