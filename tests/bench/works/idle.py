"""Clients that are idle after EHLO: 10,000 that the server knows, each from an address of its own.

Data that a server keeps about earlier clients, such as DNS answers, exists before they arrive. The server also has
memory that earlier clients have freed, which the first of the crowd reuse: ``grown`` counts both ways. All rows but the
default chain take one run, because crowds take long to arrive and memory differs little from run to run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from tests.bench.figures import Sample
from tests.bench.servers import SERVERS
from tests.bench.servers.running import Server
from tests.bench.tree import Tree
from tests.bench.works import Effort, Row, Run, Work
from tests.bench.works.crowds import Crowd, grown
from tests.bench.works.traffic import REMEMBERING, Traffic

RATE = 1000
"""Clients that arrive per second."""
QUICK_OTHERS, OTHERS = ("haraka",), ("gatepost-bare", "aiosmtpd", "haraka")
"""The other servers: only those that do not need a process for each client."""


def stages(effort: Effort) -> Sequence[int]:
    """Return the number of clients in each stage. The stages follow each other on the same server."""
    return (1000,) if effort.quick else (2500, 10_000)


@contextmanager
def ready(server: Server, effort: Effort) -> Iterator[Run]:
    """Give each run a server of its own: memory freed by one crowd would hide the memory that the next one takes."""

    def run() -> Sample:
        with server.running() as running, Crowd(running.port, RATE, greeted=True) as crowd:
            if server.name in REMEMBERING:
                Traffic(running, dataclasses.replace(effort, triples=stages(effort)[-1])).introduce()
            return grown(crowd, Tree(running.pid), stages(effort), effort)

    yield run


def rows(effort: Effort) -> Sequence[Row]:
    """Return the rows: gatepost, and the servers that serve all clients in one process."""
    others = QUICK_OTHERS if effort.quick else OTHERS
    return [
        Row("gatepost", SERVERS["gatepost"], partial(ready, SERVERS["gatepost"])),
        *(Row(name, SERVERS[name], partial(ready, SERVERS[name]), most_runs=1) for name in others),
    ]


WORK = Work("idle", "clients that are idle after EHLO", rows)
