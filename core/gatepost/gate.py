"""The gate: the loaded policy. It asks the plugins of a phase, in order, and rules.

For each phase it holds the ordered implementations as a tuple, read once from pluggy's public list. A plain ``def`` is
called, an ``async def`` awaited, nobody after the deciding one. It is immutable: a reload builds a new gate, and
sessions under way keep the old one.

What it does around each call is alike for all plugins: skip for trusted clients, circuit, time limit, what an error
counts as, observing, the record of who said what. It knows no replies and no order of commands: see ``conversation``;
how answers compose stands in ``composition``.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import pluggy

from gatepost.address import Address
from gatepost.chain import Hook, Instance, Kind, compile_hook
from gatepost.composition import Score, compose, fault_of
from gatepost.deadlines import Deadlines, Watch
from gatepost.decisions import Decision, defer
from gatepost.errors import PluginError
from gatepost.hookspecs import ALL_RUN, PHASES
from gatepost.rulings import Ruling, Said
from gatepost.services.clock import Clock
from gatepost.session import Acting, Envelope, Session, acting
from gatepost.site import Recorder

STALL = 0.1
"""A plain def that runs longer than this, in seconds, is named in the log: it stops every other client."""
BUDGETS = {"message": 120.0, "queue": float("inf")}
"""Seconds a phase as a whole may take. The hand-over at queue ends on the next hop's own time-outs."""
BUDGET = 60.0
"""The same for all other phases. Over it the client gets 451."""
CONNECT_SLACK = 30.0
"""What connect may take beyond the longest wait that a plugin has declared."""


class Gate:
    """The ordered hooks of one listener. ``plugins`` is the pluggy manager that holds ``instances``."""

    def __init__(
        self,
        plugins: pluggy.PluginManager,
        instances: Sequence[Instance],
        *,
        clock: Clock,
        recorder: Recorder,
        threads: ThreadPoolExecutor | None = None,
        score: Score | None = None,
    ) -> None:
        self.instances = tuple(instances)
        self.score = score
        self.clock = clock
        self.recorder = recorder
        self.threads = threads
        self.deadlines = Deadlines(clock)
        self.chains = {phase: _chain(plugins, self.instances, phase) for phase in PHASES}
        longest = max((hook.instance.longest_wait for hook in self.chains["connect"]), default=0.0)
        budgets = {**dict.fromkeys(PHASES, BUDGET), **BUDGETS, "connect": longest + CONNECT_SLACK}
        # None for a phase that never waits: no watch is made for it.
        self.budgets: dict[str, float | None] = {
            phase: budgets[phase] if any(hook.kind is not Kind.PLAIN for hook in chain) else None
            for phase, chain in self.chains.items()
        }

    def instance(self, name: str) -> Instance | None:
        """The plugin called ``name``; None for the core's own names."""
        return next((instance for instance in self.instances if instance.name == name), None)

    def tell(self, phase: str, arguments: tuple[Any, ...]) -> None:
        """Call the implementations of a phase that nobody waits for (``ruled``): plain defs, one after the other."""
        for hook in self.chains[phase]:
            try:
                hook.function(*hook.pick(arguments))
            except BaseException as error:  # no plugin ends a session, nor the process
                self.recorder.event("plugin_failed", "error", plugin=hook.name, phase=phase, error=repr(error))

    def order(self, phase: str) -> tuple[str, ...]:
        """The names of the plugins that are asked in ``phase``, in order: read from the very tuple that runs."""
        return tuple(hook.name for hook in self.chains[phase])

    async def ask(
        self,
        phase: str,
        arguments: tuple[Any, ...],
        session: Session,
        envelope: Envelope | None = None,
        recipient: Address | None = None,
    ) -> Ruling:
        """Ask the plugins of ``phase`` and rule. ``arguments`` are those of its specification, in that order.

        Raises ``CancelledError`` when the client leaves meanwhile, and nothing else.
        """
        asking = _Asking(self, phase, arguments, session, envelope, recipient)
        error: str | None
        try:
            for hook in self.chains[phase]:
                if asking.skips(hook):
                    if asking.decided:
                        break
                    continue
                error = answer = None
                start = perf_counter()
                try:
                    answer = asking.call(hook)
                    if answer is not None and not isinstance(answer, Decision) and inspect.isawaitable(answer):
                        answer = await answer
                except BaseException as caught:  # no plugin ends a session, nor the process
                    error = asking.failure(caught, hook)
                asking.take(hook, answer, error, perf_counter() - start)
                if asking.decided:
                    break
        finally:
            asking.end()
        return asking.ruling


