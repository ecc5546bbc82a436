"""Known clients that connect at regular intervals and send a message, to measure how quickly they are served.

At first each client introduces itself with a message; then the load prints an empty object. From now on a client
connects every few seconds, whether or not those before it have gone, so that a standstill of the server shows in the
times of all clients that wait. For each line of standard input the load prints how many clients were served since the
line before and, if there were any, the median, the 99th percentile and the longest of their seconds, from connecting to
the reply to QUIT. It ends with its input.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
from time import perf_counter

import click
import orjson

from tests.bench.clients import client
from tests.bench.loads.dialogues import lines, messages, patient
from tests.bench.loads.session import hold, main

COUNT = 20
"""The number of clients; after the last one the first comes again."""


class Newcomers:
    """The clients, and the seconds in which they were served."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._clients = [lines(client(number)) for number in range(COUNT)]
        self._seconds: list[float] = []

    async def introduce(self) -> None:
        """Make all clients known to the server."""
        for each in self._clients:
            await hold(self._port, each.address, patient(each))

    async def come(self, every: float) -> None:
        """Let clients come, one every ``every`` seconds, until cancelled. Raises the first failure of a client."""
        begun = perf_counter()
        try:
            async with asyncio.TaskGroup() as group:
                for number in itertools.count():
                    await asyncio.sleep(begun + number * every - perf_counter())
                    group.create_task(self._serve(number))
        except ExceptionGroup as several:
            raise several.exceptions[0] from None

    async def _serve(self, number: int) -> None:
        own = self._clients[number % COUNT]
        begun = perf_counter()
        await hold(self._port, own.address, messages(own, [own], pipelined=False, accepted=lambda: None))
        self._seconds.append(perf_counter() - begun)

    def seen(self) -> dict[str, float]:
        """Return how clients were served since the last call."""
        seconds, self._seconds = sorted(self._seconds), []
        if not seconds:
            return {"served": 0}
        p99 = seconds[int(0.99 * len(seconds))]
        return {"served": len(seconds), "p50": statistics.median(seconds), "p99": p99, "longest": seconds[-1]}


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--every", type=float, default=0.1, help="seconds from one client to the next")
def program(port: int, every: float) -> None:
    """Let known clients come; print how they were served for each line of standard input."""

    async def obey() -> None:
        newcomers = Newcomers(port)
        await newcomers.introduce()
        click.echo(b"{}")
        coming = asyncio.create_task(newcomers.come(every))
        while await asyncio.to_thread(sys.stdin.readline):
            if coming.done():
                coming.result()
            click.echo(orjson.dumps(newcomers.seen()))
        coming.cancel()

    main(obey())


if __name__ == "__main__":
    program()
