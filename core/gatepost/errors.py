"""All exceptions that gatepost raises on purpose, in one tree.

    GatepostError
    ├── AddressError            a path in MAIL or RCPT violates RFC 5321
    ├── ListFileError           a list file has mistakes; also a ValueError, as pydantic wants it
    ├── ConfigError             the configuration is invalid; carries all mistakes
    ├── PluginError             a plugin broke its contract (wrong return value, accept without the grant …)
    ├── DNSError                a query that is invalid and can never be answered
    │   └── DNSTemporaryError   SERVFAIL, REFUSED, timeout: no answer this time
    ├── StoreError              the store cannot be read or written
    ├── HandoverEndedError      the message may not be taken any more
    ├── SpoolError              a message cannot be stored: disk full, I/O error, memory budget used up
    └── NextHopError            the next hop cannot be used; a temporary error for the client
        ├── NextHopUnreachableError   it does not answer
        └── NextHopRefusedError       it refuses us, not the mail: in greeting, EHLO, STARTTLS or AUTH

This module does not know SMTP: ``replies`` and ``conversation`` decide what a client is told.
"""

from __future__ import annotations

import inspect
import os.path
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

_MOST_LINES = 20
MOST_CAUSES = 10
"""The most errors that are followed from one to the one that it was made of: a chain may be a circle."""


class GatepostError(Exception):
    """The root of the tree."""


class AddressError(GatepostError):
    """A reverse-path or forward-path that RFC 5321 §4.1.2 does not allow."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in the configuration.

    ``where`` is a file or an environment variable, ``line`` is its line (0 if unknown), ``key`` the dotted key.
    """

    where: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.where}:{self.line}" if self.line else self.where
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(GatepostError):
    """The configuration is invalid. ``mistakes`` has all mistakes, not only the first."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


class ListFileError(GatepostError, ValueError):
    """A list file has mistakes: ``lines`` has a line number (0 if unknown) and a sentence for each.

    Raise it in the function that you pass to ``WatchedFile.parsed``, with all mistakes of the text. ``gatepost check``
    shows each with file and line. Only the first 20 are kept, and a sentence says how many follow.
    """

    def __init__(self, lines: Iterable[tuple[int, str]], path: Path | None = None) -> None:
        found = tuple(lines)
        if len(found) > _MOST_LINES + 1:  # a file of another kind has a mistake in each line
            found = (*found[:_MOST_LINES], (0, f"there are {len(found) - _MOST_LINES} more mistakes in this file"))
        self.lines: tuple[tuple[int, str], ...] = found
        self.path = path
        super().__init__("; ".join(f"line {line}: {message}" if line else message for line, message in found))

    @classmethod
    def of(cls, path: Path, error: ValueError) -> ListFileError:
        """Return the mistakes in the file at ``path``, from whatever its parser raised."""
        return cls(error.lines if isinstance(error, ListFileError) else ((0, str(error)),), path)


class PluginError(GatepostError):
    """A plugin broke its contract. Its ``on_error`` decides what happens then."""


class DNSError(GatepostError):
    """A query that DNS can never answer, such as one for an invalid name."""


class DNSTemporaryError(DNSError):
    """SERVFAIL, REFUSED or no answer in time. It never means "not listed", and never permits a permanent refusal."""


class StoreError(GatepostError):
    """The store cannot be read or written, or cannot hold a value."""


class HandoverEndedError(GatepostError):
    """The handover was ended before its point of no return: the message must not be taken. See ``Envelope.commit``."""


class SpoolError(GatepostError):
    """A message cannot be stored: disk full, I/O error, or the memory budget is used up (RFC 5321 §4.2: 452)."""


class NextHopError(GatepostError):
    """The next hop cannot be used now. The client gets 451, never a permanent refusal."""


class NextHopUnreachableError(NextHopError):
    """The next hop does not answer, or the connection broke."""


class NextHopRefusedError(NextHopError):
    """The next hop refuses us, not the mail: in its greeting, EHLO, STARTTLS or AUTH."""


def place_of(error: BaseException | None, plugin: object) -> str:
    """Return the innermost place in the plugin's own code that ``error`` passed, as "check.py:31"; "" if there is none.

    Its own code is its module, or for a module in a package everything in that package. If the error itself was not
    raised there, the one that it was made of is looked at.
    """
    if inspect.ismodule(plugin):
        own = plugin.__name__
    else:
        own = (plugin if inspect.isclass(plugin) else type(plugin)).__module__
    package, dot, _ = own.partition(".")
    for _ in range(MOST_CAUSES):
        if error is None:
            break
        place, step = "", error.__traceback__
        while step is not None:
            name = step.tb_frame.f_globals.get("__name__", "")
            if name == own or (dot and name.startswith(f"{package}.")):
                place = f"{os.path.basename(step.tb_frame.f_code.co_filename)}:{step.tb_lineno}"
            step = step.tb_next
        if place:
            return place
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return ""
