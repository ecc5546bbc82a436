"""Every exception that gatepost raises on purpose, in one tree.

    GatepostError
    ├── AddressError            a path of MAIL or RCPT is not RFC 5321
    ├── ConfigError             the configuration is wrong; carries every mistake found
    ├── PluginError             a plugin broke its contract (wrong return value, accept without the grant …)
    ├── DNSError                a question that cannot be answered, now or ever
    │   └── DNSTemporaryError   SERVFAIL, REFUSED, time-out: we do not know
    ├── StoreError              the store cannot read or write
    ├── SpoolError              a message cannot be kept: disk full, I/O error, budget spent
    └── NextHopError            the next hop cannot be used; always temporary for the client
        ├── NextHopUnreachableError   nobody answers there
        └── NextHopRefusedError       it answers, and refuses us (not the mail): greeting, EHLO, STARTTLS, AUTH

This module knows nothing of the wire: what a client is told is decided in ``replies`` and ``conversation``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class GatepostError(Exception):
    """The root of the tree."""


class AddressError(GatepostError):
    """A reverse-path or forward-path that RFC 5321 §4.1.2 does not allow."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong in the configuration.

    ``where`` is a file or an environment variable, ``line`` its line (0: unknown), ``key`` the dotted key.
    """

    where: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.where}:{self.line}" if self.line else self.where
        return ": ".join(part for part in (place, self.key, self.message) if part)


class ConfigError(GatepostError):
    """The configuration cannot be used. ``mistakes`` holds all that was found, not only the first."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


class PluginError(GatepostError):
    """A plugin broke its contract. Counts as its ``on_error`` says."""


class DNSError(GatepostError):
    """A question that DNS cannot answer, such as a name that is no name."""


class DNSTemporaryError(DNSError):
    """SERVFAIL, REFUSED or no answer in time: nobody knows. Never "not listed", never a refusal for good."""


class StoreError(GatepostError):
    """The store cannot read or write."""


class SpoolError(GatepostError):
    """A message cannot be kept: disk full, I/O error or the memory budget is spent (RFC 5321 §4.2: 452)."""


class NextHopError(GatepostError):
    """The next hop cannot be used now. The client is told 451, never a permanent refusal."""


class NextHopUnreachableError(NextHopError):
    """Nobody answers at the next hop, or the connection broke."""


class NextHopRefusedError(NextHopError):
    """The next hop refuses us, not the mail: in its greeting, EHLO, STARTTLS or AUTH."""
