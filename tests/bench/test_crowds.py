"""Clients that are held are held, and those that want to be served meanwhile are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.bench.loads import LoadError
from tests.bench.servers import SERVERS
from tests.bench.servers.running import Running
from tests.bench.tree import Tree
from tests.bench.works import QUICK, large
from tests.bench.works.crowds import Crowd, Newcomers, grown
from tests.bench.works.policies import hold_strangers

GATEPOST = SERVERS["gatepost"]


@contextmanager
def holding() -> Iterator[Running]:
    """A gatepost that holds strangers for a minute."""
    if why := GATEPOST.missing():
        pytest.skip(why)
    with GATEPOST.running() as running:
        hold_strangers(running, 60)
        yield running


def test_strangers_are_held_while_known_clients_are_served() -> None:
    if why := GATEPOST.missing():
        pytest.skip(why)
    with GATEPOST.running() as running, Newcomers(running.port, 0.02) as newcomers, Crowd(running.port, 2000) as crowd:
        hold_strangers(running, 60)
        newcomers.forget()
        crowd.grow(200)
        assert newcomers.seen()["longest"] < 30


def test_a_crowd_is_counted_in_stages() -> None:
    with holding() as running, Crowd(running.port, 2000) as crowd:
        sample = grown(crowd, Tree(running.pid), [100, 400], QUICK)
    per_client = {measure.at: value for measure, value in sample.items() if measure.name == "memory"}
    assert per_client.keys() == {100, 400}
    assert 0.5 < per_client[400] < 50


def test_clients_that_are_not_held_are_no_figure() -> None:
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
