"""gatepost: a mail gate. This module is the public API: everything that a plugin may import.

Each name is imported when it is first used (PEP 562), so that ``import gatepost`` costs nothing and no module of the
package is imported only because another needs it. Modules of the package never import from here.
"""

# The layout. Imports run down the page, never up; import-linter enforces this (pyproject.toml), and
# docs/architecture.md has the picture and the path of a message through it.
#
#   cli/            the command line: a file for each command
#   testing/        the test kit for plugin authors
#   rehearsal/      policies without sockets: try, check, and what the kit drives
#   server/         from a configuration to listening sockets, and back in good order
#   doors/          wire protocols: octets and timers
#   conversation/   one session: commands, a transaction, its records, the handover
#   plugins/        from entry points and TOML to a loaded policy
#   gate/           asks the plugins of a phase, and rules
#   hookspecs       the phases, as a plugin implements them
#   session         a client and its envelope, as plugins see them
#   runtime         what all sessions of a process share
#   telemetry/      log, records and journal: what the server tells its administrator
#   message/        reads DATA, keeps it, shows it to plugins
#   concurrency/    eager tasks, deadlines, threads
#   rulings         what was ruled in a phase, and why
#   services/       what a plugin may ask for: clock, DNS, store, next hop
#   config/         gatepost.toml as frozen values, with every mistake in it
#   replies         every reply that a client can get
#   address         mailboxes and paths
#   write_guard     who may not change a session
#   options/        values of a plugin's table
#   errors          the tree of exceptions
#   events          the events of the log, and the protocol of recorders
#   ip              addresses of clients as text and as numbers
#   ids             ids that sort by time
#   decisions       accept, deny, defer, points

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatepost.address import Address
    from gatepost.config import parse_toml
    from gatepost.decisions import Action, Decision, accept, defer, deny, points
    from gatepost.errors import (
        AddressError,
        DNSError,
        DNSTemporaryError,
        GatepostError,
        HandoverEndedError,
        ListFileError,
        NextHopError,
        NextHopRefusedError,
        NextHopUnreachableError,
        PluginError,
        SpoolError,
        StoreError,
    )
    from gatepost.hookspecs import HOOKS_VERSION, Answer, QueueAnswer, hookimpl
    from gatepost.message import Headers, Message
    from gatepost.options import Duration, Network, Options, Secret, Size, WatchedFile
    from gatepost.rulings import Receipt, Ruling, Said
    from gatepost.services.clock import Clock
    from gatepost.services.dns import Resolver, reversed_address
    from gatepost.services.host import Log, Server
    from gatepost.services.next_hop import Answer as NextHopAnswer
    from gatepost.services.next_hop import Delivery, NextHop, NextHops, Target
    from gatepost.services.store import Store
    from gatepost.session import Envelope, Later, Session

__all__ = [
    "HOOKS_VERSION",
    "Action",
    "Address",
    "AddressError",
    "Answer",
    "Clock",
    "DNSError",
    "DNSTemporaryError",
    "Decision",
    "Delivery",
    "Duration",
    "Envelope",
    "GatepostError",
    "HandoverEndedError",
    "Headers",
    "Later",
    "ListFileError",
    "Log",
    "Message",
    "Network",
    "NextHop",
    "NextHopAnswer",
    "NextHopError",
    "NextHopRefusedError",
    "NextHopUnreachableError",
    "NextHops",
    "Options",
    "PluginError",
    "QueueAnswer",
    "Receipt",
    "Resolver",
    "Ruling",
    "Said",
    "Secret",
    "Server",
    "Session",
    "Size",
    "SpoolError",
    "Store",
    "StoreError",
    "Target",
    "WatchedFile",
    "accept",
    "defer",
    "deny",
    "hookimpl",
    "parse_toml",
    "points",
    "reversed_address",
]

_HOMES = {
    "Address": "address",
    "parse_toml": "config",
    "Action": "decisions",
    "Decision": "decisions",
    "accept": "decisions",
    "defer": "decisions",
    "deny": "decisions",
    "points": "decisions",
    "AddressError": "errors",
    "DNSError": "errors",
    "DNSTemporaryError": "errors",
    "GatepostError": "errors",
    "ListFileError": "errors",
    "HandoverEndedError": "errors",
    "NextHopError": "errors",
    "NextHopRefusedError": "errors",
    "NextHopUnreachableError": "errors",
    "PluginError": "errors",
    "SpoolError": "errors",
    "StoreError": "errors",
    "HOOKS_VERSION": "hookspecs",
    "Answer": "hookspecs",
    "QueueAnswer": "hookspecs",
    "hookimpl": "hookspecs",
    "Headers": "message",
    "Message": "message",
    "Duration": "options",
    "Network": "options",
    "Options": "options",
    "Secret": "options",
    "Size": "options",
    "WatchedFile": "options",
    "Receipt": "rulings",
    "Ruling": "rulings",
    "Said": "rulings",
    "Clock": "services.clock",
    "Resolver": "services.dns",
    "reversed_address": "services.dns",
    "Log": "services.host",
    "Server": "services.host",
    "NextHopAnswer": "services.next_hop:Answer",
    "Delivery": "services.next_hop",
    "NextHop": "services.next_hop",
    "NextHops": "services.next_hop",
    "Target": "services.next_hop",
    "Store": "services.store",
    "Envelope": "session",
    "Later": "session",
    "Session": "session",
}
"""The module of each public name, and its name there where that differs. ``tests/core/test_layout.py`` compares this
with ``__all__``, and a type checker compares ``__all__`` with the imports above."""

if not TYPE_CHECKING:  # a type checker would take any name for one of this module's

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, original = _HOMES[name].partition(":")
        value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), original or name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
