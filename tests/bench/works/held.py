"""Clients that are held before the greeting: 1,000 to 15,000 strangers, each from an address of its own.

gatepost has its whole default chain, and its earlytalker holds them. As in the steady state, it already knows other
clients and does not hold these, so the delay is made long only after they have connected. Peers hold everybody. The row
"postfix" is postscreen.

The row "newcomers" is gatepost in separate runs: a known client connects every 100 ms and sends a message, while
strangers arrive and while they are held. Its time is from connecting to the reply to QUIT.

Peers take one run, because their crowds take long to arrive and their memory differs little from run to run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from tests.bench.figures import Measure, Sample
from tests.bench.servers import SERVERS
from tests.bench.servers.running import Running, Server
from tests.bench.tree import Tree
from tests.bench.works import Effort, Row, Run, Work
from tests.bench.works.crowds import Crowd, Newcomers, grown
from tests.bench.works.policies import hold_strangers

DELAY = 280
"""Seconds: longer than any run, and less than the five minutes for which a mail server waits."""
RATE = 5000
"""Strangers that arrive per second: a flood, because their CPU time matters in a flood.

In a trickle each one costs twice as much, also on an empty uvloop server: a process that sleeps wakes with cold caches.
"""
NEWCOMERS_EVERY = 0.1
QUICK_PEERS, PEERS = ("haraka",), ("aiosmtpd", "haraka", "postfix")


def rows(effort: Effort) -> Sequence[Row]:
    """Return the rows: gatepost, and the peers that can hold clients."""
    gatepost = SERVERS["gatepost"]
    return [
        Row("gatepost", gatepost, partial(ready, partial(_gatepost_holding, gatepost))),
        *(_peer_row(SERVERS[name]) for name in (QUICK_PEERS if effort.quick else PEERS)),
        Row("gatepost, newcomers", gatepost, partial(watching_newcomers, gatepost)),
    ]


def _peer_row(peer: Server) -> Row:
    return Row(peer.name, peer, partial(ready, partial(peer.running, greeting_delay=DELAY)), most_runs=1)


def stages(effort: Effort) -> Sequence[int]:
    """Return the number of clients in each stage. The stages follow each other on the same server."""
    return (1000,) if effort.quick else (1000, 5000, 10_000, 15_000)


@contextmanager
def ready(holding: Callable[[], AbstractContextManager[Running]], effort: Effort) -> Iterator[Run]:
    """Give each run a server of its own: memory freed by one crowd would hide the memory that the next one takes."""

    def run() -> Sample:
        with holding() as running, Crowd(running.port, RATE) as crowd:
            return grown(crowd, Tree(running.pid), stages(effort), effort)

    yield run


@contextmanager
def _gatepost_holding(gatepost: Server) -> Iterator[Running]:
    with gatepost.running() as running:
        with Newcomers(running.port, NEWCOMERS_EVERY):
            hold_strangers(running, DELAY)
        yield running


@contextmanager
def watching_newcomers(gatepost: Server, effort: Effort) -> Iterator[Run]:
    """Measure known clients while strangers arrive, and while these are held."""

    def run() -> Sample:
        with gatepost.running() as running, Newcomers(running.port, NEWCOMERS_EVERY) as newcomers:
            hold_strangers(running, DELAY)
            with Crowd(running.port, RATE) as crowd:
                return _served(newcomers, crowd, stages(effort)[-1], 2 if effort.quick else 10)

    yield run


def _served(newcomers: Newcomers, crowd: Crowd, count: int, seconds: float) -> Sample:
    newcomers.forget()
    crowd.grow(count)
    coming = newcomers.seen()
    time.sleep(seconds)
    held = newcomers.seen()
    return {
        Measure(f"{which} while they {when}", "ms", count): seen[which] * 1000
        for when, seen in (("come", coming), ("are held", held))
        for which in ("p50", "p99", "longest")
    }


WORK = Work("held", "clients that are silent before the greeting", rows)
