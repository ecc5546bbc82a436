"""A probe between the gate and a plugin: it records all calls, measures each step, and can cancel one.

The gate works as always; only the functions of the plugin's hooks are wrapped.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import Any

from gatepost.decisions import Action, Decision
from gatepost.errors import PluginError
from gatepost.gate import Chain, CircuitBreaker, Gate, Hook, Kind, fault_of
from gatepost.session import Envelope, Session
from gatepost.testing.policy import Policy

STUBBORN = 100
"""The number of awaits after its cancellation at which a call is stopped by an exception."""


@dataclass(slots=True, eq=False)
class Call:
    """A call of a hook."""

    phase: str
    step: str
    """The action of the client."""
    pending: tuple[str, ...] = ()
    """At queue, the recipients that it was asked about."""
    answer: Any = None
    error: BaseException | None = None
    fault: str | None = None
    """The reason why the answer is invalid, in the words of the gate."""
    awaits: int = 0
    longest: float = 0.0
    """The longest time for which the event loop was blocked, in real seconds."""
    wrote: list[str] = field(default_factory=list)
    """The forbidden writes that it tried in a look-up ahead."""
    changed: list[str] = field(default_factory=list)
    """The private attributes of session and envelope that it changed, which are the core's."""
    cancelled: bool = False
    """True when a ``CancelledError`` was thrown into it, by anybody: ``asyncio.timeout`` does that itself."""
    stopped: bool = False
    """True when the probe or a time limit cancelled it."""
    swallowed: bool = False
    """True when it continued after it was stopped."""

    @property
    def actions(self) -> frozenset[Action]:
        """The actions of its decisions, for one or several recipients."""
        said = self.answer.values() if isinstance(self.answer, Mapping) else (self.answer,)
        return frozenset(each.action for each in said if isinstance(each, Decision))

    @property
    def answered(self) -> dict[str, Action]:
        """At queue, the action for each recipient that it was asked about and has answered for."""
        if isinstance(self.answer, Decision):
            return dict.fromkeys(self.pending, self.answer.action)
        said = {str(each): answer for each, answer in self.answer.items()} if isinstance(self.answer, Mapping) else {}
        return {each: said[each].action for each in self.pending if isinstance(said.get(each), Decision)}

    @property
    def where(self) -> str:
        """The phase and the step, for findings."""
        return f"{self.phase}, at {self.step}"


class _SteadyBreaker(CircuitBreaker):
    """A circuit breaker that never opens, so that the plugin is always asked."""

    __slots__ = ()

    def failed(self, now: float) -> bool:
        """Ignore the failure."""
        return False


class Probe:
    """The calls of the plugin ``name`` while visits are played.

    ``cancel`` is a phase and the number of an await in it, from 0, at which to cancel the call, like a time limit.
    ``serving`` is set to the arguments of the call that runs.
    """

    def __init__(
        self,
        policy: Policy,
        name: str,
        cancel: tuple[str, int] | None = None,
        serving: ContextVar[tuple[Any, ...]] | None = None,
    ) -> None:
        self.policy = policy
        self.calls: list[Call] = []
        self.step = ""
        self.left: list[str] = []
        """The tasks that were left, as names of their functions."""
        self.unawaited: list[str] = []
        """The coroutines that were never awaited, as names of their functions."""
        self.trouble: list[str] = []
        """The reasons why a visit could not be played to its end."""
        self._cancel = cancel
        self.serving = serving or ContextVar("serving", default=())
        self._awaits: dict[str, int] = {}
        for gate in (policy.gate, *policy.loaded.gates.values()):
            self._attach(gate, name)

    def awaits(self) -> dict[str, int]:
        """Return the number of awaits of each phase."""
        return {phase: last + 1 for phase, last in self._awaits.items()}

    @property
    def raised(self) -> list[Call]:
        """The calls that raised an exception, except for forbidden writes, which another check reports."""
        failed = [call for call in self.calls if call.error is not None and not call.stopped and not call.wrote]
        return [call for call in failed if not (call.cancelled and isinstance(call.error, asyncio.CancelledError))]

    def _attach(self, gate: Gate, name: str) -> None:
        for phase, chain in gate.chains.items():
            hooks = (self._probed(phase, hook) if hook.name == name else hook for hook in chain)
            gate.chains[phase] = Chain(phase, hooks)
        for each in gate.instances:
            if each.name == name:
                each.circuit = _SteadyBreaker()

    def _probed(self, phase: str, hook: Hook) -> Hook:
        def function(arguments: tuple[Any, ...], picked: tuple[Any, ...]) -> Any:
            return self._call(phase, hook, arguments, picked)

        return replace(hook, function=function, pick=lambda arguments: (arguments, hook.pick(arguments)))

    def _call(self, phase: str, hook: Hook, arguments: tuple[Any, ...], picked: tuple[Any, ...]) -> Any:
        envelope = next((each for each in arguments if isinstance(each, Envelope)), None)
        asked_about = envelope.pending if envelope is not None and phase == "queue" else ()
        call = Call(phase, self.step, tuple(map(str, asked_about)))
        self.calls.append(call)
        before, began = _state_of(arguments), perf_counter()
        serving = self.serving.set(arguments)
        try:
            answer = hook.function(*picked)
        except BaseException as error:
            call.error = error
            raise
        finally:
            self.serving.reset(serving)
            if hook.kind is not Kind.BLOCKING:
                call.longest = perf_counter() - began
            call.changed = _changes(before, arguments)
        if inspect.isawaitable(answer):
            return _Steps(self, call, hook, arguments, answer)
        self.ended(call, hook, answer)
        return answer

    def ended(self, call: Call, hook: Hook, answer: Any) -> None:
        """Record the answer."""
        call.answer = answer
        call.fault = None if answer is None else fault_of(call.phase, hook.instance, answer)

    def is_due(self, call: Call) -> bool:
        """Count an await, and return whether it is the one to cancel."""
        number = self._awaits[call.phase] = self._awaits.get(call.phase, -1) + 1
        return self._cancel == (call.phase, number)


