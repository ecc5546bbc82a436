"""Reading the journal, while a server may be writing it: by id for ``gatepost explain``, by all else for ``log``.

It writes nothing, and knows neither the command line nor the configuration.
"""

from __future__ import annotations

import contextlib
import functools
import ipaddress
import socket
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from gatepost.errors import StoreError
from gatepost.rulings import expanded
from gatepost.telemetry.journal import BLOCK, LOCK_TIMEOUT, VERSION

FIELDS: Final = {
    "event": "event",
    "plugin": "plugin",
    "observed": "trim(observed, ',')",
    "client": "client",
    "sender": "lower(sender)",
    "recipient": "lower(recipient)",
    "hour": "strftime('%Y-%m-%d %H:00', at, 'unixepoch')",
    "day": "date(at, 'unixepoch')",
}
"""What records can be counted by, with the expression that it is in SQL."""


@dataclass(frozen=True, slots=True)
class Query:
    """A query: a record must match all that is given. ``*`` in an address stands for any characters."""

    since: float | None = None
    """Seconds since the epoch."""
    until: float | None = None
    event: str | None = None
    client: str | None = None
    """An address or a network."""
    sender: str | None = None
    """An address, or ``@`` and a domain; "" is the null reverse-path."""
    recipient: str | None = None
    plugin: str | None = None
    """The plugin that decided."""
    observed: str | None = None
    """An observed plugin that had an opinion; ``*`` is any."""

    def condition(self) -> tuple[str, list[object]]:
        """Return the condition for SQL, with its values."""
        parts = [
            ("at >= ?", self.since),
            ("at < ?", self.until),
            ("event = ?", self.event),
            ("lower(sender) GLOB ?", _pattern(self.sender)),
            ("number IN (SELECT record FROM recipients WHERE lower(recipient) GLOB ?)", _pattern(self.recipient)),
            ("plugin = ?", self.plugin),
            ("observed GLOB ?", None if self.observed is None else f"*,{_pattern(self.observed)},*"),
        ]
        if self.client is not None:
            parts.append(("within(client, ?)" if "/" in self.client else "client = ?", self.client))
        given = [(condition, value) for condition, value in parts if value is not None]
        return " AND ".join(condition for condition, _ in given) or "true", [value for _, value in given]


def find_records(path: Path, beginning: str, most: int = 10) -> list[dict[str, Any]]:
    """Return the facts of at most ``most`` records whose id begins so, in the order of their ids.

    Raises ``StoreError`` when the journal cannot be read.
    """
    with _opened(path) as connection:
        return _facts(connection, "id >= ? AND id < ? ORDER BY id", [beginning, beginning + "\x7f"], most)


def search(path: Path, query: Query, most: int) -> list[dict[str, Any]]:
    """Return the facts of the last ``most`` records that match, the newest first. Raises ``StoreError``."""
    condition, values = query.condition()
    with _opened(path) as connection:
        return _facts(connection, f"{condition} ORDER BY number DESC", values, most)


def count(path: Path, query: Query) -> int:
    """Return how many records match. Raises ``StoreError``."""
    condition, values = query.condition()
    with _opened(path) as connection:
        (number,) = connection.execute(f"SELECT count(*) FROM records WHERE {condition}", values).fetchone()
        return int(number)


def count_by(path: Path, query: Query, field: str, most: int) -> list[tuple[str, int]]:
    """Return the ``most`` frequent values of ``field`` (see ``FIELDS``), and how many records have each.

    Hours and days come in their order. Raises ``StoreError``.
    """
    condition, values = query.condition()
    joined = "JOIN recipients ON record = number" if field == "recipient" else ""
    order = "1" if field in {"hour", "day"} else "2 DESC, 1"
    # The grammar has no bound columns: ``FIELDS`` holds all that can be named.
    query_text = f"SELECT {FIELDS[field]}, count(*) FROM records {joined} WHERE {condition} GROUP BY 1 ORDER BY {order}"
    with _opened(path) as connection:
        return [(value or "", number) for value, number in connection.execute(f"{query_text} LIMIT ?", [*values, most])]


def _pattern(text: str | None) -> str | None:
    """Return an address or a name, with ``*`` for any characters, as a pattern of SQLite's GLOB."""
    if text is None:
        return None
    text = f"*{text}" if text.startswith("@") else text
    return text.lower().replace("[", "[[]").replace("?", "[?]")


@functools.lru_cache(maxsize=4)
def _within(network: str) -> Callable[[str], bool]:
    """Return a function that says whether a client belongs to ``network``.

    It is called for each record, and ``ipaddress`` takes three times as long for an address.
    """
    try:
        bounds = ipaddress.ip_network(network, strict=False)
    except ValueError:
        return lambda client: False
    family = socket.AF_INET if bounds.version == 4 else socket.AF_INET6
    shift = bounds.network_address.max_prefixlen - bounds.prefixlen
    prefix = int(bounds.network_address) >> shift

    def belongs(client: str) -> bool:
        try:
            octets = socket.inet_pton(family, client.partition("%")[0])
        except (OSError, ValueError):
            return False
        return int.from_bytes(octets, "big") >> shift == prefix

    return belongs


def _facts(connection: sqlite3.Connection, where: str, values: list[object], most: int) -> list[dict[str, Any]]:
    """Return the facts of records, each from its columns, its recipients and its block."""
    rows = connection.execute(
        f"SELECT number, id, at, event, client, sender, plugin FROM records WHERE {where} LIMIT ?", [*values, most]
    ).fetchall()

    @functools.lru_cache(maxsize=4)
    def block(number: int) -> list[Any]:
        (body,) = connection.execute("SELECT body FROM blocks WHERE number = ?", (number,)).fetchone()
        content: list[Any] = orjson.loads(zlib.decompress(body))
        return content

    found = []
    for number, *columns in rows:
        head, rulings = block(number // BLOCK)[number % BLOCK]
        recipients = connection.execute("SELECT recipient FROM recipients WHERE record = ? ORDER BY place", (number,))
        found.append(
            dict(zip(("id", "at", "event", "client", "sender", "plugin"), columns, strict=True))
            | head
            | {"recipients": [recipient for (recipient,) in recipients]}
            | {"rulings": [expanded(ruling) for ruling in rulings]}
        )
    return found


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        path.open("rb").close()  # SQLite does not say why it cannot
        with contextlib.closing(_connect_read_only(path)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version != VERSION:
                raise StoreError(f"the journal {path} cannot be read: another version of gatepost made it")
            connection.create_function("within", 2, lambda client, network: _within(network)(client))
            with connection:  # one transaction, so that no block is deleted between two queries
                connection.execute("BEGIN")
                yield connection
    except OSError as error:
        raise StoreError(f"the journal {path} cannot be read: {error.strerror}") from error
    except (sqlite3.Error, zlib.error, ValueError) as error:
        raise StoreError(f"the journal {path} cannot be read: {error}") from error


def _connect_read_only(path: Path) -> sqlite3.Connection:
    """Return a connection that writes nothing.

    To read a file with a write-ahead log, SQLite makes two files beside it. Where this account may not, and no server
    runs (there is no such file), the file cannot change and is read as it is.
    """
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, LOCK_TIMEOUT, uri=True, isolation_level=None)
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema")
    except sqlite3.OperationalError:
        connection.close()
        if not path.is_file() or Path(f"{path}-wal").exists():
            raise
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None)
    return connection
