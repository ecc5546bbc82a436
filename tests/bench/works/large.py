"""Messages of 25 MiB, one after another, and ten at once: more than 500 MB in a full run (a MB is 1,000,000 octets).

How far memory rises is the highest RSS meanwhile less the RSS before (summed over all processes), on a server that has
had such messages before. What a server writes counts where it goes to files, even if the file is in memory: it is what
it hands to write(2).

The row "watched" is gatepost with a plugin that sees how long the loop stands still (``plugins/standstill.py``), while
ten messages at once arrive and a known client connects anew every 20 ms. The times of those clients are those of their
load too, which shares its core with the ten. The highest PSS is sampled in arrivals of its own, since a look at it
holds a server up.
"""

from __future__ import annotations

import dataclasses
import smtplib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from tests.bench.clients import client
from tests.bench.figures import Measure, Sample
from tests.bench.loads import LoadError
from tests.bench.servers import SERVERS
from tests.bench.servers.gatepost import PLUGINS
from tests.bench.servers.running import Command, Place, Running, Server
from tests.bench.tree import Tree
from tests.bench.works import Effort, Row, Run, Work
from tests.bench.works.crowds import Newcomers
from tests.bench.works.messages import ALL_SERVERS
from tests.bench.works.policies import changed
from tests.bench.works.traffic import REMEMBERING, Traffic

CPU = Measure("CPU", "ms a MB")
RATE = Measure("rate", "MB a second")
MEMORY = Measure("memory rise", "MiB")
WRITTEN = Measure("written", "MB a MB")
SAMPLED = Measure("memory rise, PSS", "MiB")
STANDSTILL = Measure("longest standstill of the loop", "ms")
LONGEST = Measure("newcomer served, longest", "ms")
P99 = Measure("newcomer served, p99", "ms")

ALONE, TEN = 1, 10
NEWCOMERS_EVERY = 0.02
SAMPLES_EVERY = 0.02
QUICK_SERVERS = ("gatepost", "smtp-sink", "haraka")


def rows(effort: Effort) -> Sequence[Row]:
    """All servers, alone and ten at once."""
    servers = [SERVERS[name] for name in (QUICK_SERVERS if effort.quick else ALL_SERVERS)]
    alone = [Row(server.name, server, partial(ready, server, ALONE)) for server in servers]
    ten = [Row(f"{server.name}, ten at once", server, partial(ready, server, TEN)) for server in servers]
    gatepost = SERVERS["gatepost"]
    return [*alone, *ten, Row("gatepost, watched", gatepost, partial(watched, _seeing_standstills(gatepost)))]


@contextmanager
def ready(server: Server, sessions: int, effort: Effort) -> Iterator[Run]:
    """So many at once."""
    with _warm(server, effort, sessions) as (running, traffic):
        yield partial(_send, traffic, Tree(running.pid), _count(effort, sessions), sessions)


@contextmanager
def _warm(server: Server, effort: Effort, sessions: int) -> Iterator[tuple[Running, Traffic]]:
    few = dataclasses.replace(effort, triples=100)
    with server.running() as running:
        traffic = Traffic(running, few)
        if server.name in REMEMBERING:
            traffic.introduce()
        traffic.bring("large", sessions, "--sessions", sessions)
        yield running, traffic


def _count(effort: Effort, sessions: int) -> int:
    return max(sessions, 4) if effort.quick else 20


def _send(traffic: Traffic, tree: Tree, count: int, sessions: int) -> Sample:
    tree.reset_peak()
    resident, written = tree.memory().resident, tree.written()
    trip = traffic.bring("large", count, "--sessions", sessions)
    megabytes = trip.printed["octets"] / 1e6
    return {
        CPU: trip.cpu * 1000 / megabytes,
        RATE: megabytes / trip.seconds,
        MEMORY: (tree.memory().peak - resident) / 1024,
        WRITTEN: (tree.written() - written) / 1e6 / megabytes,
    }


@contextmanager
def watched(server: Server, effort: Effort) -> Iterator[Run]:
    """Ten at once, watched from inside and from outside."""
    with _warm(server, effort, TEN) as (running, traffic), Newcomers(running.port, NEWCOMERS_EVERY) as newcomers:
        tree, count = Tree(running.pid), _count(effort, TEN)

        def run() -> Sample:
            newcomers.forget()
            _longest_standstill(running)
            traffic.bring("large", count, "--sessions", TEN)
            standstill, seen = _longest_standstill(running), newcomers.seen()
            return {
                STANDSTILL: standstill,
                LONGEST: seen["longest"] * 1000,
                P99: seen["p99"] * 1000,
                SAMPLED: _highest_pss(tree, lambda: traffic.bring("large", count, "--sessions", TEN)),
            }

        yield run


def _highest_pss(tree: Tree, work: Callable[[], object]) -> float:
    """How many MiB of PSS more than before the tree has at the most while the work is done."""
    before = tree.memory().pss
    seen, done = [before], threading.Event()

    def look() -> None:
        while not done.wait(SAMPLES_EVERY):
            seen.append(tree.memory().pss)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        work()
    finally:
        done.set()
        looking.join()
    return (max(seen) - before) / 1024


def _longest_standstill(running: Running) -> float:
    """Milliseconds, since it was last asked."""
    with smtplib.SMTP(running.host, running.port, source_address=(client(0).address, 0)) as asking:
        asking.ehlo()
        code, text = asking.verify("standstill")
    if code != 250:
        raise LoadError(f"nobody knows how long the loop stood still: {text!r}")
    return float(text.split()[-1])


def _seeing_standstills(server: Server) -> Server:
    """The same with one plugin more."""

    def lay_out(place: Place) -> Command:
        command = server.lay_out(place)
        with changed(place.folder) as plugins:
            plugins["standstill"] = {"use": str(PLUGINS / "standstill.py")}
            plugins["order"].append("standstill")
        return command

    return dataclasses.replace(server, lay_out=lay_out)


WORK = Work("large", "25 MiB messages, alone and ten at once", rows)
