"""The client's side of SMTP for loads, as cheap as Python can make it: no parser, no stream, prepared octets.

A session holds a dialogue: a generator that yields steps, each with the octets to send and the codes of the replies to
await, and that is sent these replies. A reply with another code ends the load, since failures must not count as work.
This module knows nothing of messages and of time. RFC 5321 §4.2 for replies.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Generator, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeAlias, TypeVar

import uvloop

from tests.bench.servers.running import HOST

Result = TypeVar("Result")


class Step(NamedTuple):
    """Octets to send and the codes of the replies to them. An empty code leaves the check to the dialogue."""

    octets: bytes
    codes: Sequence[bytes]


Dialogue: TypeAlias = Generator[Step, Sequence[bytes], None]


class SessionError(Exception):
    """The server did not do its part."""


class Session(asyncio.Protocol):
    """One connection, which is closed at the end of its dialogue. Then ``ended`` is done or has failed."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._dialogue = dialogue
        self._step = next(dialogue)
        self._replies: list[bytes] = []
        self._part = b""

    def connection_made(self, transport: Any) -> None:
        """Send the octets of the first step, of which there are none if the server speaks first."""
        self._transport = transport
        if self._step.octets:
            transport.write(self._step.octets)

    def data_received(self, data: bytes) -> None:
        """Collect the replies of the step, and take the next step after the last of them."""
        *lines, self._part = (self._part + data).split(b"\r\n")
        for line in lines:
            if line[3:4] != b"-":
                self._replies.append(line)
        if len(self._replies) >= len(self._step.codes):
            self._go_on()

    def _go_on(self) -> None:
        replies, self._replies = self._replies, []
        try:
            _check(self._step, replies)
            self._step = self._dialogue.send(replies)
        except StopIteration:
            self._end(None)
        except SessionError as error:
            self._end(error)
        else:
            self._transport.write(self._step.octets)

    def _end(self, error: SessionError | None) -> None:
        self._transport.close()
        if self.ended.done():
            return
        if error:
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail, unless the dialogue has ended."""
        self._end(SessionError(f"the server closed the connection ({exc or 'without an error'}) {_after(self._step)}"))


def _check(step: Step, replies: Sequence[bytes]) -> None:
    if len(replies) > len(step.codes):
        raise SessionError(f"one reply too many: {replies[-1]!r} {_after(step)}")
    for reply, code in zip(replies, step.codes, strict=True):
        if not reply.startswith(code):
            raise SessionError(f"expected {code.decode()}, got {reply!r} {_after(step)}")


def _after(step: Step) -> str:
    return f"after {step.octets[:80]!r}"


async def hold(port: int, source: str, dialogue: Dialogue) -> None:
    """Hold a dialogue with the server on a port of 127.0.0.1, from the loopback address ``source``.

    Raises SessionError, or OSError if the server cannot be reached.
    """
    made = socket.socket()
    made.bind((source, 0))
    made.connect((HOST, port))  # the backlog accepts it at once; through the loop it would take longer
    made.setblocking(False)
    _, session = await asyncio.get_running_loop().create_connection(lambda: Session(dialogue), sock=made)
    await session.ended


async def _spinning(load: Coroutine[Any, Any, Result]) -> Result:
    os.nice(10)  # programs beside the server share this core and take precedence
    loop = asyncio.get_running_loop()

    def again() -> None:
        loop.call_soon(again)

    again()
    return await load


async def side_by_side(count: int, work: Callable[[], Coroutine[Any, Any, None]]) -> float:
    """Run ``work()`` ``count`` times at once and return the seconds until all have ended. Raises the first failure."""
    begun = perf_counter()  # the loop's clock is too coarse
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(work())
    except ExceptionGroup as several:
        raise several.exceptions[0] from None
    return perf_counter() - begun


def main(load: Coroutine[Any, Any, Result], *, spinning: bool = False) -> Result:
    """Run a load. A failure of the server ends the program with status 1 and one line.

    A spinning load never sleeps; it polls its sockets. On a virtual machine, waking a sleeping client on the other core
    costs the server 5 to 8 µs of kernel time in each write, which clients elsewhere in a network would not cost it. So
    a load spins if the figure is CPU time, whichever the server. It does not spin if the figure is time on the clock,
    of which waking is a part.
    """
    try:
        return uvloop.run(_spinning(load) if spinning else load)
    except (SessionError, OSError) as error:
        raise SystemExit(str(error)) from None
