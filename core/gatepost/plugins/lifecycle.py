"""The life of a policy's plugins outside of sessions: ``startup``, repeated jobs, ``shutdown``.

Each plugin is called separately, in the configured order, instead of by pluggy: pluggy stops at the first error, leaves
the coroutines of the others unawaited, and does not say which plugin failed. No plugin decides here, so there is no
ruling.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Final

from gatepost import events
from gatepost.errors import GatepostError, PluginError, place_of
from gatepost.events import Recorder
from gatepost.plugins.load import Policy
from gatepost.runtime import Runtime
from gatepost.services.host import Server

JOB: Final = "gatepost-job"
"""The name of the tasks of repeated jobs. A clock for tests does not move on because such a task sleeps."""


async def start_plugins(policy: Policy, server: Server) -> None:
    """Run the ``startup`` hooks. Raises ``PluginError`` at the first that fails: the server must not start then."""
    for implementation in reversed(policy.manager.hook.startup.get_hookimpls()):
        await _call(implementation, "startup", server)


async def end_plugins(policy: Policy, server: Server, recorder: Recorder) -> None:
    """Run all ``shutdown`` hooks, then close the next hops that the plugins have opened.

    A failure is an event for ``recorder`` and does not stop the others.
    """
    for implementation in reversed(policy.manager.hook.shutdown.get_hookimpls()):
        try:
            await _call(implementation, "shutdown", server)
        except GatepostError as error:
            recorder.event(events.SHUTDOWN_FAILED, plugin=implementation.plugin_name, error=str(error))
    if policy.next_hops is not None:
        await policy.next_hops.close()


async def _call(implementation: Any, phase: str, server: Server) -> None:
    """Call one plugin. Everything that it raises becomes a ``PluginError`` with its name."""
    arguments = (server,) if "server" in (*implementation.argnames, *implementation.kwargnames) else ()
    try:
        if implementation.opts.get("blocking"):
            await asyncio.to_thread(implementation.function, *arguments)
            return
        answer = implementation.function(*arguments)
        if inspect.isawaitable(answer):
            await answer
    except (Exception, SystemExit) as error:  # SystemExit would end the process silently
        place = place_of(error, implementation.plugin)
        what = f"{type(error).__name__}: {error}" + (f" ({place})" if place else "")
        raise PluginError(f"{implementation.plugin_name}: its {phase} failed: {what}") from error


class Jobs:
    """The repeated jobs of one policy's plugins. It is the ``server`` argument of ``startup`` and ``shutdown``."""

    __slots__ = ("_runtime", "_stopped", "_tasks", "hostname")

    def __init__(self, runtime: Runtime) -> None:
        self.hostname = runtime.hostname
        self._runtime = runtime
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()

    def every(self, seconds: float, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``job()`` every ``seconds`` until the server stops. An error is logged and does not end the series."""
        task = asyncio.get_running_loop().create_task(self._repeat(seconds, job), name=JOB)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _repeat(self, seconds: float, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await self._runtime.clock.sleep(seconds)
            try:
                await job()
            except BaseException as error:  # a job is a plugin's code: even its SystemExit ends only this run of it
                # A CancelledError ends the series only if it is ours: a job may raise one of its own.
                if self._stopped or isinstance(error, GeneratorExit):
                    return
                name = getattr(job, "__qualname__", "")
                place = place_of(error, getattr(job, "__self__", job))
                text = f"{error!r} ({place})" if place else repr(error)
                self._runtime.recorder.event(events.JOB_FAILED, job=name, error=text)
                self._runtime.recorder.event(events.PLUGIN_TRACEBACK, plugin=name, traceback=error)

    async def stop(self) -> None:
        """Cancel all jobs, and wait until they have ended."""
        self._stopped = True
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
