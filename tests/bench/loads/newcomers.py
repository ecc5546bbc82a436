"""Good clients that connect anew and send a message: how long does it take until they are served?

They are known: at first each introduces itself with a message, then an empty object is printed. From now on one comes
in every so many seconds, whether or not those before it have gone: a server that stands still is seen by all who wait
for it meanwhile. For each line of standard input it prints what has been since the line before: how many were served,
and if any were, the median, the 99th percentile and the longest of their seconds, from connecting to the reply to QUIT.
It ends with its input.
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
"""How many there are; then the first comes again."""


class Newcomers:
    """The clients, and the seconds of each that was served."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._clients = [lines(client(number)) for number in range(COUNT)]
        self._seconds: list[float] = []

    async def introduce(self) -> None:
        """Make them known."""
        for each in self._clients:
            await hold(self._port, each.address, patient(each))

    async def come(self, every: float) -> None:
        """Come for ever. Raises what went wrong with one of them."""
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
        """What has been since the last call."""
        seconds, self._seconds = sorted(self._seconds), []
        if not seconds:
            return {"served": 0}
        p99 = seconds[int(0.99 * len(seconds))]
        return {"served": len(seconds), "p50": statistics.median(seconds), "p99": p99, "longest": seconds[-1]}


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--every", type=float, default=0.1, help="seconds from one to the next")
def program(port: int, every: float) -> None:
    """Let good clients come; print how they were served for each line of standard input."""

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
