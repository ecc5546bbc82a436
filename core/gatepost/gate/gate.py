"""The gate: the loaded policy. It asks the plugins of a phase, in order, and rules.

For each phase it holds the ordered implementations as a tuple, read once from pluggy's public list. A plain ``def`` is
called, an ``async def`` awaited, nobody after the deciding one. It is immutable: a reload builds a new gate, and
sessions under way keep the old one.

What it does around each call is alike for all plugins: skip for trusted clients, circuit, time limit, what an error
counts as, observing, the record of who said what. How a phase is asked stands in ``asking``, what is done with a hook
that waits or fails in ``unfinished``, how answers compose in ``composition``. It knows no replies and no order of
commands: see ``conversation``.
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

import pluggy
from mypy_extensions import mypyc_attr

from gatepost import events
from gatepost.address import Address
from gatepost.concurrency import Deadlines
from gatepost.events import Recorder
from gatepost.gate.chain import Chain, compile_hook
from gatepost.gate.fast_path import ask_in_order
from gatepost.gate.instance import Instance
from gatepost.gate.score import Score
from gatepost.gate.slow_path import SlowPath
from gatepost.hookspecs import PHASES
from gatepost.rulings import Ruling
from gatepost.services.clock import Clock
from gatepost.session import Envelope, Session
from gatepost.write_guard import Acting, acting


@mypyc_attr(allow_interpreted_subclasses=True)
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
        """The plugin called ``name``; None for the core's own names."""
        return next((instance for instance in self.instances if instance.name == name), None)

    def tell(self, phase: str, arguments: tuple[Any, ...]) -> None:
        """Call the implementations of a phase that nobody waits for (``ruled``): plain defs, one after the other."""
        for hook in self.chains[phase]:
            acting.set(Acting(arguments) if hook.observed else None)
            try:
                hook.function(*hook.pick(arguments))
            except BaseException as error:  # no plugin ends a session, nor the process
                self.recorder.event(events.PLUGIN_FAILED, plugin=hook.name, phase=phase, error=repr(error))
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
        asked = self.begin(phase, arguments, session, envelope, recipient)
        return asked if isinstance(asked, Ruling) else await asked

    def begin(
        self,
        phase: str,
        arguments: tuple[Any, ...],
        session: Session,
        envelope: Envelope | None = None,
        recipient: Address | None = None,
    ) -> Ruling | Coroutine[Any, Any, Ruling]:
        """The same without a turn: the ruling, or, where somebody is not done with, what is to be awaited for it.

        To be called in a task, and awaited at once in the same one, since hooks may have begun in it.
        """
        chain = self.chains[phase]
        hooks = iter(chain)
        ruling = Ruling(phase, recipient=recipient)
        unfinished = None
        if not chain.ahead:
            unfinished = ask_in_order(hooks, ruling, arguments, session, envelope)
            if unfinished is None:
                return ruling
        asking = SlowPath(chain, hooks, ruling, arguments, session, envelope, self.deadlines, self.recorder)
        return asking.go_on(unfinished)


def _chain(plugins: pluggy.PluginManager, instances: tuple[Instance, ...], phase: str) -> Chain:
    """The implementations of ``phase`` in the order of the configuration."""
    by_plugin = {id(instance.plugin): instance for instance in instances}
    hooks = []
    for implementation in reversed(getattr(plugins.hook, phase).get_hookimpls()):
        instance = by_plugin[id(implementation.plugin)]
        if instance.phases is None or phase in instance.phases:
            wanted = (*implementation.argnames, *implementation.kwargnames)
            hooks.append(compile_hook(instance, phase, implementation.function, wanted, implementation.opts))
    return Chain(phase, hooks)
