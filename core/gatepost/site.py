"""The site: everything that is the same for all sessions of this process.

Doors, conversations and sessions hold one reference to it instead of a dozen. It decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from gatepost.config import Limits
    from gatepost.rulings import Record
    from gatepost.services.clock import Clock
    from gatepost.services.resolver import Resolver
    from gatepost.services.store import Store
    from gatepost.spool import Spool

T = TypeVar("T")


class Recorder(Protocol):
    """Where records and other events go: the log and the journal in a server, a list in tests."""

    def keeps(self, event: str) -> bool:
        """False when records of ``event`` would be thrown away, so that they need not be made."""

    def record(self, record: Record) -> None:
        """Keep one record. Never blocks, never raises."""

    def event(self, name: str, level: str = "info", **facts: object) -> None:
        """Say that something happened that is no ruling: a plugin failed, a circuit opened."""


class Log(Protocol):
    """What a plugin gets when its constructor asks for ``log``: structured lines that bear its name."""

    def info(self, event: str, **facts: object) -> None:
        """What an administrator may want to know."""

    def warning(self, event: str, **facts: object) -> None:
        """What an administrator should look at."""

    def error(self, event: str, **facts: object) -> None:
        """What does not work."""


class Server(Protocol):
    """What the ``startup`` and ``shutdown`` hooks see of the process."""

    hostname: str

    def every(self, seconds: float, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``job()`` every ``seconds`` until the server stops. An error is logged and does not end the series."""


@dataclass(slots=True)
class Site:
    """What doors, conversations and sessions need from the process they run in."""

    hostname: str
    clock: Clock
    resolver: Resolver
    marks: Store
    """The core's own namespace of the store: recipients that were already taken."""
    spool: Spool
    limits: Limits
    recorder: Recorder
    line_ends: str = "normalize"
    look_for_marks_at: float = 0.0
    """Until then, by the monotonic clock, there are no ``marks``: somebody has looked a moment ago."""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    """Tasks of the process, not of a connection. Stopping waits for them."""
    delivering: set[object] = field(default_factory=set)
    """Who hands a message over in the task of its connection. Stopping waits for them too."""

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work`` as a task of the process, not of a connection. Stopping waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    @property
    def is_busy(self) -> bool:
        """True while there is something that stopping waits for."""
        return bool(self.tasks or self.delivering)


class Jobs:
    """What the plugins of one policy repeat. It is the ``server`` that ``startup`` and ``shutdown`` are given."""

    __slots__ = ("_site", "_stopped", "_tasks", "hostname")

    def __init__(self, site: Site) -> None:
        self.hostname = site.hostname
        self._site = site
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()

    def every(self, seconds: float, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``job()`` every ``seconds`` until the server stops. An error is logged and does not end the series."""
        task = asyncio.get_running_loop().create_task(self._repeat(seconds, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _repeat(self, seconds: float, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await self._site.clock.sleep(seconds)
            try:
                await job()
            except BaseException as error:  # a job is a plugin's: even its SystemExit ends nothing but this turn
                if self._stopped or isinstance(error, GeneratorExit):
                    return
                name = getattr(job, "__qualname__", "")
                self._site.recorder.event("job_failed", "error", job=name, error=repr(error))

    async def stop(self) -> None:
        """End all jobs."""
        self._stopped = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
