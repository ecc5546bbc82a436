"""The load of clients that connect, await the greeting and leave."""

from __future__ import annotations

import click
import orjson

from tests.bench.clients import client
from tests.bench.loads.dialogues import leaving
from tests.bench.loads.session import hold, main, side_by_side


async def leave(port: int, sources: list[str], sessions: int) -> float:
    """Connect and leave, once from each source. Returns the seconds until the last client has left."""
    left = iter(sources)

    async def work() -> None:
        for source in left:
            await hold(port, source, leaving())

    return await side_by_side(sessions, work)


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--count", type=int, required=True, help="connections to make")
@click.option("--clients", type=int, required=True, help="how many different ones there are")
@click.option("--first", type=int, default=0, help="number of the client to begin with")
@click.option("--sessions", type=int, required=True, help="at once")
@click.option("--spinning", is_flag=True, help="never sleep")
def program(port: int, count: int, clients: int, first: int, sessions: int, spinning: bool) -> None:
    """Connect and leave; print the seconds in total."""
    sources = [client(number % clients).address for number in range(first, first + count)]
    click.echo(orjson.dumps({"seconds": main(leave(port, sources, sessions), spinning=spinning)}))


if __name__ == "__main__":
    program()
