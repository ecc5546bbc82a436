"""Clients that connect and stay: strangers that are silent from the start, or known clients after EHLO.

A stranger has an address that no client has had before; known clients are those of ``clients.py``. Two loads share
them: one holds those with even numbers, the other those with odd numbers.

Each line of standard input is a number. The load lets clients connect at the given rate until it holds so many. Then it
prints how many it holds, how many of all the server has greeted or dropped so far, and the seconds it took. It ends
with its input.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from time import perf_counter

import click
import orjson

from tests.bench.clients import client
from tests.bench.loads.dialogues import GREETING, lines
from tests.bench.loads.session import Dialogue, Step, hold, main
from tests.bench.servers.running import raise_descriptor_limit

FIRST_STRANGER = int.from_bytes((127, 100, 0, 0), "big")
"""The first address of strangers, beyond all addresses of ``clients.py``."""

_FOREVER = Step(b"", (b"a reply that never comes",))
_NAP = 0.002
"""The shortest time in seconds that is worth sleeping."""


def stranger(number: int) -> str:
    """Return the address of a stranger."""
    return ".".join(map(str, (FIRST_STRANGER + number).to_bytes(4, "big")))


def silent(here: Callable[[], None]) -> Dialogue:
    """Say nothing."""
    here()
    yield _FOREVER


def idle(number: int, here: Callable[[], None]) -> Dialogue:
    """Await the greeting, send EHLO, and nothing more."""
    yield GREETING
    yield lines(client(number)).hello
    here()
    yield _FOREVER


class Crowd:
    """The clients that are held, with every second number from ``first`` on; ``rate`` of them connect per second."""

    def __init__(self, port: int, first: int, rate: float, *, greeted: bool) -> None:
        self._port = port
        self._first = first
        self._rate = rate
        self._greeted = greeted
        self._clients: list[asyncio.Task[None]] = []
        self._here = asyncio.Semaphore(0)

    async def grow(self, count: int) -> dict[str, float]:
        """Hold ``count`` clients."""
        begun, before = perf_counter(), len(self._clients)
        for number in range(before, count):
            self._clients.append(asyncio.create_task(self._come(self._first + 2 * number)))
            ahead = (number - before) / self._rate - (perf_counter() - begun)
            if ahead > _NAP:
                await asyncio.sleep(ahead)
        for _ in range(before, count):
            await self._here.acquire()
        seconds = perf_counter() - begun
        return {"held": count, "lost": sum(each.done() for each in self._clients), "seconds": seconds}

    async def _come(self, number: int) -> None:
        here = self._here.release
        address, dialogue = (
            (client(number).address, idle(number, here)) if self._greeted else (stranger(number), silent(here))
        )
        try:
            await hold(self._port, address, dialogue)
        finally:
            here()  # a client that failed counts as here, so that ``grow`` does not wait for it


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--first", type=int, default=0, help="number of the first client: 0, or 1 for the rest of them")
@click.option("--rate", type=float, default=1000, help="new clients per second")
@click.option("--greeted", is_flag=True, help="known clients that say EHLO, not strangers")
def program(port: int, first: int, rate: float, greeted: bool) -> None:
    """Hold as many clients as the last line of standard input says."""
    raise_descriptor_limit()
    os.nice(10)  # a load that measures how others are served meanwhile takes precedence

    async def obey() -> None:
        crowd = Crowd(port, first, rate, greeted=greeted)
        while line := await asyncio.to_thread(sys.stdin.readline):
            click.echo(orjson.dumps(await crowd.grow(int(line))))

    main(obey())


if __name__ == "__main__":
    program()
