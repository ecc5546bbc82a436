"""The runtime: everything that is the same for all sessions of this process.

Doors, conversations and sessions hold one reference to it instead of a dozen. It decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from gatepost.events import Recorder

if TYPE_CHECKING:
    from gatepost.config import Limits
    from gatepost.message.spool import Spool
    from gatepost.services.clock import Clock
    from gatepost.services.dns.resolver import Resolver
    from gatepost.services.store.store import Store

T = TypeVar("T")


@dataclass(slots=True)
class Runtime:
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

    __slots__ = ("_runtime", "_stopped", "_tasks", "hostname")

    def __init__(self, runtime: Runtime) -> None:
        self.hostname = runtime.hostname
        self._runtime = runtime
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()

    def every(self, seconds: float, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``job()`` every ``seconds`` until the server stops. An error is logged and does not end the series."""
        task = asyncio.get_running_loop().create_task(self._repeat(seconds, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _repeat(self, seconds: float, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await self._runtime.clock.sleep(seconds)
            try:
                await job()
            except BaseException as error:  # a job is a plugin's: even its SystemExit ends nothing but this turn
                if self._stopped or isinstance(error, GeneratorExit):
                    return
                name = getattr(job, "__qualname__", "")
                self._runtime.recorder.event("job_failed", "error", job=name, error=repr(error))

    async def stop(self) -> None:
        """End all jobs."""
        self._stopped = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
