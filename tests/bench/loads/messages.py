"""The load of 1 KiB messages, one or many per connection, as fast as the server takes them or at a given rate.

Without ``--rate`` a number of sessions is kept busy. With it, sessions begin at random times that do not depend on the
server (a Poisson process with a fixed seed), and the time of a message is counted from when it was due, so that a
standstill of the server shows in the times of all clients that wait. The time ends with the reply to the final dot.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
from collections.abc import Iterator
from time import perf_counter

import click
import orjson

from tests.bench.clients import client
from tests.bench.loads.dialogues import Lines, lines, messages, patient
from tests.bench.loads.session import hold, main, side_by_side

SEED = 5321


class Load:
    """Sends messages and records the seconds of each, from when its client was due or from the message before."""

    def __init__(self, port: int, clients: int, first: int, each: int, *, pipelined: bool, introducing: bool) -> None:
        self._port = port
        self._clients = [lines(client(number)) for number in range(clients)]
        self._first = first
        self._each = each
        self._pipelined = pipelined
        self._introducing = introducing
        self.times: list[float] = []

    async def as_fast_as_it_goes(self, count: int, sessions: int) -> float:
        """Send ``count`` messages over ``sessions`` sessions at once. Returns the seconds until all have ended."""
        numbers = iter(range(self._first, self._first + count, self._each))

        async def work() -> None:
            for number in numbers:
                letters = min(self._each, self._first + count - number)
                await self._session(number, letters, perf_counter())

        return await side_by_side(sessions, work)

    async def at_rate(self, count: int, rate: float) -> float:
        """Send ``count`` messages, ``rate`` per second on average. Returns the seconds until all have ended."""
        gaps = random.Random(SEED)
        numbers = itertools.count(self._first)
        begun = perf_counter()

        async def work(due: float) -> None:
            await asyncio.sleep(due - perf_counter())
            await self._session(next(numbers), 1, due)

        dues = itertools.accumulate((gaps.expovariate(rate) for _ in range(count)), initial=begun)
        return await side_by_side(count, lambda: work(next(dues)))

    async def _session(self, number: int, letters: int, due: float) -> None:
        last = due

        def accepted() -> None:
            nonlocal last
            before, last = last, perf_counter()
            self.times.append(last - before)

        own = self._lines(number)
        envelopes = map(self._lines, range(number, number + letters))
        dialogue = (
            patient(own)
            if self._introducing
            else messages(own, envelopes, pipelined=self._pipelined, accepted=accepted)
        )
        await hold(self._port, own.address, dialogue)

    def _lines(self, number: int) -> Lines:
        return self._clients[number % len(self._clients)]


def percentiles(times: list[float]) -> Iterator[tuple[str, float]]:
    """Yield the median and the 99th percentile, if there are enough times for them."""
    if len(times) > 1:
        cuts = statistics.quantiles(times, n=100, method="inclusive")
        yield from (("p50", cuts[49]), ("p99", cuts[98]))


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--count", type=int, required=True, help="messages to send")
@click.option("--clients", type=int, required=True, help="how many different ones there are")
@click.option("--first", type=int, default=0, help="number of the client to begin with")
@click.option("--sessions", type=int, required=True, help="at once")
@click.option("--each", type=int, default=1, help="messages on one connection")
@click.option("--pipelined", is_flag=True)
@click.option("--introducing", is_flag=True, help="one message from each client, which repeats a greylisted recipient")
@click.option("--rate", type=float, help="messages per second, whatever the server does")
@click.option("--spinning", is_flag=True, help="never sleep")
def program(
    port: int,
    count: int,
    clients: int,
    first: int,
    sessions: int,
    each: int,
    pipelined: bool,
    introducing: bool,
    rate: float | None,
    spinning: bool,
) -> None:
    """Send messages; print the seconds in total, and percentiles of the seconds per message."""

    async def send() -> dict[str, float]:
        load = Load(port, clients, first, each, pipelined=pipelined, introducing=introducing)
        took = await (load.at_rate(count, rate) if rate else load.as_fast_as_it_goes(count, sessions))
        return {"seconds": took} | dict(percentiles(load.times))

    click.echo(orjson.dumps(main(send(), spinning=spinning)))


if __name__ == "__main__":
    program()
