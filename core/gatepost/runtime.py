"""The runtime: everything that is the same for all sessions of this process.

Doors, conversations and sessions hold one reference to it instead of a dozen. It decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from gatepost.events import Recorder

if TYPE_CHECKING:
    from gatepost.config import Limits
    from gatepost.message import Spool
    from gatepost.services.clock import Clock
    from gatepost.services.dns import Resolver
    from gatepost.services.store import Store

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
