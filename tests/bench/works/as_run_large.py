"""Messages of 25 MiB, one at a time, through servers as people run them: they log and hand over."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from tests.bench.servers import AS_RUN, SERVERS
from tests.bench.works import Effort, Row, Work
from tests.bench.works.large import ALONE, ready


def rows(effort: Effort) -> Sequence[Row]:
    """Return a row for each server."""
    return [Row(name, SERVERS[name], partial(ready, SERVERS[name], ALONE)) for name in AS_RUN]


WORK = Work(
    "as-run-large", "messages of 25 MiB, one at a time, logged as by default and handed over to smtp-sink", rows
)
