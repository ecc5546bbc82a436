"""The server: from a configuration to listening sockets, and back to nothing in good order.

Start is strict: configuration, plugins, sockets, privileges, store, ``startup`` hooks; the first that fails ends it
with a sentence, before a client is accepted. Stopping: listeners close, who waits gets 421, dialogues may finish within
the grace, hand-overs end on their own time-outs. SIGHUP builds a new policy for new sessions; a wrong one changes
nothing.

It decides nothing about mail. RFC 5321 §3.8 (a server that must stop says 421).
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvloop

from gatepost import config as configuration
from gatepost import events
from gatepost.config import Config, SocketAddress
from gatepost.doors import Connections, Listener, Pregreet
from gatepost.errors import GatepostError, StoreError
from gatepost.message import Spool
from gatepost.plugins import Jobs, Policy, Services, end_plugins, load_policy, start_plugins
from gatepost.runtime import Runtime
from gatepost.server.recorder import ServerRecorder
from gatepost.server.system import BACKLOG, drop_privileges, is_loopback, listen, make_folder, raise_descriptor_limit
from gatepost.services.clock import SystemClock
from gatepost.services.dns import DNS
from gatepost.services.next_hop import NextHops
from gatepost.services.store import open_store

LAST_REPLIES = 3.0
"""Seconds that connections get to end once they were told to."""


class Server:
    """One process that serves. ``load`` may raise ``ConfigError``; ``start`` ``GatepostError``."""

    def __init__(self, config: Config, path: Path | None, environ: Mapping[str, str]) -> None:
        self.config = config
        self._path = path
        self.listeners: dict[str, Listener] = {}
        self.recorder = ServerRecorder(config)
        self.clock = SystemClock()
        self._environ = environ
        self._store = open_store(config.store.url, self.clock, self.recorder)
        servers = [str(server) for server in config.dns.servers]
        self._resolver = DNS(servers, timeout=config.dns.timeout, clock=self.clock)
        self._next_hops = NextHops(self.clock, config.hostname)
        self._services = Services(
            dns=self._resolver,
            store=self._store,
            clock=self.clock,
            next_hop=self._next_hops,
            log=self.recorder.plugin_log,
        )
        spool = config.spool
        self.runtime = Runtime(
            hostname=config.hostname,
            clock=self.clock,
            resolver=self._resolver,
            marks=self._store.namespace("gatepost"),
            spool=Spool(spool.path, memory=spool.memory, budget=spool.budget, min_free=spool.min_free),
            limits=config.limits,
            recorder=self.recorder,
            line_ends=config.line_ends,
        )
        self._policies: list[tuple[Policy, Jobs]] = []
        self._sockets: dict[str, list[socket.socket]] = {}
        self._asyncio_servers: list[asyncio.Server] = []
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[Any] | None] = set()

    @property
    def addresses(self) -> dict[str, list[tuple[str, int]]]:
        """Where each listener listens, with the real port where the configuration says 0."""
        return {name: [made.getsockname()[:2] for made in sockets] for name, sockets in self._sockets.items()}

    async def start(self) -> None:
        """Load, bind, drop privileges, open, and accept clients. Raises ``GatepostError`` with a sentence."""
        if not self.config.listeners:
            raise GatepostError('nobody listens; write [listen.smtp] with bind = ["0.0.0.0:25"]')
        self._heed_signals()
        policy = load_policy(self.config, self._services, self.recorder)
        most = min(self.config.limits.connections, raise_descriptor_limit())
        self._bind()
        self._take_own_folders()
        await self._store.open()
        self.recorder.open()
        await self._begin(policy)
        connections = Connections(most, self.config.limits.connections_per_client)
        for name, gate in policy.gates.items():
            self.listeners[name] = Listener(name, gate, self.runtime, connections)
        await self._accept()
        listening = [str(SocketAddress(*place)) for places in self.addresses.values() for place in places]
        order = list(self.config.order)
        self.recorder.event(
            events.STARTED, listen=listening, clients=most, order=order, state=str(self.config.state_dir)
        )

    def _bind(self) -> None:
        addresses = [address for listener in self.config.listeners.values() for address in listener.bind]
        if os.getuid() == 0 and self.config.user is None:
            if outside := [str(address) for address in addresses if not is_loopback(address)]:
                raise GatepostError(
                    f'as root gatepost serves loopback only, not {", ".join(outside)}: set user = "…", '
                    "or start without root and with the capability to bind"
                )
            self.recorder.event(events.RUNNING_AS_ROOT, advice='set user = "…" in the configuration')
        for name, listener in self.config.listeners.items():
            self._sockets[name] = []
            for address in listener.bind:
                self._sockets[name].append(listen(address))

    def _take_own_folders(self) -> None:
        """Make the folders that the server writes to, then become the configured user."""
        folders = [self.config.state_dir, self.config.spool.path, self.config.journal.path.parent]
        if self.config.store.url.startswith("sqlite://"):
            folders.append(Path(self.config.store.url.removeprefix("sqlite://")).parent)
        for folder in dict.fromkeys(folders):
            make_folder(folder, self.config.user)
        if self.config.user is not None:
            drop_privileges(self.config.user)

    async def _begin(self, policy: Policy) -> None:
        """Start the plugins of a policy. When one of them fails, what the others repeat ends too."""
        jobs = Jobs(self.runtime)
        self._policies.append((policy, jobs))
        try:
            await start_plugins(policy, jobs)
        except BaseException:
            await jobs.stop()
            raise

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        for name, sockets in self._sockets.items():
            for made in sockets:
                factory = _factory(self.listeners[name])
                self._asyncio_servers.append(await loop.create_server(factory, sock=made, backlog=BACKLOG))

    def _heed_signals(self) -> None:
        """From the start on: a startup hook may take seconds, and an unheeded signal would end the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)

    def _hang_up(self) -> None:
        if self._asyncio_servers:
            self.runtime.spawn(self.reload())
        else:
            self.recorder.event(events.RELOAD_FAILED, error="still starting; send SIGHUP again after that")

    async def serve(self) -> None:
        """Serve until SIGTERM or SIGINT, or until ``stop`` is called."""
        _spare_the_collector()
        await self._stop.wait()
        await self.close()

    def stop(self) -> None:
        """Ask ``serve`` to end."""
        self._stop.set()

    async def reload(self) -> None:
        """Build a new policy for new sessions from the changed file. If it is wrong, the old one stays.

        Listeners, store, limits and the other core settings stay as they are until the next start. One at a time, so
        that the newest file wins.
        """
        reload = asyncio.current_task()
        self._reloads.add(reload)
        try:
            async with self._reloading:
                replaced = await self._reload()
            await self._retire(replaced)
        finally:
            self._reloads.discard(reload)

    async def _reload(self) -> Sequence[tuple[Policy, Jobs]]:
        """Give the new policy to all listeners. The ones that new sessions do not get from now on."""
        try:
            changed = configuration.load_config(self._path, self._environ)
            policy = load_policy(changed, self._services, self.recorder)
            _same_listeners(self.listeners, policy)
            await self._begin(policy)
        except GatepostError as error:
            self.recorder.event(events.RELOAD_FAILED, error=str(error))
            return ()
        for name, listener in self.listeners.items():
            listener.gate = policy.gates[name]
        self.recorder.event(events.RELOADED, order=list(changed.order))
        if keys := _needs_restart(self.config, changed):
            self.recorder.event(events.RESTART_NEEDED, keys=keys)
        return self._policies[:-1]

    async def _retire(self, policies: Sequence[tuple[Policy, Jobs]]) -> None:
        """Let go of policies that new sessions do not get: their jobs now, the rest with their last session."""
        for _, jobs in policies:
            await jobs.stop()
        ending = self.runtime.tasks - self._reloads  # sessions whose connection is gone
        if ending:
            await asyncio.wait(ending)
        connected = {connection.gate for each in self.listeners.values() for connection in each.connected}
        for policy, jobs in policies:
            if (policy, jobs) in self._policies and connected.isdisjoint(policy.gates.values()):
                self._policies.remove((policy, jobs))
                await end_plugins(policy, jobs, self.recorder)

    async def close(self) -> None:
        """Stop in good order. Returns when the last session has ended and everything is closed."""
        if self._asyncio_servers:
            self.recorder.event(events.STOPPING, connected=self._connected())
        for server in self._asyncio_servers:
            server.close()
        for listener in self.listeners.values():
            listener.stop()
        if not await self._wait_until_left(self.config.grace):
            for listener in self.listeners.values():
                listener.stop(now=True)
            await self._wait_until_left(LAST_REPLIES)
        await self._finish_tasks()
        if not await self._wait_until_left(LAST_REPLIES):  # clients whose hand-over has only now ended
            self.recorder.event(events.IGNORES_CANCELLATION, connected=self._connected())
        await self._finish_tasks()
        await self._close_services()

    def _connected(self) -> int:
        return sum(len(listener.connected) for listener in self.listeners.values())

    async def _finish_tasks(self) -> None:
        """Wait for hand-overs, which end on the next hop's own time-outs, and for sessions to be closed."""
        while self.runtime.is_busy:
            if self.runtime.tasks:
                await asyncio.wait(tuple(self.runtime.tasks))
            else:
                await self.clock.sleep(0.1)

    async def _wait_until_left(self, seconds: float) -> bool:
        """True when nobody is connected any more."""
        end = self.clock.monotonic() + seconds
        while self._connected():
            if self.clock.monotonic() >= end:
                return False
            await self.clock.sleep(0.1)
        return True

    async def _close_services(self) -> None:
        for policy, jobs in self._policies:
            await jobs.stop()
            await end_plugins(policy, jobs, self.recorder)
        for made in (each for sockets in self._sockets.values() for each in sockets):
            made.close()
        await self._next_hops.close()
        await self._resolver.close()
        try:
            await self._store.close()
        except StoreError as error:  # what plugins remember may be lost, and the end is in good order all the same
            self.recorder.event(events.MEMORY_LOST, error=str(error))
        if self._asyncio_servers:
            self.recorder.event(events.STOPPED)
        self.recorder.close()