class _Asking:
    """One phase of one session while it is asked."""

    __slots__ = (
        "ahead",
        "arguments",
        "asked",
        "began",
        "decided",
        "envelope",
        "gate",
        "recipient",
        "ruling",
        "session",
    )

    def __init__(
        self,
        gate: Gate,
        phase: str,
        arguments: tuple[Any, ...],
        session: Session,
        envelope: Envelope | None,
        recipient: Address | None,
    ) -> None:
        self.gate = gate
        self.arguments = arguments
        self.session = session
        self.envelope = envelope
        self.recipient = recipient
        self.ruling = Ruling(phase, recipient=recipient)
        self.decided = False
        self.asked = 0
        self.began = perf_counter()
        self.ahead: dict[Hook, tuple[asyncio.Task[Any], float]] = {}
        budget = gate.budgets[phase]
        if budget is not None:
            session.watch = gate.deadlines.watch(budget)
            self._start_ahead()

    @property
    def watch(self) -> Watch:
        """The watch of this phase; there is one when any of its hooks may wait."""
        assert self.session.watch is not None
        return self.session.watch

    def _start_ahead(self) -> None:
        """Start the look-ups that may run before their turn, so that waiting times overlap."""
        now = self.gate.clock.monotonic()
        for hook in self.gate.chains[self.ruling.phase]:
            if hook.kind is Kind.AHEAD and hook.instance.circuit.closed and not self._trusted(hook):
                task = asyncio.get_running_loop().create_task(_run_ahead(hook, self.arguments))
                task.add_done_callback(_look_at)
                self.ahead[hook] = (task, now + hook.instance.time_limit)

    def _trusted(self, hook: Hook) -> bool:
        if not hook.instance.skip_trusted:
            return False
        return self.session.exempt or (self.envelope is not None and self.envelope.exempt(self.recipient))

    def skips(self, hook: Hook) -> bool:
        """True when ``hook`` is not asked: the client is trusted, or its circuit is open, which counts as an error."""
        self.asked += 1
        instance = hook.instance
        if self._trusted(hook):
            self.ruling.trace.append(Said(hook.name, skipped="trusted", observed=instance.observed))
            return True
        if instance.circuit.closed or instance.circuit.allows(self.gate.clock.monotonic()):
            return False
        self.ruling.trace.append(Said(hook.name, skipped="circuit open", observed=instance.observed))
        self._count_error(instance)
        return True

    def call(self, hook: Hook) -> Any:
        """Call ``hook``; what it gives back may have to be awaited."""
        arguments = self.arguments
        if hook.instance.observed:
            acting.set(Acting(ahead=False))
            arguments = _own_lists(arguments)
        if hook.kind is Kind.PLAIN:
            return hook.function(*hook.pick(arguments))
        if hook.instance.time_limit and self.ruling.phase != "queue":
            self.watch.deadline = self.gate.clock.monotonic() + hook.instance.time_limit
        if hook.kind is Kind.BLOCKING:
            work = functools.partial(contextvars.copy_context().run, _run_blocking, hook, arguments)
            return asyncio.get_running_loop().run_in_executor(self.gate.threads, work)
        if hook in self.ahead:
            task, self.watch.deadline = self.ahead.pop(hook)
            return task
        return hook.function(*hook.pick(arguments))

    def failure(self, error: BaseException, hook: Hook) -> str:
        """What went wrong, in words. Raises ``error`` again when it is the client that left, not the plugin's fault."""
        if not isinstance(error, asyncio.CancelledError | GeneratorExit):
            return f"{type(error).__name__}: {error}"
        task = asyncio.current_task()
        watch = self.session.watch
        if watch is not None and watch.expired and watch.task.uncancel() == 0:
            watch.expired = False
            return f"no answer within {hook.instance.time_limit:g} s"
        if isinstance(error, GeneratorExit) or (task is not None and task.cancelling()):
            hook.instance.circuit.abandoned()
            raise error
        return "CancelledError: raised by the plugin"

    def take(self, hook: Hook, answer: Any, error: str | None, seconds: float) -> None:
        """Take what ``hook`` said, or that it failed, into the ruling."""
        ruling, instance = self.ruling, hook.instance
        if hook.kind is Kind.PLAIN and seconds > STALL:
            self._event("stall", "warning", plugin=hook.name, seconds=round(seconds, 3))
        if error is None and answer is not None:
            error = fault_of(ruling.phase, instance, answer)
        if error is not None:
            self._take_error(hook, error, seconds)
            return
        if not instance.circuit.closed:
            self._event("circuit_closed", "warning", plugin=hook.name)
        instance.circuit.succeeded()
        if instance.observed:
            self._take_observed(hook, answer, seconds)
        elif answer is None:
            ruling.trace.append((hook.name, seconds))
        else:
            ruling.trace.append(Said(hook.name, answer if isinstance(answer, Decision) else None, seconds))
            if ruling.phase not in ALL_RUN:
                self.decided = compose(ruling, hook.name, answer, self.session, self.envelope)

    def _take_observed(self, hook: Hook, answer: Any, seconds: float) -> None:
        """What an observed plugin says and does is recorded and not applied."""
        actor = acting.get()
        acting.set(None)
        withheld = tuple(actor.withheld) if actor else ()
        decision = answer if isinstance(answer, Decision) else None
        self.ruling.trace.append(Said(hook.name, decision, seconds, observed=True, withheld=withheld))

    def _take_error(self, hook: Hook, error: str, seconds: float) -> None:
        instance = hook.instance
        if instance.observed:
            acting.set(None)
        self.ruling.trace.append(Said(hook.name, seconds=seconds, error=error, observed=instance.observed))
        self._event("plugin_failed", "error", plugin=hook.name, error=error, id=self.ruling.identify())
        if instance.circuit.failed(self.gate.clock.monotonic()):
            self._event("circuit_opened", "error", plugin=hook.name)
        self._count_error(instance)

    def _count_error(self, instance: Instance) -> None:
        """What an error counts as: never accept, never a permanent refusal. A spent budget always defers."""
        phase = self.ruling.phase
        spent = self.session.watch is not None and self.gate.clock.monotonic() >= self.session.watch.budget
        if phase in ALL_RUN or phase == "greeting" or not (spent or _defers(instance)):
            return
        name = "gatepost" if spent else instance.name
        self.ruling.decide(defer("local error, try again later", 451, "4.3.0"), name, fault=True)
        self.decided = True

    def _event(self, event: str, level: str, **facts: object) -> None:
        self.gate.recorder.event(event, level, phase=self.ruling.phase, session=self.session.id, **facts)

    def end(self) -> None:
        """Stop what a decided phase no longer needs."""
        chain = self.gate.chains[self.ruling.phase]
        if self.asked < len(chain):
            self.ruling.unasked = tuple(hook.name for hook in chain[self.asked :])
        if self.session.watch is not None:
            self.gate.deadlines.release(self.session.watch)
            self.session.watch = None
        for task, _ in self.ahead.values():
            task.cancel()
        self.ruling.seconds = perf_counter() - self.began


