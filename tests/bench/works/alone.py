"""Messages of 1 KiB, each on a connection of its own, from one client at a time.

With twenty clients at once a server finds several of them ready each time it looks, and shares the cost of looking. A
server of little traffic, as most are, has no such company.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from tests.bench.servers import SERVERS
from tests.bench.servers.running import Server
from tests.bench.works import Effort, Row, Run, Work
from tests.bench.works.messages import MAIN_SERVERS, sample, warm
from tests.bench.works.traffic import SPINNING

QUICK = ("gatepost", "haraka")


@contextmanager
def ready(server: Server, effort: Effort) -> Iterator[Run]:
    """Send messages as fast as possible in one session at a time."""
    with warm(server, effort) as traffic:
        options = ("--sessions", 1, SPINNING)
        count = traffic.enough("messages", *options)
        yield lambda: sample(traffic.bring("messages", count, *options), count)


def rows(effort: Effort) -> Sequence[Row]:
    """Return a row for each of the main servers."""
    names = QUICK if effort.quick else MAIN_SERVERS
    return [Row(name, SERVERS[name], partial(ready, SERVERS[name])) for name in names]


WORK = Work("alone", "1 KiB messages, one per connection, from one client at a time", rows)
