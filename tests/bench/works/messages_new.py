"""Messages of 1 KiB, each on a connection of its own, from twenty clients at once, like most mail."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.works import Effort, Row, Work
from tests.bench.works.messages import ALL_SERVERS, QUICK_SERVERS, rows_of

WITH_TARGETS = ("gatepost-logging", "gatepost-forward")
"""Other servers whose additional cost has a target."""


def rows(effort: Effort) -> Sequence[Row]:
    """Return a row for each server."""
    return rows_of(QUICK_SERVERS + WITH_TARGETS if effort.quick else ALL_SERVERS, each=1)


WORK = Work("messages-new", "1 KiB messages, one per connection", rows)
