"""A probe between the gate and the plugin: notes every call, times each step of it, and cancels it where it is told.

The gate asks as it always does; only the functions of the plugin's hooks are wrapped.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Generator, Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from gatepost.decisions import Action, Decision
from gatepost.errors import PluginError
from gatepost.gate import Chain, CircuitBreaker, Gate, Hook, Kind, fault_of
from gatepost.session import Envelope, Session
from gatepost.testing.policy import Policy

STUBBORN = 100
"""Awaits after a cancellation, after which a call is ended by force."""


@dataclass(slots=True, eq=False)
class Call:
    """One call of a hook."""

    phase: str
    step: str
    """What the client did."""
    answer: Any = None
    error: BaseException | None = None
    fault: str | None = None
    """Why the answer is none, as the gate would say it."""
    awaits: int = 0
    longest: float = 0.0
    """Real seconds of the longest stretch in which nobody else had a turn."""
    wrote: list[str] = field(default_factory=list)
    """What it changed of session and envelope."""
    cancelled: bool = False
    swallowed: bool = False
    """Whether it was cancelled and went on all the same."""

    @property
    def actions(self) -> frozenset[Action]:
        """What it said, of one or of several recipients."""
        said = self.answer.values() if isinstance(self.answer, Mapping) else (self.answer,)
        return frozenset(each.action for each in said if isinstance(each, Decision))

    @property
    def where(self) -> str:
        """Phase and step, for findings."""
        return f"{self.phase}, at {self.step}"


class _SteadyCircuit(CircuitBreaker):
    """Never opens, so that the plugin is asked however often it fails."""

    __slots__ = ()

    def failed(self, now: float) -> bool:
        """Forget it."""
        return False


class Probe:
    """The calls of the plugin ``name`` in one play.

    ``cancel``: a phase and the number of the await in it, from 0, that is cancelled, as a time limit would.
    """

    def __init__(self, policy: Policy, name: str, cancel: tuple[str, int] | None = None) -> None:
        self.policy = policy
        self.calls: list[Call] = []
        self.step = ""
        self.left: list[str] = []
        """Tasks that were left behind, by the names of their functions."""
        self.trouble: list[str] = []
        """What kept the play from coming to an end."""
        self._cancel = cancel
        self._awaits: dict[str, int] = {}
        for gate in {id(each): each for each in (policy.gate, *policy.loaded.gates.values())}.values():
            self._attach(gate, name)

    def awaits(self) -> dict[str, int]:
        """How often each phase gave others a turn."""
        return {phase: last + 1 for phase, last in self._awaits.items()}

    @property
    def raised(self) -> list[Call]:
        """The calls that ended with an exception. What a look-up ahead may not write is a matter of its own."""
        failed = [call for call in self.calls if call.error is not None and not call.cancelled]
        return [call for call in failed if not call.wrote]

    def _attach(self, gate: Gate, name: str) -> None:
        for phase, chain in gate.chains.items():
            hooks = (self._probed(phase, hook) if hook.name == name else hook for hook in chain)
            gate.chains[phase] = Chain(phase, hooks)
        for each in gate.instances:
            if each.name == name:
                each.circuit = _SteadyCircuit()

    def _probed(self, phase: str, hook: Hook) -> Hook:
        def function(arguments: tuple[Any, ...], picked: tuple[Any, ...]) -> Any:
            return self._call(phase, hook, arguments, picked)

        return replace(hook, function=function, pick=lambda arguments: (arguments, hook.pick(arguments)))

    def _call(self, phase: str, hook: Hook, arguments: tuple[Any, ...], picked: tuple[Any, ...]) -> Any:
        call = Call(phase, self.step)
        self.calls.append(call)
        began = perf_counter()
        try:
            answer = hook.function(*picked)
        except BaseException as error:
            call.error = error
            raise
        finally:
            if hook.kind is not Kind.BLOCKING:
                call.longest = perf_counter() - began
        if inspect.isawaitable(answer):
            return _Steps(self, call, hook, arguments, answer)
        self.ended(call, hook, answer)
        return answer

    def ended(self, call: Call, hook: Hook, answer: Any) -> None:
        """Note what it said."""
        call.answer = answer
        call.fault = None if answer is None else fault_of(call.phase, hook.instance, answer)

    def is_due(self, call: Call) -> bool:
        """Whether this await is the one to cancel; counts it."""
        number = self._awaits[call.phase] = self._awaits.get(call.phase, -1) + 1
        return self._cancel == (call.phase, number)


class _Steps:
    """An awaitable that goes through another one step by step."""

    def __init__(self, probe: Probe, call: Call, hook: Hook, arguments: tuple[Any, ...], work: Awaitable[Any]) -> None:
        self._probe = probe
        self._call = call
        self._hook = hook
        self._session = next((each for each in arguments if isinstance(each, Session)), None)
        self._envelope = next((each for each in arguments if isinstance(each, Envelope)), None)
        self._work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        call, inner = self._call, self._work.__await__()
        resume: Any = lambda: next(inner)  # noqa: E731, the next step is a value here
        while True:
            try:
                waited = self._step(resume)
            except StopIteration as stop:
                call.swallowed = call.cancelled
                self._probe.ended(call, self._hook, stop.value)
                return stop.value
            except BaseException as error:
                self._failed(error)
                raise
            call.awaits += 1
            if self._probe.is_due(call):
                asyncio.get_running_loop().call_soon(self._stop())
            elif call.cancelled and call.awaits > STUBBORN:
                call.swallowed = True
                raise PluginError("it goes on after it was cancelled")
            try:
                value = yield waited
            except GeneratorExit:
                inner.close()
                raise
            except BaseException as thrown:
                if isinstance(thrown, asyncio.CancelledError):
                    call.cancelled, call.awaits = True, 0
                resume = _throwing(inner, thrown)
            else:
                resume = _sending(inner, value)

    def _failed(self, error: BaseException) -> None:
        """Note an exception, and whether it stands in the place of a cancellation."""
        call = self._call
        call.error = error
        call.swallowed = call.cancelled and not isinstance(error, asyncio.CancelledError)
        if isinstance(error, PluginError) and "must not write" in str(error):
            call.wrote.append(str(error).rpartition(": ")[2])

    def _step(self, resume: Any) -> Any:
        before, began = self._state(), perf_counter()
        try:
            return resume()
        finally:
            self._call.longest = max(self._call.longest, perf_counter() - began)
            if self._hook.kind is Kind.AHEAD:
                self._call.wrote += _differences(before, self._state())

    def _state(self) -> dict[str, Any]:
        """What everybody sees of session and envelope."""
        if self._hook.kind is not Kind.AHEAD:
            return {}
        return {
            f"{word}.{name}": getattr(holder, name)
            for word, holder in (("session", self._session), ("envelope", self._envelope))
            if holder is not None
            for name in _attributes(holder)
        }

    def _stop(self) -> Any:
        """What ends the wait: that of the time limits, which the gate takes back; for a look-up ahead, its task's."""
        task = asyncio.current_task()
        assert task is not None
        watch = self._session._watch if self._session is not None else None
        return task.cancel if self._hook.kind is Kind.AHEAD or watch is None else watch.cancel


def _attributes(holder: object) -> list[str]:
    """The public ones that can be written; compiled classes have no ``__slots__``."""
    found = inspect.getmembers(type(holder), inspect.isdatadescriptor)
    return [name for name, _ in found if not name.startswith("_") and _is_writable(holder, name)]


def _is_writable(holder: object, name: str) -> bool:
    try:
        setattr(holder, name, getattr(holder, name))
    except AttributeError:
        return False
    return True


def _throwing(inner: Any, error: BaseException) -> Any:
    return lambda: inner.throw(error)


def _sending(inner: Any, value: Any) -> Any:
    return lambda: inner.send(value)


def _differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name, value in after.items() if before[name] is not value and before[name] != value]
