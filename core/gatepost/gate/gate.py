"""The gate: the loaded policy. It asks the plugins of a phase, in order, and rules.

For each phase it holds the ordered implementations as a tuple, read once from pluggy's public list. It is immutable: a
reload builds a new gate, and sessions under way keep the old one.

``Gate.begin`` is the fast path: it skips plugins for trusted clients, calls hooks that answer at once, and records who
said what. At the first hook that needs more, ``slow_path`` takes over for the rest of the phase: it limits the time of
plugins, applies the circuit breaker, says what an error counts as, and withholds what observed plugins do.
``composition`` says how answers become a ruling.

The gate knows no replies and no order of commands: see ``conversation``.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from time import perf_counter
from types import CoroutineType
from typing import Any, Final

import pluggy
from mypy_extensions import mypyc_attr

from gatepost import events
from gatepost.address import Address
from gatepost.concurrency import Deadlines, start_eagerly
from gatepost.decisions import Decision
from gatepost.events import Recorder
from gatepost.gate.chain import EARLY_SECONDS, Chain, Hook, compile_hook
from gatepost.gate.composition import fault_of, is_trusted, take
from gatepost.gate.instance import Instance
from gatepost.gate.score import Score
from gatepost.gate.slow_path import STALL_SECONDS, TRUSTED, Outcome, SlowPath, failure_of
from gatepost.hookspecs import PHASES
from gatepost.rulings import Ruling, Said
from gatepost.services.clock import Clock
from gatepost.session import Envelope, Session
from gatepost.write_guard import Observed

# Compiled code reads its own module's constants directly, and looks imported names up in a dict.
_now: Final = perf_counter
_COROUTINE: Final = CoroutineType
_DECISION: Final = Decision
_STALL_SECONDS: Final = STALL_SECONDS


@mypyc_attr(allow_interpreted_subclasses=True)  # rehearsal.trial has one, which keeps all rulings
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
        self.chains = {phase: _chain(plugins, self.instances, phase) for phase in PHASES}

    def instance(self, name: str) -> Instance | None:
        """Return the plugin called ``name``; None for the core's own names."""
        return next((instance for instance in self.instances if instance.name == name), None)

    def order(self, phase: str) -> tuple[str, ...]:
        """Return the names of the plugins that ``phase`` asks, in order: read from the very tuple that runs."""
        return tuple(hook.name for hook in self.chains[phase])

    def begin(
        self,
        phase: str,
        arguments: tuple[Any, ...],
        session: Session,
        envelope: Envelope | None = None,
        recipient: Address | None = None,
    ) -> Ruling | Coroutine[Any, Any, Ruling]:
        """Ask the plugins of ``phase`` and return the ruling, or a coroutine that returns it.

        ``arguments`` are those of the phase's specification, in that order. Must be called in a task, and the coroutine
        awaited at once in the same task, since hooks may have begun in it.
        """
        chain = self.chains[phase]
        ruling = Ruling(phase, recipient=recipient)
        # One iterator for both paths: the slow one goes on where the fast one has stopped.
        hooks = iter(chain.hooks)
        if chain.ahead:  # look-ups start before the first hook is asked
            return SlowPath(chain, ruling, arguments, session, envelope, self.deadlines, self.recorder).ask(hooks)
        trace = ruling.trace
        slow: Hook | None = None
        outcome: Outcome | None = None
        began = start = _now()
        for hook in hooks:
            if hook.skips_trusted and is_trusted(session, envelope, recipient):
                trace.append(Said(hook.name, skipped=TRUSTED, observed=hook.observed))
                continue
            # A plugin whose last call failed goes the slow way, so that a success can reset its circuit breaker.
            if not hook.direct or hook.instance.circuit.failures:
                slow = hook
                break
            try:
                answer = hook.function(*hook.pick(arguments))
                # Most of these never wait, so most need neither a time limit nor an await.
                answer = start_eagerly(answer) if type(answer) is _COROUTINE else answer
            except BaseException as error:  # no plugin ends a session, nor the process
                slow, outcome = hook, Outcome(failure=failure_of(error, hook.instance.plugin), seconds=_now() - start)
                break
            now = _now()
            seconds = now - start
            if seconds > _STALL_SECONDS or (
                answer is not None
                and (type(answer) is not _DECISION or fault_of(phase, hook.instance, answer) is not None)
            ):
                slow, outcome = hook, Outcome(answer, seconds=seconds)
                break
            start = now  # the end of one call is the start of the next: the clock is read once for each hook
            if answer is None and not session._did and (envelope is None or not envelope._did):
                trace.append((hook.name, seconds))  # ``take`` inlined for the common case: several times per command
            elif take(ruling, hook.name, answer, seconds, session, envelope):
                ruling.unasked = tuple([unasked.name for unasked in hooks])  # the rest of the iterator
                break
        ruling.seconds = start - began
        if slow is None:
            return ruling
        slow_path = SlowPath(chain, ruling, arguments, session, envelope, self.deadlines, self.recorder)
        return slow_path.ask(hooks, slow, outcome)

    async def ask(
        self,
        phase: str,
        arguments: tuple[Any, ...],
        session: Session,
        envelope: Envelope | None = None,
        recipient: Address | None = None,
    ) -> Ruling:
        """Ask the plugins of ``phase`` as ``begin`` does, and wait for the ruling.

        Raises ``CancelledError`` when the client leaves meanwhile, and nothing else.
        """
        asked = self.begin(phase, arguments, session, envelope, recipient)
        return asked if isinstance(asked, Ruling) else await asked

    def early_seconds(self, wait: float) -> float:
        """Return how long before the end of a client's ``wait`` for the greeting ``look_up_early`` is to be called.

        0 when no plugin needs it.
        """
        return min(EARLY_SECONDS, wait / 2) if self.chains["connect"].early else 0.0

    def look_up_early(self, session: Session) -> None:
        """Call the ``early`` hooks of connect, which start look-ups; at its turn each is called as usual.

        Not before: a client that talks early, as spam programs do, is to cost no question, and looking up takes memory,
        of which a client that waits is to take little. Whatever else a hook does now is withheld.
        """
        arguments = (session,)
        for hook in self.chains["connect"].early:
            if (hook.skips_trusted and is_trusted(session, None, None)) or not hook.instance.circuit.closed:
                continue
            try:
                with Observed(arguments):
                    hook.function(*hook.pick(arguments))
            except BaseException as error:  # no plugin ends a session, nor the process; at its turn it counts
                self.recorder.event(
                    events.PLUGIN_FAILED, plugin=hook.name, phase="connect", session=session.id, error=repr(error)
                )

    def tell(self, phase: str, arguments: tuple[Any, ...]) -> None:
        """Call the implementations of a phase that returns nothing and is not waited for (``ruled``), in order."""
        for hook in self.chains[phase]:
            try:
                if hook.observed:
                    with Observed(arguments) as observed:
                        hook.function(*hook.pick(observed.arguments))
                else:
                    hook.function(*hook.pick(arguments))
            except BaseException as error:  # no plugin ends a session, nor the process
                text = failure_of(error, hook.instance.plugin).text
                self.recorder.event(events.PLUGIN_FAILED, plugin=hook.name, phase=phase, error=text)
                self.recorder.event(events.PLUGIN_TRACEBACK, plugin=hook.name, phase=phase, traceback=error)


def _chain(plugins: pluggy.PluginManager, instances: tuple[Instance, ...], phase: str) -> Chain:
    """Return the implementations of ``phase`` in the order of the configuration."""
    by_plugin = {id(instance.plugin): instance for instance in instances}
    hooks = []
    # ``plugins.load`` registers in reverse, because pluggy calls first what was registered last. Its list has the
    # implementations in the order of registration.
    for implementation in reversed(getattr(plugins.hook, phase).get_hookimpls()):
        instance = by_plugin[id(implementation.plugin)]
        if instance.phases is None or phase in instance.phases:
            wanted = (*implementation.argnames, *implementation.kwargnames)
            hooks.append(compile_hook(instance, phase, implementation.function, wanted, implementation.opts))
    return Chain(phase, hooks)
