"""Messages of 1 KiB, twenty per connection, through servers as people run them: they log and hand over."""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.servers import AS_RUN
from tests.bench.works import Effort, Row, Work
from tests.bench.works.messages import rows_of

ON_ONE_CONNECTION = 20


def rows(effort: Effort) -> Sequence[Row]:
    """Return a row for each server."""
    return rows_of(AS_RUN, each=ON_ONE_CONNECTION)


WORK = Work("as-run-reused", "1 KiB messages, twenty per connection, logged and handed over to smtp-sink", rows)
