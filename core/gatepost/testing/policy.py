"""A policy under test: plugins, or a configuration, with everything around them that a server would have.

Nothing of it reaches the network: DNS is scripted, the next hop is recorded, the store is in memory, and clients speak
without sockets. Time is virtual. See ``client`` for what a client does and ``loading`` for how plugins are loaded.
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
from gatepost.services.clock import Clock
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
"""Who the gate is, unless the configuration says otherwise."""


class Policy:
    """A gate over ``plugins``, which are asked in this order; the fixture ``policy`` makes one.

    ``plugins`` are plugin objects, classes (which are given the services that they name, and their options' defaults),
    modules, or what ``instance`` made of these; or one text, the TOML of a configuration, or one ``Path``, its file.
    What is relative in the text starts at ``folder``.

    Where no plugin vouches for recipients or delivers, the kit does; with ``bare`` nobody does. ``dns="lenient"``: a
    name without a script does not exist, instead of failing the test. ``startup=False`` leaves the ``startup`` hooks
    to the test, which calls ``start()``. ``score`` and ``limits`` are as in the tables of the configuration,
    ``line_ends`` too; ``spool`` is a folder for messages over 512 KiB. ``clock``: another one than a virtual clock
    that jumps.

    Raises ``ConfigError`` for a wrong configuration, ``PluginError`` for a plugin that cannot be asked.
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
        clock: Clock | None = None,
    ) -> None:
        self.clock: Any = clock or TestClock()
        """Virtual time: ``await policy.clock.advance("6s")``, ``.now()``, ``.monotonic()``."""
        self.dns = ScriptedDNS(self.clock, lenient=dns == "lenient")
        """What DNS says; see ``ScriptedDNS``."""
        self.store = MemoryStore(self.clock)
        """What plugins remember; see ``MemoryStore``."""
        self.next_hop = ScriptedNextHops(self.clock, HOSTNAME)
        """The mail server behind the gate; see ``Peer``."""
        self.events = GateEvents()
        """What the gate said besides records, such as ``plugin_failed``; see ``Events``."""
        self.log = Events()
        """What plugins said to their ``log``; see ``Events``."""
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
            marks=self.store.namespace("gatepost"),
            spool=Spool(spool),
            limits=Limits.model_validate(dict(limits or {})),
            recorder=self.events,
            line_ends=line_ends,
        )
        self._bare = bare
        self._startup = startup
        self._folder = folder or Path.cwd()
        self._score = Score(**(score or {}))
        self.loaded: LoadedPolicy
        self.reload(*plugins)

    def reload(self, *plugins: Any) -> None:
        """Ask these plugins from now on, as after a reload of the server: given as to ``Policy``.

        All around them stays: the store, DNS, the next hop, the time. Sessions under way keep the plugins they have.
        """
        self.loaded = self._load(plugins)
        for instance in self.loaded.instances.values():
            instance.threads = PluginThreads(f"gatepost-{instance.name}")
        if not self._bare:
            self._stand_in()
        self._is_started = False
        self._jobs = Jobs(self.runtime)

    @property
    def records(self) -> list[Record]:
        """The record of each outcome so far: a refusal, a message, the end of a session."""
        return self.events.records

    @property
    def gate(self) -> Gate:
        """The loaded policy as the core has it."""
        return self.loaded.default

    def plugin(self, name: str) -> Any:
        """The plugin object called ``name``. Raises ``KeyError`` when there is none."""
        return self.loaded.instances[name].plugin

    async def connect(
        self,
        client: str = "192.0.2.1",
        *,
        talks_early: bool = False,
        listener: str = "smtp",
        port: int = 0,
    ) -> Client:
        """A client that has connected; its ``banner`` is the first reply. The first one runs ``startup`` before.

        ``talks_early``: it does not wait for the greeting. ``listener``: with TOML, whose order is asked.
        """
        if self._startup:
            await self.start()
        gate = self.loaded.gates.get(listener, self.gate)
        made = Client(self, gate, client, talks_early=talks_early, listener=listener, port=port)
        await made.connect()
        return made

    async def start(self) -> None:
        """Run the ``startup`` hooks, once, as ``connect`` does. Raises ``PluginError`` at the first that fails."""
        if not self._is_started:
            self._is_started = True
            await wait_for(start_plugins(self.loaded, self._jobs), self.clock)
            self.dns.check()

    async def close(self) -> None:
        """End as a server does: jobs, the ``shutdown`` hooks, idle connections to next hops."""
        await self._jobs.stop()
        await wait_for(end_plugins(self.loaded, self._jobs, self.events), self.clock)
        await wait_for(self.next_hop.close(), self.clock)
        self.dns.check()

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
        if "hostname" in config.model_fields_set:
            self.runtime.hostname = config.hostname
        return loaded

    def _stand_in(self) -> None:
        """Let the kit vouch and deliver where no plugin can, in each order for itself."""
        self.loaded.default = self._with_stand_ins(self.loaded.default)
        self.loaded.gates = {name: self._with_stand_ins(gate) for name, gate in self.loaded.gates.items()}

    def _with_stand_ins(self, gate: Gate) -> Gate:
        more = stand_ins(gate.instances, self.services)
        instances = (*gate.instances, *more)
        return policy_of(instances, self.services, self.events, gate.score).default if more else gate