def _same_listeners(listeners: Mapping[str, Listener], policy: Policy) -> None:
    if listeners.keys() != policy.gates.keys():
        names = ", ".join(sorted(listeners.keys() ^ policy.gates.keys()))
        raise GatepostError(f"listeners were added or removed ({names}): that needs a restart")


def _needs_restart(running: Config, changed: Config) -> list[str]:
    """The keys outside the policy that differ: a reload does not take them up."""
    policy: dict[str, Any] = {"plugins": True, "score": True, "listeners": {"__all__": {"plugins"}}}
    old, new = (_flat(each.model_dump(mode="json", exclude=policy, by_alias=True)) for each in (running, changed))
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def _flat(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """The values of nested tables by their dotted keys."""
    flat: dict[str, object] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


async def _stragglers_end() -> bool:
    """Cancel what plugins have left running. False when some of it goes on all the same."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    return not tasks or not (await asyncio.wait(tasks, timeout=LAST_REPLIES))[1]


def _spare_the_collector() -> None:
    """Let the garbage collector search little at a time: what is here now stays, and sessions leave no circles behind.

    A search through 5,000 objects that were only just made takes half a millisecond. Through 50,000, most of which no
    cache holds any more, it takes twenty times as long, in which everybody waits. Older objects are searched as seldom
    as can be: with thousands of clients held, to look at all that they have takes 100 ms.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 200, 5)


def _factory(listener: Listener) -> Callable[[], Pregreet]:
    return lambda: Pregreet(listener)


def run(path: Path | None, environ: Mapping[str, str], announce: Callable[[Server], None] | None = None) -> None:
    """Serve until told to stop. Raises ``ConfigError`` or ``GatepostError`` when the start fails.

    ``announce`` is called once clients are accepted.
    """
    config = configuration.load_config(path, environ)

    async def main() -> None:
        server = Server(config, path, environ)
        try:
            await server.start()
        except BaseException:
            await server.close()
            raise
        if announce is not None:
            announce(server)
        await server.serve()
        if not await _stragglers_end():
            os._exit(os.EX_OK)  # all is closed; a plugin that ignores its end must not keep the process

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
