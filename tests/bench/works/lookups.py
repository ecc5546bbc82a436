"""The time for a message when five plugins look up a name each and the name server answers after 50 ms.

The time runs from connecting to the reply to the final dot. Four clients at a time are no load for the server, so this
is pure latency. gatepost-bare makes no query; its time is that of everything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from tests.bench.figures import Measure, Sample
from tests.bench.servers import gatepost
from tests.bench.servers.running import Server
from tests.bench.works import Effort, Row, Run, Work
from tests.bench.works.messages import warm

MEDIAN = Measure("p50", "ms a message")
WORST = Measure("p99", "ms a message")
SESSIONS = 4


@contextmanager
def ready(server: Server, effort: Effort) -> Iterator[Run]:
    """Send messages from a few clients at a time."""
    count = 20 if effort.quick else 100
    with warm(server, effort) as traffic:
        traffic.send("messages", SESSIONS)

        def run() -> Sample:
            printed = traffic.send("messages", count, "--sessions", SESSIONS)
            return {MEDIAN: printed["p50"] * 1e3, WORST: printed["p99"] * 1e3}

        yield run


def rows(effort: Effort) -> Sequence[Row]:
    """Return the rows: without queries, with queries that run ahead, and with each query in its turn."""
    servers = (gatepost.bare(), gatepost.looking_up(ahead=True), gatepost.looking_up(ahead=False))
    return [Row(server.name, server, partial(ready, server)) for server in servers]


WORK = Work("lookups", "messages with five look-ups of 50 ms in one phase", rows)
