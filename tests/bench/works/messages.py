"""What all works with 1 KiB messages have in common: their servers, their measures, and their kind of run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from tests.bench.figures import Measure, Sample
from tests.bench.servers import SERVERS
from tests.bench.servers.running import Server
from tests.bench.works import Effort, Row, Run
from tests.bench.works.traffic import REMEMBERING, SPINNING, Traffic, Trip

CPU = Measure("CPU", "µs a message")
RATE = Measure("rate", "messages a second")

QUICK_SERVERS = ("gatepost-bare", "gatepost", "smtp-sink", "aiosmtpd", "haraka")
MAIN_SERVERS = ("gatepost-bare", "gatepost", "smtp-sink", "haraka")
"""For works that take long, or say little of the others."""
ALL_SERVERS = tuple(SERVERS)


def rows_of(names: Sequence[str], each: int) -> list[Row]:
    """A row for each of these servers, with so many messages on a connection."""
    return [Row(name, SERVERS[name], partial(ready, SERVERS[name], each)) for name in names]


@contextmanager
def ready(server: Server, each: int, effort: Effort) -> Iterator[Run]:
    """As fast as it goes, over twenty sessions at once."""
    with warm(server, effort) as traffic:
        options = ("--each", each, SPINNING)
        count = traffic.enough("messages", *options, each=each)
        yield lambda: sample(traffic.bring("messages", count, *options), count)


@contextmanager
def warm(server: Server, effort: Effort) -> Iterator[Traffic]:
    """Run the server; it knows its clients, if it remembers any."""
    with server.running() as running:
        traffic = Traffic(running, effort)
        if server.name in REMEMBERING:
            traffic.introduce()
        yield traffic


def sample(trip: Trip, count: int) -> Sample:
    """The figures of that many messages."""
    return {CPU: trip.cpu / count * 1e6, RATE: count / trip.seconds}
