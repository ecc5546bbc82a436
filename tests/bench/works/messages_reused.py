"""Messages of 1 KiB, a hundred per connection, from twenty clients at once, as a mailing list's server sends them.

Each message of a connection has a different sender and recipient.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.bench.works import Effort, Row, Work
from tests.bench.works.messages import ALL_SERVERS, QUICK_SERVERS, rows_of

ON_ONE_CONNECTION = 100


def rows(effort: Effort) -> Sequence[Row]:
    """Return a row for each server."""
    return rows_of(QUICK_SERVERS if effort.quick else ALL_SERVERS, each=ON_ONE_CONNECTION)


WORK = Work("messages-reused", "1 KiB messages, a hundred per connection", rows)
