"""The time for a message at half the server's highest rate: 1 KiB, one connection each, at random times.

The highest rate is found first, with twenty clients that never pause. Then clients arrive at half that rate, whether or
not the server has finished with earlier ones (a Poisson process). The time of a message runs from the moment when its
client was due, so that no wait is left out, to the reply to its final dot. The load has one core to itself but no more,
so for smtp-sink the rate is that of the load.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from tests.bench.figures import Measure, Sample
from tests.bench.servers import SERVERS
from tests.bench.servers.running import Server
from tests.bench.works import Effort, Row, Run, Work
from tests.bench.works.messages import MAIN_SERVERS, RATE, warm

MEDIAN = Measure("p50", "ms a message")
WORST = Measure("p99", "ms a message")


@contextmanager
def ready(server: Server, effort: Effort) -> Iterator[Run]:
    """Find the highest rate, then send at half of it."""
    with warm(server, effort) as traffic:
        count = traffic.enough("messages")
        half = count / traffic.send("messages", count)["seconds"] / 2

        def run() -> Sample:
            printed = traffic.send("messages", count, "--rate", half)
            return {RATE: half, MEDIAN: printed["p50"] * 1e3, WORST: printed["p99"] * 1e3}

        yield run


def rows(effort: Effort) -> Sequence[Row]:
    """Return a row for each of the main servers; for the others, CPU time already tells as much."""
    return [Row(name, SERVERS[name], partial(ready, SERVERS[name])) for name in MAIN_SERVERS]


WORK = Work("latency", "1 KiB messages, one per connection, at half the highest rate", rows)
