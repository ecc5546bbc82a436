"""The servers, measures and runs that all works with 1 KiB messages share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from tests.bench.figures import Measure, Sample
from tests.bench.servers import AS_RUN, SERVERS
from tests.bench.servers.running import Server
from tests.bench.works import Effort, Row, Run
from tests.bench.works.traffic import REMEMBERING, SPINNING, Traffic, Trip

CPU = Measure("CPU", "µs a message")
RATE = Measure("rate", "messages a second")

QUICK_SERVERS = ("gatepost-bare", "gatepost", "smtp-sink", "aiosmtpd", "haraka")
MAIN_SERVERS = ("gatepost-bare", "gatepost", "smtp-sink", "haraka")
"""The servers for works that take long, or that would say little about the others."""
ALL_SERVERS = tuple(name for name in SERVERS if name not in AS_RUN)


def rows_of(names: Sequence[str], each: int) -> list[Row]:
    """Return a row for each of these servers, with ``each`` messages per connection."""
    return [Row(name, SERVERS[name], partial(ready, SERVERS[name], each)) for name in names]


@contextmanager
def ready(server: Server, each: int, effort: Effort) -> Iterator[Run]:
    """Send messages as fast as possible in twenty sessions at once."""
    with warm(server, effort) as traffic:
        options = ("--each", each, SPINNING)
        count = traffic.enough("messages", *options, each=each)
        yield lambda: sample(traffic.bring("messages", count, *options), count)


@contextmanager
def warm(server: Server, effort: Effort) -> Iterator[Traffic]:
    """Run the server and introduce its clients, if it remembers any."""
    with server.running() as running:
        traffic = Traffic(running, effort)
        if server.name in REMEMBERING:
            traffic.introduce()
        yield traffic


def sample(trip: Trip, count: int) -> Sample:
    """Return the figures of ``count`` messages."""
    return {CPU: trip.cpu / count * 1e6, RATE: count / trip.seconds}
