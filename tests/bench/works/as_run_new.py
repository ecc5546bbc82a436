"""Messages of 1 KiB, each on a connection of its own, through servers as people run them: they log and hand over."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.servers import AS_RUN
from tests.bench.works import Effort, Row, Work
from tests.bench.works.messages import rows_of


def rows(effort: Effort) -> Sequence[Row]:
    """Return a row for each server."""
    return rows_of(AS_RUN, each=1)


WORK = Work("as-run-new", "1 KiB messages, one per connection, logged as by default and handed over to smtp-sink", rows)
