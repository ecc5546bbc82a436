"""Messages of 25 MiB, one at a time and ten at once: more than 500 MB in a full run (a MB is 1,000,000 octets).

Each run has a server of its own that has already received small messages. The rise of memory is measured with the first
large ones: the highest RSS meanwhile minus the RSS before, summed over all processes. CPU and rate are those of the
messages after these. Servers that are slow, or included only for completeness, get 500 MB in all runs together, and
never ten messages at once. "written" is what a server passes to write(2) for files, including files in memory.

The row "watched" is gatepost with a plugin that measures how long the loop stands still (``plugins/standstill.py``),
while ten messages arrive at once and a known client connects every 20 ms. The time of these clients, from connecting to
the reply to QUIT, includes that of their own load, which shares its core with the ten. The highest PSS is sampled in
separate arrivals, because reading it delays the server.
"""

from __future__ import annotations

import dataclasses
import smtplib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from tests.bench.clients import client
from tests.bench.figures import Measure, Sample
from tests.bench.loads import LoadError
from tests.bench.servers import SERVERS
from tests.bench.servers.gatepost import PLUGINS
from tests.bench.servers.running import Command, Place, Running, Server
from tests.bench.tree import Tree
from tests.bench.works import Effort, Row, Run, Work
from tests.bench.works.crowds import Newcomers
from tests.bench.works.policies import changed
from tests.bench.works.traffic import REMEMBERING, Traffic, Trip

CPU = Measure("CPU", "ms a MB")
RATE = Measure("rate", "MB a second")
MEMORY = Measure("memory rise", "MiB")
WRITTEN = Measure("written", "MB a MB")
SAMPLED = Measure("memory rise, PSS", "MiB")
STANDSTILL = Measure("longest standstill of the loop", "ms")
LONGEST = Measure("newcomer served, longest", "ms")

ALONE, TEN = 1, 10
MANY, SOME = 20, 4
"""Messages in a run: 524 and 105 MB."""
OCTETS, QUICK_OCTETS = 25 * 2**20, 8 * 2**20
NEWCOMERS_EVERY = 0.02
SAMPLES_EVERY = 0.02
QUICK_ALONE, QUICK_TEN = ("gatepost", "gatepost-bare", "gatepost-forward", "haraka"), ("gatepost",)
MANY_FROM = ("gatepost", "smtp-sink", "haraka")
SOME_FROM = ("gatepost-bare", "gatepost-forward", "aiosmtpd", "qpsmtpd", "postfix")


def rows(effort: Effort) -> Sequence[Row]:
    """Return the rows: each server with one message at a time, and with ten at once."""
    alone, ten = (QUICK_ALONE, QUICK_TEN) if effort.quick else (MANY_FROM + SOME_FROM, MANY_FROM)
    gatepost = SERVERS["gatepost"]
    return [
        *(Row(name, SERVERS[name], partial(ready, SERVERS[name], ALONE)) for name in alone),
        *(Row(f"{name}, ten at once", SERVERS[name], partial(ready, SERVERS[name], TEN)) for name in ten),
        Row("gatepost, watched", gatepost, partial(watched, seeing_standstills(gatepost))),
    ]


@contextmanager
def ready(server: Server, sessions: int, effort: Effort) -> Iterator[Run]:
    """Send ``sessions`` messages at once, first to measure the rise of memory, then for CPU and rate."""

    def run() -> Sample:
        count = _count(effort, sessions) if server.name in MANY_FROM else SOME
        with _warm(server, effort) as (running, traffic):
            tree = Tree(running.pid)
            rise = _highest_resident(tree, lambda: traffic.bring(*_arrivals(effort, sessions, sessions)))
            return {MEMORY: rise, **_spent(tree, lambda: traffic.bring(*_arrivals(effort, count, sessions)))}

    yield run


@contextmanager
def watched(server: Server, effort: Effort) -> Iterator[Run]:
    """Send ten messages at once, and watch the server from inside (the loop) and from outside (newcomers)."""

    def run() -> Sample:
        # With newcomers the server is never idle, so these arrivals are sent without waiting until it is.
        with _warm(server, effort) as (running, traffic), Newcomers(running.port, NEWCOMERS_EVERY) as newcomers:
            rise = _highest_pss(Tree(running.pid), lambda: traffic.send(*_arrivals(effort, TEN, TEN)))
            newcomers.forget()
            _longest_standstill(running)
            traffic.send(*_arrivals(effort, _count(effort, TEN), TEN))
            standstill = _longest_standstill(running)
            return {SAMPLED: rise, STANDSTILL: standstill, LONGEST: newcomers.seen()["longest"] * 1000}

    yield run


@contextmanager
def _warm(server: Server, effort: Effort) -> Iterator[tuple[Running, Traffic]]:
    """Run a server that has already received small messages, and yield it with its clients."""
    few = dataclasses.replace(effort, triples=100)
    with server.running() as running:
        traffic = Traffic(running, few)
        if server.name in REMEMBERING:
            traffic.introduce()
        traffic.bring("large", 100, "--octets", 2048)
        yield running, traffic


def _arrivals(effort: Effort, count: int, sessions: int) -> tuple[Any, ...]:
    """Return the arguments of ``Traffic.bring`` for ``count`` large messages in ``sessions`` sessions at once."""
    return "large", count, "--sessions", sessions, "--octets", QUICK_OCTETS if effort.quick else OCTETS


def _count(effort: Effort, sessions: int) -> int:
    return max(sessions, SOME) if effort.quick else MANY


def _spent(tree: Tree, work: Callable[[], Trip]) -> Sample:
    written, trip = tree.written(), work()
    megabytes = trip.printed["octets"] / 1e6
    return {
        CPU: trip.cpu * 1000 / megabytes,
        RATE: megabytes / trip.seconds,
        WRITTEN: (tree.written() - written) / 1e6 / megabytes,
    }


def _highest_resident(tree: Tree, work: Callable[[], object]) -> float:
    """Return by how many MiB the RSS of the tree rises at most during the work."""
    tree.reset_peak()
    before = tree.memory().resident
    work()
    return (tree.memory().peak - before) / 1024


def _highest_pss(tree: Tree, work: Callable[[], object]) -> float:
    """Return the same for PSS, as far as samples show it: the kernel keeps no peak of it."""
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
    """Return the longest standstill since the last call, in milliseconds."""
    with smtplib.SMTP(running.host, running.port, source_address=(client(0).address, 0)) as asking:
        asking.ehlo()
        code, text = asking.verify("standstill")
    if code != 250:
        raise LoadError(f"nobody knows how long the loop stood still: {text!r}")
    return float(text.split()[-1])


def seeing_standstills(server: Server) -> Server:
    """Return the server with the plugin that measures standstills."""

    def lay_out(place: Place) -> Command:
        command = server.lay_out(place)
        with changed(place.folder) as plugins:
            plugins["standstill"] = {"use": str(PLUGINS / "standstill.py")}
            plugins["order"].append("standstill")
        return command

    return dataclasses.replace(server, lay_out=lay_out)


WORK = Work("large", "messages of 25 MiB (8 MiB in a quick run), one at a time and ten at once", rows)
