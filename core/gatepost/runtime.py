"""The runtime: what all sessions of this process share.

Doors, conversations and sessions hold one reference to it instead of a dozen. It decides nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from gatepost.events import Recorder

if TYPE_CHECKING:
    from gatepost.config import Limits
    from gatepost.message import Spool
    from gatepost.services.clock import Clock
    from gatepost.services.dns import Resolver
    from gatepost.services.store import Store

T = TypeVar("T")


class Handover(Protocol):
    """A transaction that is handing a message over, as far as stopping needs it."""

    def holder(self) -> dict[str, object]:
        """Return the facts that name what is waited for: the plugin, the session and its client."""

    def is_overdue(self, now: float) -> bool:
        """Return True when its limits are over and the plugin goes on all the same."""


@dataclass(slots=True)
class Runtime:
    """The services, limits and tasks of the process that doors, conversations and sessions run in."""

    hostname: str
    clock: Clock
    resolver: Resolver
    store: Store
    """The core's own namespace of the store: recipients that were taken when others of their message were not."""
    spool: Spool
    limits: Limits
    recorder: Recorder
    line_ends: str = "normalize"
    trusted_results: frozenset[str] = frozenset()
    """The authserv-ids, in lower case, that only we and servers behind us may use, besides ``hostname``."""
    none_taken_until: float = 0.0
    """Time of the monotonic clock until which ``store`` counts as empty, because another session has just looked."""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    """Tasks of the process rather than of a connection. Stopping waits for them."""
    delivering: set[Handover] = field(default_factory=set)
    """The transactions that are handing a message over. Stopping waits for them too."""

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work`` as a task of the process rather than of a connection. Stopping waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    @property
    def is_busy(self) -> bool:
        """True while stopping has something to wait for."""
        return bool(self.tasks or self.delivering)
