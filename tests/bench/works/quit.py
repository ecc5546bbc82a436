"""Clients that connect, are greeted and send QUIT, twenty at once: the cost of a connection by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from tests.bench.figures import Measure, Sample
from tests.bench.servers import SERVERS
from tests.bench.servers.running import Server
from tests.bench.works import Effort, Row, Run, Work
from tests.bench.works.messages import ALL_SERVERS, QUICK_SERVERS, warm
from tests.bench.works.traffic import SPINNING

OF_MESSAGES = ("gatepost-logging", "gatepost-forward")
CPU = Measure("CPU", "µs a connection")
RATE = Measure("rate", "connections a second")


@contextmanager
def ready(server: Server, effort: Effort) -> Iterator[Run]:
    """Connect and quit as fast as possible."""
    with warm(server, effort) as traffic:
        count = traffic.enough("quits", SPINNING)

        def run() -> Sample:
            trip = traffic.bring("quits", count, SPINNING)
            return {CPU: trip.cpu / count * 1e6, RATE: count / trip.seconds}

        yield run


def rows(effort: Effort) -> Sequence[Row]:
    """Return a row for each server, except those that differ only in how they handle messages."""
    names = QUICK_SERVERS if effort.quick else [name for name in ALL_SERVERS if name not in OF_MESSAGES]
    return [Row(name, SERVERS[name], partial(ready, SERVERS[name])) for name in names]


WORK = Work("quit", "connect, greeting, QUIT", rows)
