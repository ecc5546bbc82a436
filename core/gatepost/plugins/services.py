"""The services that a plugin's constructor may ask for.

Store and log belong to the instance that asks: no plugin sees the data of another, and each line of the log names its
author.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gatepost.options import ListFiles, Options
from gatepost.services.clock import Clock
from gatepost.services.dns import Resolver
from gatepost.services.host import Log
from gatepost.services.next_hop import NextHops
from gatepost.services.store import Backend

SERVICES = ("options", "dns", "store", "clock", "next_hop", "log", "name")
"""The arguments that a constructor may name."""


@dataclass(frozen=True, slots=True)
class Services:
    """The services of one server, which all plugins share."""

    dns: Resolver
    store: Backend
    clock: Clock
    next_hop: NextHops
    log: Callable[[str], Log]
    files: ListFiles | None = None
    """The list files of the server, which looks at them. No plugin asks for these: its options have its files."""

    def get(self, wanted: str, name: str, options: Options | None) -> Any:
        """Return the argument ``wanted`` of the plugin instance ``name``. Raises ``KeyError`` for an unknown one."""
        match wanted:
            case "options":
                return options
            case "name":
                return name
            case "store":
                return self.store.namespace(name)
            case "log":
                return self.log(name)
            case "dns" | "clock" | "next_hop":
                return getattr(self, wanted)
        raise KeyError(wanted)
