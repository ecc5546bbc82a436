"""Crowds stay connected and are counted, and known clients are served in the meantime."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.bench.figures import Measure
from tests.bench.loads import LoadError
from tests.bench.servers import SERVERS
from tests.bench.servers.running import Running
from tests.bench.tree import Memory, Tree
from tests.bench.works import QUICK, crowds, large
from tests.bench.works.crowds import Crowd, Newcomers, grown
from tests.bench.works.held import DELAY
from tests.bench.works.policies import hold_strangers
from tests.patience import PATIENCE

GATEPOST = SERVERS["gatepost"]


@contextmanager
def holding() -> Iterator[Running]:
    """Run a gatepost that holds strangers for longer than a test takes."""
    if why := GATEPOST.missing():
        pytest.skip(why)
    with GATEPOST.running() as running:
        hold_strangers(running, DELAY)
        yield running


def wait_until_served(newcomers: Newcomers) -> None:
    """Wait until at least one newcomer was served, for much less time than strangers are held."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            newcomers.seen()
            return
        except LoadError as error:
            if time.monotonic() > end or str(error) != "no newcomer was served":
                raise


def test_strangers_are_held_while_known_clients_are_served() -> None:
    if why := GATEPOST.missing():
        pytest.skip(why)
    with GATEPOST.running() as running, Newcomers(running.port, 0.02) as newcomers, Crowd(running.port, 2000) as crowd:
        hold_strangers(running, DELAY)
        crowd.grow(200)
        newcomers.forget()
        wait_until_served(newcomers)
        crowd.grow(200)  # raises LoadError if any of them was let go


def test_a_crowd_is_counted_in_stages() -> None:
    with holding() as running, Crowd(running.port, 2000) as crowd:
        sample = grown(crowd, Tree(running.pid), [100, 400], QUICK)
        assert Tree(running.pid).sockets() >= 400
    assert {measure.at for measure in sample if measure.name == "memory"} == {100, 400}


class CalculableServer(Crowd, Tree):
    """A crowd and its server in one, which takes 3 KiB and 50 µs for each client, and 60 KiB once for the first."""

    def __init__(self) -> None:
        self.held = 0

    def grow(self, count: int) -> None:
        self.held = count

    def sockets(self) -> int:
        return 5 + self.held

    def memory(self) -> Memory:
        return Memory(pss=10_000 + 3 * self.held + (60 if self.held else 0))

    def cpu(self) -> float:
        return 1.0 + self.held * 50e-6


def test_the_figures_of_a_stage_are_means_of_its_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowds, "SETTLING", 0.0)
    monkeypatch.setattr(crowds, "_rest", lambda tree, seconds: 0.002)
    server = CalculableServer()
    assert grown(server, server, [100, 400], QUICK) == {
        Measure("CPU", "µs each", 100): pytest.approx(50),
        Measure("CPU", "µs each", 400): pytest.approx(50),
        Measure("memory", "KiB each", 100): pytest.approx(3.6),
        Measure("memory", "KiB each", 400): pytest.approx(3.15),
        Measure("memory, further", "KiB each", 400): pytest.approx(3),
        Measure("memory in all", "MiB", 100): pytest.approx(10_360 / 1024),
        Measure("memory in all", "MiB", 400): pytest.approx(11_260 / 1024),
        Measure("holding", "CPU ms in 10 s", 400): pytest.approx(20),
    }


def test_a_crowd_that_is_not_held_gives_no_figures() -> None:
    with (
        pytest.raises(LoadError, match="clients were not held"),
        SERVERS["gatepost-bare"].running() as running,
        Crowd(running.port, 2000) as crowd,
    ):
        grown(crowd, Tree(running.pid), [100], QUICK)


def test_idle_clients_have_said_ehlo() -> None:
    with SERVERS["gatepost-bare"].running() as running, Crowd(running.port, 2000, greeted=True) as crowd:
        crowd.grow(100)
        crowd.grow(200)


def test_the_loop_is_watched_while_large_messages_arrive() -> None:
    if why := GATEPOST.missing():
        pytest.skip(why)
    with large.watched(large.seeing_standstills(GATEPOST), QUICK) as run:
        sample = run()
    assert sample[large.STANDSTILL] >= 1
    assert sample[large.LONGEST] > 0
