"""A policy under test: plugins or a configuration, with everything that they have in a server.

Nothing uses the network: DNS and the next hop are scripted, the store is in memory, and clients have no sockets. Time
is virtual. ``client`` describes clients, and ``loading`` how plugins are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from gatepost.config import Limits
from gatepost.gate import Gate, Score
from gatepost.message import Spool
from gatepost.plugins import Jobs, Services, end_plugins, start_plugins
from gatepost.plugins import Policy as LoadedPolicy
from gatepost.runtime import Runtime
from gatepost.services.clock import Clock, SystemClock
from gatepost.telemetry import Record
from gatepost.testing.client import Client
from gatepost.testing.clock import PluginThreads, TestClock, wait_for
from gatepost.testing.dns import ScriptedDNS
from gatepost.testing.loading import load_file, load_objects, load_text, policy_of
from gatepost.testing.next_hop import ScriptedNextHops
from gatepost.testing.recording import Events, GateEvents, PluginLog
from gatepost.testing.stand_ins import stand_ins
from gatepost.testing.store import MemoryStore

HOSTNAME = "mx.example.org"
"""The host name of the server, unless the configuration has another."""


class Policy:
    """A server with ``plugins``, which are asked in this order. The fixture ``policy`` makes one.

    ``plugins`` are plugin objects, classes (which get the services that they name, and default options), modules, or
    the results of ``instance``; or one text, the TOML of a configuration, or one ``Path``, its file. Paths in the text
    are relative to ``folder``.

    If no plugin vouches for recipients or delivers, the kit does, except with ``bare``. With ``dns="lenient"``, a name
    without a script does not exist, instead of failing the test. With ``startup=False`` the test must call ``start()``
    to run the ``startup`` hooks. ``score``, ``limits`` and ``line_ends`` are as in the configuration. ``spool`` is a
    folder for messages over 512 KiB. ``clock="real"`` is the clock of the machine instead of virtual time, for plugins
    whose peers need longer than 3 s to answer; any other ``Clock`` may be given as well.

    An exception of a plugin fails the test, whatever its ``on_error``, unless it is one of a service (DNS, store, next
    hop); with ``failures="expected"`` none does.

    Raises ``ConfigError`` for an invalid configuration, ``PluginError`` for a plugin that cannot be asked.
    """

    def __init__(
        self,
        *plugins: Any,
        bare: bool = False,
        dns: Literal["strict", "lenient"] = "strict",
        startup: bool = True,
        score: Mapping[str, float] | None = None,
        limits: Mapping[str, Any] | None = None,
        line_ends: Literal["normalize", "reject"] = "normalize",
        spool: Path | None = None,
        folder: Path | None = None,
        clock: Clock | Literal["real"] | None = None,
        failures: Literal["fail", "expected"] = "fail",
    ) -> None:
        self.clock: Any = SystemClock() if clock == "real" else clock or TestClock()
        """Virtual time: ``await policy.clock.advance("6s")``, ``.now()``, ``.monotonic()``."""
        self.dns = ScriptedDNS(self.clock, lenient=dns == "lenient")
        """Scripted DNS; see ``ScriptedDNS``."""
        self.store = MemoryStore(self.clock)
        """The store of plugins; see ``MemoryStore``."""
        self.events = GateEvents()
        """The events of the core, such as ``plugin_failed``; see ``Events``."""
        self.next_hop = ScriptedNextHops(self.clock, HOSTNAME, self.events)
        """The mail server behind this one; see ``Peer``."""
        self.log = Events()
        """The log of plugins; see ``Events``."""
        self.services = Services(
            dns=self.dns,
            store=self.store,
            clock=self.clock,
            next_hop=self.next_hop,
            log=lambda name: PluginLog(self.log, name),
        )
        self.runtime = Runtime(
            hostname=HOSTNAME,
            clock=self.clock,
            resolver=self.dns,
            store=self.store.namespace("gatepost"),
            spool=Spool(spool),
            limits=Limits.model_validate(dict(limits or {})),
            recorder=self.events,
            line_ends=line_ends,
        )
        self._bare = bare
        self._fails = failures == "fail"
        self._startup = startup
        self._folder = folder or Path.cwd()
        self._score = Score(**(score or {}))
        self.loaded: LoadedPolicy
        self.reload(*plugins)

    def reload(self, *plugins: Any) -> None:
        """Replace the plugins, as a reload of the server does. ``plugins`` are as for ``Policy``.

        Store, DNS, next hop and time stay as they are. Open sessions keep their plugins.
        """
        self.loaded = self._load(plugins)
        for instance in self.loaded.instances.values():  # virtual time must stand still while one of its threads works
            instance.threads = PluginThreads(f"gatepost-{instance.name}")
        if not self._bare:
            self.loaded.default = self._with_stand_ins(self.loaded.default)
            self.loaded.gates = {name: self._with_stand_ins(gate) for name, gate in self.loaded.gates.items()}
        self._is_started = False
        self._jobs = Jobs(self.runtime)

    @property
    def records(self) -> list[Record]:
        """The records so far: of refusals, messages and ends of sessions."""
        return self.events.records

    @property
    def gate(self) -> Gate:
        """The gate of the loaded policy."""
        return self.loaded.default

    def plugin(self, name: str) -> Any:
        """Return the plugin object with this name. Raises ``KeyError`` when there is none."""
        return self.loaded.instances[name].plugin

    async def connect(
        self,
        client: str = "192.0.2.1",
        *,
        talks_early: bool = False,
        listener: str = "smtp",
        port: int = 0,
        may_relay: bool = False,
    ) -> Client:
        """Connect a client, whose ``banner`` is the first reply. Before the first client, ``startup`` runs.

        A client that ``talks_early`` does not wait for the greeting. ``listener`` is the listener that it connects to,
        which with TOML may have an order of its own. With ``may_relay`` it may send to any domain, as a client that
        has authenticated may.
        """
        if self._startup:
            await self.start()
        gate = self.loaded.gates.get(listener, self.gate)
        connected = Client(
            self, gate, client, talks_early=talks_early, listener=listener, port=port, may_relay=may_relay
        )
        await connected.connect()
        return connected

    async def start(self) -> None:
        """Run the ``startup`` hooks, unless they have run. Raises ``PluginError`` at the first that fails."""
        if not self._is_started:
            self._is_started = True
            await wait_for(start_plugins(self.loaded, self._jobs), self.clock)
            self.check()

    async def close(self) -> None:
        """Stop like a server: end jobs, run the ``shutdown`` hooks, close idle connections to next hops."""
        await self._jobs.stop()
        await wait_for(end_plugins(self.loaded, self._jobs, self.events), self.clock)
        await wait_for(self.next_hop.close(), self.clock)
        self.check()

    def check(self) -> None:
        """Raise ``AssertionError`` for what must not happen in a test, if it has happened since the last call.

        That is a DNS query without a scripted answer, and an exception of a plugin. The kit calls this by itself.
        """
        self.dns.check()
        if self._fails:
            self.events.check()

    def _load(self, plugins: tuple[Any, ...]) -> LoadedPolicy:
        if len(plugins) != 1 or not isinstance(plugins[0], str | Path):
            return load_objects(plugins, self.services, self.events, self._score)
        written = plugins[0]
        if isinstance(written, Path):
            config, loaded = load_file(written, self.services, self.events)
        else:
            config, loaded = load_text(written, self._folder, self.services, self.events)
        self.runtime.limits = config.limits
        self.runtime.line_ends = config.line_ends
        self.runtime.trusted_results = frozenset(config.trusted_results)
        if "hostname" in config.model_fields_set:
            self.runtime.hostname = config.hostname
        return loaded

    def _with_stand_ins(self, gate: Gate) -> Gate:
        """Return the gate with stand-ins if no plugin in it vouches for recipients or delivers."""
        more = stand_ins(gate.instances, self.services)
        instances = (*gate.instances, *more)
        return policy_of(instances, self.services, self.events, gate.score).default if more else gate