def _defers(instance: Instance) -> bool:
    return instance.on_error != "pass" and not instance.observed


def _chain(plugins: pluggy.PluginManager, instances: tuple[Instance, ...], phase: str) -> tuple[Hook, ...]:
    """The implementations of ``phase`` in the order of the configuration."""
    by_plugin = {id(instance.plugin): instance for instance in instances}
    hooks = []
    for implementation in reversed(getattr(plugins.hook, phase).get_hookimpls()):
        instance = by_plugin[id(implementation.plugin)]
        if instance.phases is None or phase in instance.phases:
            wanted = (*implementation.argnames, *implementation.kwargnames)
            hooks.append(compile_hook(instance, phase, implementation.function, wanted, implementation.opts))
    return tuple(hooks)


async def _run_ahead(hook: Hook, arguments: tuple[Any, ...]) -> Any:
    acting.set(Acting(ahead=True))
    try:
        return await hook.function(*hook.pick(arguments))
    except (SystemExit, KeyboardInterrupt) as error:  # in a task of its own these would end the process
        raise PluginError(f"{type(error).__name__}: {error}") from error


def _run_blocking(hook: Hook, arguments: tuple[Any, ...]) -> Any:
    try:
        return hook.function(*hook.pick(arguments))
    except (SystemExit, KeyboardInterrupt, StopIteration) as error:  # a future cannot carry these
        raise PluginError(f"{type(error).__name__}: {error}") from error


def _look_at(task: asyncio.Task[Any]) -> None:
    """Look at the outcome of a look-up that nobody took, so that asyncio does not complain of it."""
    if not task.cancelled():
        task.exception()


def _own_lists(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """An observed plugin may change a list that it is given (capabilities): let it be a copy."""
    return tuple(list(argument) if type(argument) is list else argument for argument in arguments)
