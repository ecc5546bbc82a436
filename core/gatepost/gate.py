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
from collections.abc import Mapping, Sequence
from math import inf
from time import perf_counter
from types import CoroutineType
from typing import Any, NoReturn

import pluggy

from gatepost.address import Address
from gatepost.begun import begin
from gatepost.chain import Hook, Instance, Kind, compile_hook
from gatepost.composition import Score, compose, fault_of
from gatepost.deadlines import Deadlines, Watch
from gatepost.decisions import Decision, accept, defer
from gatepost.errors import DNSTemporaryError, PluginError
from gatepost.hookspecs import ALL_RUN, PHASES
from gatepost.rulings import Ruling, Said
from gatepost.services.clock import Clock
from gatepost.session import Acting, Envelope, Session, acting
from gatepost.site import Recorder

STALL = 0.1
"""A hook that runs longer than this at a stretch, in seconds, is named in the log: it stops every other client."""
BUDGETS = {"message": 120.0, "queue": float("inf")}
"""Seconds a phase as a whole may take. The hand-over at queue ends on the next hop's own time-outs."""
BUDGET = 60.0
"""The same for all other phases. Over it the client gets 451."""
CONNECT_SLACK = 30.0
"""What connect may take beyond the longest wait that a plugin has declared."""

_NONE_AHEAD: dict[Hook, asyncio.Task[Any]] = {}
_ON_THE_LOOP = frozenset({Kind.PLAIN, Kind.ASYNC})


class Gate:
    """The ordered hooks of one listener. ``plugins`` is the pluggy manager that holds ``instances``."""

    def __init__(
        self,
        plugins: pluggy.PluginManager,
        instances: Sequence[Instance],
        *,
        clock: Clock,
        recorder: Recorder,
        score: Score | None = None,
    ) -> None:
        self.instances = tuple(instances)
        self.score = score
        self.clock = clock
        self.recorder = recorder
        self.deadlines = Deadlines(clock)
        self.observes = any(instance.observed for instance in self.instances)
        self.chains = {phase: _chain(plugins, self.instances, phase) for phase in PHASES}
        longest = max((hook.instance.longest_wait for hook in self.chains["connect"]), default=0.0)
        self.budgets = {**dict.fromkeys(PHASES, BUDGET), **BUDGETS, "connect": longest + CONNECT_SLACK}
        self.ahead = {
            phase: tuple(hook for hook in chain if hook.kind is Kind.AHEAD) for phase, chain in self.chains.items()
        }

    def instance(self, name: str) -> Instance | None:
        """The plugin called ``name``; None for the core's own names."""
        return next((instance for instance in self.instances if instance.name == name), None)

    def tell(self, phase: str, arguments: tuple[Any, ...]) -> None:
        """Call the implementations of a phase that nobody waits for (``ruled``): plain defs, one after the other."""
        for hook in self.chains[phase]:
            acting.set(Acting(arguments) if hook.observed else None)
            try:
                hook.function(*hook.pick(arguments))
            except BaseException as error:  # no plugin ends a session, nor the process
                self.recorder.event("plugin_failed", "error", plugin=hook.name, phase=phase, error=repr(error))
        acting.set(None)

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
        began = perf_counter()
        error: str | None
        try:
            if asking.ahead:
                await asyncio.sleep(0)  # so that they see the session as it is now, whatever the others do to it
            start = perf_counter()
            for hook in self.chains[phase]:
                if asking.decided:
                    break
                asking.asked += 1
                if (hook.guarded or hook.instance.circuit.failures) and asking.skips(hook):
                    continue
                error = answer = None
                try:
                    answer = hook.function(*hook.pick(arguments)) if hook.direct else asking.call(hook)
                    if answer is not None and type(answer) is not Decision:
                        answer = begin(answer) if type(answer) is CoroutineType else answer
                        if answer is not None and inspect.isawaitable(answer):
                            asking.limit(hook)
                            answer = await answer
                            error = asking.lateness(hook)
                except BaseException as caught:  # no plugin ends a session, nor the process
                    error = asking.failure(caught, hook)
                now = perf_counter()
                seconds, start = now - start, now
                usual = answer is None and error is None and hook.direct and seconds < STALL
                if usual and not (session.did or hook.instance.circuit.failures or (envelope and envelope.did)):
                    asking.ruling.trace.append((hook.name, seconds))
                else:
                    asking.take(hook, answer, error, seconds)
        finally:
            asking.end(perf_counter() - began)
        return asking.ruling