class _Steps:
    """An awaitable that drives another one step by step.

    Only so can the probe see how long each step blocks the loop, and cancel the call at any of its awaits.
    """

    def __init__(self, probe: Probe, call: Call, hook: Hook, arguments: tuple[Any, ...], work: Awaitable[Any]) -> None:
        self._probe = probe
        self._call = call
        self._hook = hook
        self._arguments = arguments
        self._session = next((each for each in arguments if isinstance(each, Session)), None)
        self._work = work
        self._is_due = False

    def __await__(self) -> Generator[Any, Any, Any]:
        call, inner = self._call, self._work.__await__()
        resume: Callable[[], Any] = partial(next, inner)
        while True:
            try:
                waited = self._step(resume)
            except StopIteration as stop:
                call.swallowed = call.stopped
                self._probe.ended(call, self._hook, stop.value)
                return stop.value
            except BaseException as error:
                self._failed(error)
                raise
            call.awaits += 1
            if self._probe.is_due(call):
                self._is_due = True
                asyncio.get_running_loop().call_soon(self._stop())
            elif call.stopped and call.awaits > STUBBORN:
                call.swallowed = True
                raise PluginError("it goes on after it was cancelled")
            try:
                value = yield waited
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as thrown:
                if isinstance(thrown, asyncio.CancelledError):
                    call.cancelled, call.stopped, call.awaits = True, call.stopped or self._is_stopped, 0
                resume = partial(inner.throw, thrown)
            else:
                resume = partial(inner.send, value)

    @property
    def _is_stopped(self) -> bool:
        """True when the probe or the gate's time limit has cancelled the call."""
        watch = self._session._watch if self._session is not None else None
        return self._is_due or (watch is not None and watch._sweeps > 0)

    def _failed(self, error: BaseException) -> None:
        """Record an exception, and whether it replaced a cancellation."""
        call = self._call
        call.error = error
        call.swallowed = call.stopped and not isinstance(error, asyncio.CancelledError)
        if isinstance(error, PluginError) and "must not write" in str(error):
            call.wrote.append(str(error).rpartition(": ")[2])

    def _step(self, resume: Callable[[], Any]) -> Any:
        """Run one step, measure it, and note what it changed."""
        before, began = _state_of(self._arguments), perf_counter()
        serving = self._probe.serving.set(self._arguments)
        try:
            return resume()
        finally:
            self._probe.serving.reset(serving)
            self._call.longest = max(self._call.longest, perf_counter() - began)
            self._call.changed += _changes(before, self._arguments)

    def _stop(self) -> Any:
        """Return the function that cancels the call as its time limit would; for a look-up ahead, that of its task."""
        watch = self._session._watch if self._session is not None else None
        if watch is not None and self._hook.kind is not Kind.AHEAD:
            return watch.cancel
        task = asyncio.current_task()
        assert task is not None
        return task.cancel


_OF_THE_CORE = (
    (Session, "session", ("_client", "_envelope", "_esmtp", "_helo", "_may_relay")),
    (Envelope, "envelope", ("_answers", "_message", "_recipients", "_sender")),
)
"""The private attributes that decide what is delivered to whom, and that no method changes for a plugin."""


def _state_of(arguments: tuple[Any, ...]) -> dict[str, Any]:
    """Return the core's state of the session and the envelope in ``arguments``."""
    state = {
        f"{word}.{name}": getattr(each, name)
        for each in arguments
        for kind, word, names in _OF_THE_CORE
        if isinstance(each, kind)
        for name in names
    }
    return {name: dict(value) if isinstance(value, dict) else value for name, value in state.items()}


def _changes(before: dict[str, Any], arguments: tuple[Any, ...]) -> list[str]:
    return [name for name, value in _state_of(arguments).items() if before[name] != value]
