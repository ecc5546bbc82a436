"""The load of large messages, one at a time or several at once, each on a new connection and from another client.

A message is MIME with one attachment in base64, as large messages usually are. It is sent as fast as the system accepts
its octets.
"""

from __future__ import annotations

import base64
import os
import random

import click
import orjson

from tests.bench.clients import client
from tests.bench.loads.dialogues import DATA, GREETING, QUIT, Lines, lines
from tests.bench.loads.session import Dialogue, Step, hold, main, side_by_side

_HEAD = b"""\
From: <sender@client.test>
To: <user@example.test>
Subject: benchmark
Date: Mon, 05 Oct 2026 00:00:00 +0000
Message-Id: <large@client.test>
MIME-Version: 1.0
Content-Type: image/tiff
Content-Transfer-Encoding: base64

""".replace(b"\n", b"\r\n")
_LINE = 57
"""Octets of the attachment in each line of base64 (RFC 2045 §6.8)."""


def message(octets: int) -> bytes:
    """Return a message of at least ``octets`` octets, at most a line longer, with its final dot."""
    some = base64.encodebytes(random.Random(5321).randbytes(1000 * _LINE)).replace(b"\n", b"\r\n")
    line = some.index(b"\n") + 1
    rounds, rest = divmod(max(octets - len(_HEAD), 0), len(some))
    return _HEAD + some * rounds + some[: -(-rest // line) * line] + b".\r\n"


def sending(own: Lines, text: bytes) -> Dialogue:
    """Send this message."""
    yield GREETING
    yield own.hello
    yield own.mail
    yield own.recipient
    yield DATA
    yield Step(text, (b"250",))
    yield QUIT


@click.command()
@click.option("--port", type=int, required=True)
@click.option("--count", type=int, required=True, help="messages to send")
@click.option("--clients", type=int, required=True, help="how many different ones there are")
@click.option("--first", type=int, default=0, help="number of the client to begin with")
@click.option("--sessions", type=int, default=1, help="at once")
@click.option("--octets", type=int, default=25 * 2**20, help="of each message")
def program(port: int, count: int, clients: int, first: int, sessions: int, octets: int) -> None:
    """Send messages; print their octets in total and the seconds from the first connection to the last reply."""
    os.nice(10)  # a load that measures how others are served meanwhile takes precedence
    text = message(octets)
    numbers = iter(range(first, first + count))

    async def work() -> None:
        for number in numbers:
            own = lines(client(number % clients))
            await hold(port, own.address, sending(own, text))

    click.echo(orjson.dumps({"octets": count * len(text), "seconds": main(side_by_side(sessions, work))}))


if __name__ == "__main__":
    program()
