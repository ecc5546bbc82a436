"""Messages of 1 KiB on reused connections, with MAIL, RCPT and DATA in one segment (RFC 2920) and one by one.

The time is that of a client that is alone, because twenty clients would hide a stall: a server that writes a reply in
two pieces, or waits for an acknowledgement before the next one, shows 40 ms here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from tests.bench.figures import Measure, Sample
from tests.bench.servers import SERVERS
from tests.bench.servers.running import Server
from tests.bench.works import Effort, Row, Run, Work
from tests.bench.works.messages import sample, warm
from tests.bench.works.traffic import SPINNING

ALONE = Measure("p50 alone", "ms a message")
ON_ONE_CONNECTION = 20
ONE_BY_ONE = "one by one"


@contextmanager
def ready(server: Server, options: Sequence[object], effort: Effort) -> Iterator[Run]:
    """Run twenty sessions as fast as possible, then one alone."""
    options = ("--each", ON_ONE_CONNECTION, *options)
    alone = ON_ONE_CONNECTION * (3 if effort.quick else 5)
    with warm(server, effort) as traffic:
        count = traffic.enough("messages", *options, SPINNING, each=ON_ONE_CONNECTION)

        def run() -> Sample:
            together = sample(traffic.bring("messages", count, *options, SPINNING), count)
            one = traffic.send("messages", alone, "--sessions", 1, *options)
            return {**together, ALONE: one["p50"] * 1e3}

        yield run


def rows(effort: Effort) -> Sequence[Row]:
    """Return two rows for each server. A quick run has only gatepost, because Haraka stalls and takes long."""
    names = ("gatepost",) if effort.quick else ("gatepost", "smtp-sink", "haraka")
    both = (("", ("--pipelined",)), (f", {ONE_BY_ONE}", ()))
    return [
        Row(name + suffix, SERVERS[name], partial(ready, SERVERS[name], options))
        for name in names
        for suffix, options in both
    ]


WORK = Work("pipelined", "1 KiB messages, twenty per connection, pipelined or one by one", rows)
