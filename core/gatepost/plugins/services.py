"""The services that a plugin's constructor may ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gatepost.options import Options
from gatepost.services.clock import Clock
from gatepost.services.dns import Resolver
from gatepost.services.host import Log
from gatepost.services.next_hop import NextHops
from gatepost.services.store import Backend


@dataclass(frozen=True, slots=True)
class Services:
    """What a plugin may ask for in its constructor, besides ``options`` and ``name``."""

    dns: Resolver
    store: Backend
    clock: Clock
    next_hop: NextHops
    log: Callable[[str], Log]

    def get(self, wanted: str, name: str, options: Options | None) -> Any:
        """The service called ``wanted``, for the plugin instance ``name``. Raises ``KeyError`` when there is none."""
        offered: dict[str, Callable[[], Any]] = {
            "options": lambda: options,
            "name": lambda: name,
            "dns": lambda: self.dns,
            "store": lambda: self.store.namespace(name),
            "clock": lambda: self.clock,
            "next_hop": lambda: self.next_hop,
            "log": lambda: self.log(name),
        }
        return offered[wanted]()


SERVICES = ("options", "dns", "store", "clock", "next_hop", "log", "name")
