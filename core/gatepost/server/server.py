"""The server: from a configuration to listening sockets, and an orderly stop.

The start is strict. Its steps are configuration, plugins, sockets, privileges, store and ``startup`` hooks, and the
first that fails ends it with a sentence, before a client is accepted. At a stop listeners close, clients that wait get
421, sessions may finish within the grace period, and handovers end on their own timeouts. SIGHUP builds a new policy
for new sessions; one that cannot be used changes nothing.

It decides nothing about mail. RFC 5321 §3.8 (a server that must stop says 421).
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from gatepost import config as configuration
from gatepost import events
from gatepost.concurrency import Threads
from gatepost.config import NO_LISTENER, Config, SocketAddress
from gatepost.doors import Connections, Listener, Pregreet
from gatepost.errors import GatepostError, StoreError
from gatepost.message import Spool
from gatepost.options import LOOK_EVERY, ListFiles
from gatepost.plugins import Jobs, Policy, Services, end_plugins, load_policy, read_options, start_plugins
from gatepost.runtime import Runtime
from gatepost.server.presence import Presence
from gatepost.server.recorder import ServerRecorder
from gatepost.server.system import (
    BACKLOG,
    drop_privileges,
    is_loopback,
    keep_freed_memory,
    listen,
    make_folder,
    raise_descriptor_limit,
)
from gatepost.services.clock import SystemClock
from gatepost.services.dns import DNS, skipped_servers
from gatepost.services.next_hop import NextHops
from gatepost.services.store import open_store

LOOK_FOR_UNUSED = 30.0
"""Seconds between two looks for replaced policies whose last session has ended."""
LAST_REPLIES = 3.0
"""Seconds that connections have to end after they were told to."""


class Server:
    """One process that serves clients."""

    def __init__(self, config: Config, path: Path | None, environ: Mapping[str, str]) -> None:
        self.config = config
        self._path = path
        self.listeners: dict[str, Listener] = {}
        self.recorder = ServerRecorder(config)
        self.clock = SystemClock()
        self._environ = environ
        self._store = open_store(config.store.url, self.clock, self.recorder)
        servers = [str(server) for server in config.dns.servers]
        for line in () if servers else skipped_servers():
            self.recorder.event(events.NAME_SERVER_SKIPPED, path=line.where, error=str(line))
        self._resolver = DNS(servers, timeout=config.dns.timeout, clock=self.clock)
        self._next_hops = NextHops(self.clock, config.hostname, self.recorder)
        self._files = ListFiles()
        self._threads = Threads("list files")
        self._presence = Presence(config.state_dir)
        self._services = Services(
            dns=self._resolver,
            store=self._store,
            clock=self.clock,
            next_hop=self._next_hops,
            log=self.recorder.plugin_log,
            files=self._files,
        )
        spool = config.spool
        self.runtime = Runtime(
            hostname=config.hostname,
            clock=self.clock,
            resolver=self._resolver,
            store=self._store.namespace("gatepost"),
            spool=Spool(spool.path, memory=spool.memory, budget=spool.budget, min_free=spool.min_free),
            limits=config.limits,
            recorder=self.recorder,
            line_ends=config.line_ends,
            trusted_results=frozenset(config.trusted_results),
        )
        self._policies: list[tuple[Policy, Jobs]] = []
        self._watch = Jobs(self.runtime)
        """The repeated look at the list files."""
        self._sockets: dict[str, list[socket.socket]] = {}
        self._asyncio_servers: list[asyncio.Server] = []
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._reloads: set[asyncio.Task[Any] | None] = set()
        self._retiring: asyncio.Task[None] | None = None

    @property
    def addresses(self) -> dict[str, list[tuple[str, int]]]:
        """The addresses of each listener, with the port that the system chose if the configuration says 0."""
        return {name: [made.getsockname()[:2] for made in sockets] for name, sockets in self._sockets.items()}

    async def start(self) -> None:
        """Load plugins, bind, drop privileges, open the store, and accept clients.

        Raises ``GatepostError`` with a sentence for the administrator.
        """
        if not self.config.listeners:
            raise GatepostError(NO_LISTENER)
        loop = asyncio.get_running_loop()
        # From here on, because a startup hook may take seconds, and a signal without a handler would end the process.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._handle_sighup)
        # Before anything is bound or made: a mistake in the policy leaves no trace on the machine.
        policy = load_policy(self.config, self._services, self.recorder)
        most = min(self.config.limits.connections, raise_descriptor_limit())
        # To bind port 25 and to give folders away may need root, so both come before the privileges are dropped. What
        # makes files comes after, so that they belong to the user.
        self._bind()
        self._make_folders()
        if self.config.user is not None:
            drop_privileges(self.config.user)
        await self._store.open()
        self.recorder.open()
        await self._start_plugins(policy)
        self._watch.every(LOOK_EVERY, self._look_at_files)
        self._presence.begin()
        connections = Connections(most, self.config.limits.connections_per_client)
        for name, gate in policy.gates.items():
            self.listeners[name] = Listener(name, gate, self.runtime, connections)
        for name, sockets in self._sockets.items():
            for bound in sockets:
                factory = partial(Pregreet, self.listeners[name])
                self._asyncio_servers.append(await loop.create_server(factory, sock=bound, backlog=BACKLOG))
        listening = [str(SocketAddress(*place)) for places in self.addresses.values() for place in places]
        order = list(self.config.order)
        self.recorder.event(
            events.STARTED, listen=listening, clients=most, order=order, state=str(self.config.state_dir)
        )

    def _bind(self) -> None:
        """Bind the sockets of all listeners. A root that stays root may serve this machine only."""
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

    def _make_folders(self) -> None:
        """Make the folders that the server writes to, while it may still give them to the configured user."""
        folders = [self.config.state_dir, self.config.spool.path, self.config.journal.path.parent]
        if self.config.store.url.startswith("sqlite://"):
            folders.append(Path(self.config.store.url.removeprefix("sqlite://")).parent)
        for folder in dict.fromkeys(folders):
            make_folder(folder, self.config.user)

    async def _start_plugins(self, policy: Policy) -> None:
        """Start the plugins of a policy. If one of them fails, the repeated jobs of the others end too."""
        jobs = Jobs(self.runtime)
        self._policies.append((policy, jobs))
        try:
            await start_plugins(policy, jobs)
        except BaseException:
            await jobs.stop()
            raise

    async def _look_at_files(self) -> None:
        """Take up what has changed in the list files, in a thread."""
        if self._files:
            await self._threads.run(self._files.look)

    def _handle_sighup(self) -> None:
        if self._asyncio_servers:
            self.runtime.spawn(self.reload())
        else:
            self.recorder.event(events.RELOAD_FAILED, error="gatepost is still starting; send SIGHUP again later")

    async def serve(self) -> None:
        """Serve until SIGTERM or SIGINT, or until ``stop`` is called."""
        _tune_garbage_collector()
        keep_freed_memory()
        await self._stop.wait()
        await self.close()

    def stop(self) -> None:
        """Ask ``serve`` to end."""
        self._stop.set()

    async def reload(self) -> None:
        """Build a new policy for new sessions from the changed file. If that fails, the old one stays.

        Listeners, store, limits and the other core settings stay as they are until the next start. Reloads run one at
        a time, so that the newest file wins.
        """
        reload = asyncio.current_task()
        self._reloads.add(reload)
        try:
            async with self._reloading:
                replaced = await self._replace_policy()
            # Not within the lock, or the next reload would wait for the sessions that are being closed.
            await self._retire(replaced)
        finally:
            self._reloads.discard(reload)

    async def _replace_policy(self) -> Sequence[tuple[Policy, Jobs]]:
        """Give all listeners a new policy. Return those that are not needed: the replaced, or one that cannot start."""
        before = len(self._policies)
        try:
            # An administrator who says so has finished writing: one look is enough.
            accept = self._presence.take_acceptance()
            await self._threads.run(partial(self._files.look, at_once=True, accept_shrunk=accept))
            changed = configuration.load_config(self._path, self._environ)
            # List files that are new: read and parsed in a thread too.
            options = await self._threads.run(partial(read_options, changed, self._services, self.recorder))
            # Old and new plugins share the services, so the store and the DNS cache outlive a policy.
            policy = load_policy(changed, self._services, self.recorder)
            del options
            _require_same_listeners(self.listeners, policy)
            await self._start_plugins(policy)
        except GatepostError as error:
            self.recorder.event(events.RELOAD_FAILED, error=str(error))
            return self._policies[before:]
        for name, listener in self.listeners.items():
            listener.gate = policy.gates[name]
        self.recorder.event(events.RELOADED, order=list(changed.order))
        if keys := _needs_restart(self.config, changed):
            self.recorder.event(events.RESTART_NEEDED, keys=keys)
        return self._policies[:-1]

    async def _retire(self, policies: Sequence[tuple[Policy, Jobs]]) -> None:
        """End policies that were replaced: their jobs now, their plugins once their last session has ended."""
        for _, jobs in policies:
            await jobs.stop()
        # Sessions whose connection is gone; a reload cannot wait for itself.
        ending = self.runtime.tasks - self._reloads
        if ending:
            await asyncio.wait(ending)
        await self._end_unused(policies)
        if self._retiring is None and not self._stop.is_set() and len(self._policies) > 1:
            self._retiring = asyncio.get_running_loop().create_task(self._retire_later())

    async def _end_unused(self, policies: Sequence[tuple[Policy, Jobs]]) -> None:
        """End those of the policies that no session uses any more, and give back their memory."""
        connected = {connection.gate for each in self.listeners.values() for connection in each.connected}
        # Still in the list: another reload may have ended it meanwhile.
        unused = [each for each in policies if each in self._policies and connected.isdisjoint(each[0].gates.values())]
        for policy, jobs in unused:
            self._policies.remove((policy, jobs))
            await end_plugins(policy, jobs, self.recorder)
        if unused:
            # Soon rather than now, because this call and its callers still have names for them.
            asyncio.get_running_loop().call_soon(_tune_garbage_collector)

    async def _retire_later(self) -> None:
        """End replaced policies that sessions still use, each soon after its last session has ended."""
        while len(self._policies) > 1:
            await self.clock.sleep(LOOK_FOR_UNUSED)
            await self._end_unused(self._policies[:-1])
        self._retiring = None

    async def close(self) -> None:
        """Stop in order. Returns when the last session has ended and everything is closed."""
        self._presence.end()
        await self._watch.stop()
        if self._asyncio_servers:
            self.recorder.event(events.STOPPING, connected=self._connected())
        for server in self._asyncio_servers:
            server.close()
        for listener in self.listeners.values():
            listener.stop()
        if not await self._wait_for_clients(self.config.grace):
            for listener in self.listeners.values():
                listener.stop(now=True)
            await self._wait_for_clients(LAST_REPLIES)
        for handover in self.runtime.delivering:
            self.recorder.event(events.HANDOVER_RUNNING, **handover.holder())
        await self._finish_tasks()
        if not await self._wait_for_clients(LAST_REPLIES):  # those whose handover has only just ended
            self.recorder.event(events.IGNORES_CANCELLATION, connected=self._connected())
        await self._finish_tasks()
        await self._close_services()

    def _connected(self) -> int:
        return sum(len(listener.connected) for listener in self.listeners.values())

    async def _finish_tasks(self) -> None:
        """Wait for handovers, which end on their own timeouts, and for sessions to be closed.

        A plugin that ignores its cancellation is not waited for any longer.
        """
        while self.runtime.is_busy:
            now = self.clock.monotonic()
            self.runtime.delivering -= {each for each in self.runtime.delivering if each.is_overdue(now)}
            await self.clock.sleep(0.1)

    async def _wait_for_clients(self, seconds: float) -> bool:
        """Wait until all clients have left, but no longer than ``seconds``. True if they have."""
        end = self.clock.monotonic() + seconds
        while self._connected():
            if self.clock.monotonic() >= end:
                return False
            await self.clock.sleep(0.1)
        return True

    async def _close_services(self) -> None:
        """End the plugins, then close what they use."""
        if self._retiring is not None:
            self._retiring.cancel()
            await asyncio.gather(self._retiring, return_exceptions=True)
        for policy, jobs in self._policies:
            await jobs.stop()
            await end_plugins(policy, jobs, self.recorder)
        for bound in (each for sockets in self._sockets.values() for each in sockets):
            bound.close()
        await self._next_hops.close()
        await self._resolver.close()
        try:
            await self._store.close()
        except StoreError as error:  # plugin data may be lost, but the rest can still be closed in order
            self.recorder.event(events.MEMORY_LOST, error=str(error))
        if self._asyncio_servers:
            self.recorder.event(events.STOPPED)
        self.recorder.close()


def _require_same_listeners(listeners: Mapping[str, Listener], policy: Policy) -> None:
    if listeners.keys() != policy.gates.keys():
        names = ", ".join(sorted(listeners.keys() ^ policy.gates.keys()))
        raise GatepostError(f"listeners were added or removed ({names}), which needs a restart")


def _needs_restart(running: Config, changed: Config) -> list[str]:
    """Return the keys outside the policy that differ. A reload does not apply them."""
    policy: dict[str, Any] = {"plugins": True, "score": True, "listeners": {"__all__": {"plugins"}}}
    old, new = (_flat(each.model_dump(mode="json", exclude=policy, by_alias=True)) for each in (running, changed))
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))


def _flat(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return the values of nested tables by their dotted keys."""
    flat: dict[str, object] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


async def _cancel_stragglers() -> bool:
    """Cancel the tasks that plugins have left running. False if some of them go on all the same."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    return not tasks or not (await asyncio.wait(tasks, timeout=LAST_REPLIES))[1]


def _tune_garbage_collector() -> None:
    """Have the garbage collector search little at a time. Objects made so far stay, and sessions leave no cycles.

    A search through 5,000 new objects takes half a millisecond. A search through 50,000, most of which are no longer in
    the processor's cache, takes twenty times as long, and all clients wait meanwhile. Older objects are searched as
    rarely as possible: with thousands of clients held, searching all their objects takes 100 ms.

    After a reload everything is searched once, also what was here at the start: a policy that was replaced is full of
    cycles (its classes, its plugin managers, whatever a plugin's author made) and holds lists of any size. Loading the
    new one has taken longer than that.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 200, 5)


def run(path: Path | None, environ: Mapping[str, str], announce: Callable[[Server], None] | None = None) -> None:
    """Serve until told to stop, and call ``announce`` once clients are accepted.

    Raises ``ConfigError`` or ``GatepostError`` if the start fails.
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
        if not await _cancel_stragglers():
            os._exit(os.EX_OK)  # all is closed; a plugin that ignores cancellation must not keep the process alive

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