class _Asking:
    """One phase of one session while it is asked."""

    __slots__ = (
        "ahead",
        "arguments",
        "asked",
        "blameless",
        "decided",
        "envelope",
        "gate",
        "left",
        "ruling",
        "session",
        "waited_for",
        "watch",
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
        self.ruling = Ruling(phase, recipient=recipient)
        self.decided = False
        self.asked = 0
        self.watch: Watch | None = None
        self.waited_for: Hook | None = None
        self.blameless = False
        self.left: float | None = None
        self.ahead = self._look_ahead(gate.ahead[phase]) if gate.ahead[phase] else _NONE_AHEAD

    def _look_ahead(self, hooks: tuple[Hook, ...]) -> dict[Hook, asyncio.Task[Any]]:
        """Start the look-ups of this phase that will be asked, as far as that is known now."""
        return {
            hook: self._start(hook)
            for hook in hooks
            if hook.instance.circuit.closed and not (hook.guarded and self._exempt())
        }

    def _start(self, hook: Hook) -> asyncio.Task[Any]:
        """Start a look-up that may run before its turn, so that waiting times overlap."""
        task = asyncio.get_running_loop().create_task(_run_ahead(self.gate, hook, self.arguments))
        task.add_done_callback(_look_at)
        return task

    def _exempt(self) -> bool:
        session, envelope = self.session, self.envelope
        if session.trusted or session.may_relay:
            return True
        return envelope is not None and envelope.exempt(self.ruling.recipient)

    def skips(self, hook: Hook) -> bool:
        """True when ``hook`` is not asked: the client is trusted, or its circuit is open, which counts as an error."""
        instance = hook.instance
        if hook.guarded and self._exempt():
            self.ruling.trace.append(Said(hook.name, skipped="trusted", observed=instance.observed))
            return True
        if instance.circuit.closed or instance.circuit.allows(self.gate.clock.monotonic()):
            return False
        self.ruling.trace.append(Said(hook.name, skipped="circuit open", observed=instance.observed))
        self._count_error(instance)
        return True

    def call(self, hook: Hook) -> Any:
        """Call ``hook``, which is observed or needs a thread or a task; what it gives back may have to be awaited."""
        arguments = self.arguments
        if hook.observed:
            arguments = _own_lists(arguments)
            acting.set(Acting(arguments))
        if hook.kind is Kind.BLOCKING:
            work = functools.partial(contextvars.copy_context().run, _run_blocking, hook, arguments)
            return hook.instance.threads.run(work)
        if hook.kind is Kind.AHEAD:
            return self.ahead.pop(hook, None) or self._start(hook)
        return hook.function(*hook.pick(arguments))

    def limit(self, hook: Hook) -> None:
        """Put the wait that begins now under the limits of the plugin and of the phase."""
        gate, phase = self.gate, self.ruling.phase
        self.waited_for = hook
        if self.watch is None:
            self.watch = gate.deadlines.watch(gate.budgets[phase])
        self.session.watch = self.watch
        if hook.observed:  # the time that it takes is not taken from the others
            self.left = self.watch.budget - gate.clock.monotonic()
            self.watch.budget = inf
        if hook.kind is Kind.AHEAD or phase == "queue":  # the one has a watch of its own, the other no limit
            self.watch.deadline = self.watch.budget
        else:
            self.watch.deadline = gate.clock.monotonic() + hook.instance.time_limit + self.session.allowance
        self.session.allowance = 0.0

    def lateness(self, hook: Hook) -> str | None:
        """Why an answer that was waited for does not count. Raises ``CancelledError`` when the client has left.

        A plugin may swallow its cancellation and answer all the same.
        """
        if self.watch is None or self.waited_for is not hook:
            return None
        self.session.watch = None
        now = self.gate.clock.monotonic()
        late = self.watch.take_back(now)
        if self.left is not None:
            self.watch.budget = self.watch.deadline = now + self.left
            self.left = None
        if self.watch.abandoned:
            self._abandon(hook)
        self.watch.forgive()
        return str(_late(hook)) if late else None

    def _abandon(self, hook: Hook) -> NoReturn:
        hook.instance.circuit.abandoned()
        raise asyncio.CancelledError

    def failure(self, error: BaseException, hook: Hook) -> str:
        """What went wrong, in words. Raises ``CancelledError`` when it is the client that left, not the plugin's fault.

        Only the task's own count tells a cancellation from outside from one that a plugin raises.
        """
        if isinstance(error, GeneratorExit) and asyncio.current_task() is None:
            raise error  # this very coroutine is closed, with its loop
        if isinstance(error, asyncio.CancelledError) and self.watch is not None and self.watch.cancelled_by_others:
            self._abandon(hook)
        if (late := self.lateness(hook)) is not None:
            return late
        # A stranger chooses which names are looked up: five that nobody answers for must not open a circuit.
        self.blameless = isinstance(error, DNSTemporaryError)
        if isinstance(error, PluginError):
            return str(error)
        if isinstance(error, asyncio.CancelledError):
            return "CancelledError: raised by the plugin"
        return f"{type(error).__name__}: {error}"

    def take(self, hook: Hook, answer: Any, error: str | None, seconds: float) -> None:
        """Take what ``hook`` said, or that it failed, into the ruling."""
        ruling, instance = self.ruling, hook.instance
        if seconds > STALL:
            self._tell_stall(hook, seconds)
        if error is None and answer is not None:
            error = fault_of(ruling.phase, instance, answer)
        if error is not None:
            self._take_error(hook, error, seconds)
            return
        if instance.circuit.failures:
            self._take_recovery(instance)
        if hook.observed:
            self._take_observed(hook, answer, seconds)
            return
        did = self._did()
        if answer is None and not did:
            ruling.trace.append((hook.name, seconds))
            return
        ruling.trace.append(_said(hook, answer, seconds, did=did))
        if answer is not None and ruling.phase not in ALL_RUN:
            self.decided = compose(ruling, hook.name, answer, self.session, self.envelope)

    def _tell_stall(self, hook: Hook, seconds: float) -> None:
        """Name who kept everybody else waiting, unless it only waited itself."""
        if self.waited_for is not hook and hook.kind in _ON_THE_LOOP:
            self._event("stall", "warning", plugin=hook.name, seconds=round(seconds, 3))

    def _take_recovery(self, instance: Instance) -> None:
        """It has failed before, and now it answers."""
        if not instance.circuit.closed:
            self._event("circuit_closed", "warning", plugin=instance.name)
        instance.circuit.succeeded()

    def _did(self) -> tuple[str, ...]:
        """What the plugin that was just asked has done besides answering."""
        session, envelope = self.session, self.envelope
        did, session.did = session.did, ()
        if envelope is not None and envelope.did:
            did, envelope.did = (*did, *envelope.did), ()
        return did

    def _take_observed(self, hook: Hook, answer: Any, seconds: float) -> None:
        """What an observed plugin says and does is recorded and not applied."""
        self.ruling.trace.append(_said(hook, answer, seconds, observed=True, withheld=self._withheld()))

    def _withheld(self) -> tuple[str, ...]:
        """What the observed plugin that was just asked would have changed."""
        actor = acting.get()
        acting.set(None)
        return () if actor is None else (*actor.withheld, *_changes(self.arguments, actor.arguments))

    def _take_error(self, hook: Hook, error: str, seconds: float) -> None:
        instance = hook.instance
        withheld = self._withheld()
        self.ruling.trace.append(
            Said(hook.name, seconds=seconds, error=error, observed=instance.observed, withheld=withheld)
        )
        self._event("plugin_failed", "error", plugin=hook.name, error=error, id=self.ruling.identify())
        if self.blameless:
            self.blameless = False
            instance.circuit.abandoned()
        elif instance.circuit.failed(self.gate.clock.monotonic()):
            self._event("circuit_opened", "error", plugin=hook.name)
        self._count_error(instance)

    def _count_error(self, instance: Instance) -> None:
        """What an error counts as: never accept, never a permanent refusal. A spent budget always defers."""
        phase = self.ruling.phase
        spent = self.watch is not None and self.gate.clock.monotonic() >= self.watch.budget
        if phase in ALL_RUN or phase == "greeting" or not (spent or _defers(instance)):
            return
        name = "gatepost" if spent else instance.name
        self.ruling.decide(defer("local error, try again later", 451, "4.3.0"), name, fault=True)
        self.decided = True

    def _event(self, event: str, level: str, **facts: object) -> None:
        self.gate.recorder.event(event, level, phase=self.ruling.phase, session=self.session.id, **facts)

    def end(self, seconds: float) -> None:
        """Stop what a decided phase no longer needs. It took ``seconds``."""
        gate, ruling = self.gate, self.ruling
        ruling.seconds = seconds
        chain = gate.chains[ruling.phase]
        if self.asked < len(chain):
            ruling.unasked = tuple(hook.name for hook in chain[self.asked :])
        if self.watch is not None:
            gate.deadlines.release(self.watch)
            self.session.watch = None
        for task in self.ahead.values():
            task.cancel()
        if gate.observes:
            acting.set(None)  # the client may have left in the midst of an observed plugin


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


async def _run_ahead(gate: Gate, hook: Hook, arguments: tuple[Any, ...]) -> Any:
    """A look-up in a task of its own, with a time limit of its own, whatever is waited for before its turn."""
    acting.set(Acting(ahead=True))
    watch = gate.deadlines.watch(hook.instance.time_limit)
    try:
        answer = await hook.function(*hook.pick(arguments))
    except (SystemExit, KeyboardInterrupt) as error:  # in a task of its own these would end the process
        raise PluginError(f"{type(error).__name__}: {error}") from error
    except asyncio.CancelledError:
        if not watch.take_back(gate.clock.monotonic()) or watch.cancelled_by_others:
            raise
        raise _late(hook) from None
    finally:
        gate.deadlines.release(watch)
    if watch.take_back(gate.clock.monotonic()):
        raise _late(hook)
    return answer


def _late(hook: Hook) -> PluginError:
    return PluginError(f"no answer within {hook.instance.time_limit:g} s")


def _run_blocking(hook: Hook, arguments: tuple[Any, ...]) -> Any:
    try:
        return hook.function(*hook.pick(arguments))
    except (SystemExit, KeyboardInterrupt, StopIteration) as error:  # a future cannot carry these
        raise PluginError(f"{type(error).__name__}: {error}") from error


def _look_at(task: asyncio.Task[Any]) -> None:
    """Look at the outcome of a look-up that nobody took, so that asyncio does not complain of it."""
    if not task.cancelled():
        task.exception()


def _said(hook: Hook, answer: Any, seconds: float, **more: Any) -> Said:
    if isinstance(answer, Mapping):
        answers = tuple((str(recipient), decision) for recipient, decision in answer.items())
        return Said(hook.name, seconds=seconds, answers=answers, **more)
    if isinstance(answer, str):
        answer = accept(answer)
    return Said(hook.name, answer if isinstance(answer, Decision) else None, seconds, **more)


def _own_lists(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """An observed plugin may change a list that it is given (capabilities): let it be a copy."""
    return tuple(list(argument) if type(argument) is list else argument for argument in arguments)


def _changes(given: tuple[Any, ...], own: tuple[Any, ...]) -> list[str]:
    """What was put into or taken out of the lists of ``own``, which began as those of ``given``."""
    changes = []
    for before, after in zip(given, own, strict=False):
        if type(before) is list:
            changes += [f"add {item!r}" for item in after if item not in before]
            changes += [f"remove {item!r}" for item in before if item not in after]
    return changes
