"""Hooks and chains: the plugins of a policy, ready to be asked.

A ``Hook`` is one phase of one plugin, a ``Chain`` all hooks of one phase, in order. They are made once, when a policy
is loaded, so that whatever can be known then costs nothing later. This module knows no session and calls no plugin.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from operator import itemgetter
from typing import Any, Final

from gatepost.gate.instance import Instance
from gatepost.hookspecs import Hookspecs

BUDGETS: Final = {"message": 120.0, "queue": float("inf")}
"""Seconds that these phases may take as a whole. Each plugin at queue has the limits of its commitment."""
BUDGET: Final = 60.0
"""Seconds that any other phase may take. Over it the client gets 451."""
EARLY_SECONDS: Final = 3.0
"""Seconds before the end of a client's wait for the greeting at which ``early`` hooks are called."""
CONNECT_SLACK: Final = 30.0
"""Seconds that connect may take beyond the longest wait that a plugin has declared."""


class Kind(Enum):
    """The way in which an implementation is called."""

    PLAIN = "plain"
    ASYNC = "async"
    AHEAD = "ahead"
    BLOCKING = "blocking"


@dataclass(frozen=True, slots=True, eq=False)  # compared and hashed by identity: each is the key of its look-up
class Hook:
    """One phase of one plugin: the function, and which of the phase's arguments it takes."""

    name: str
    instance: Instance
    function: Callable[..., Any]
    kind: Kind
    pick: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    observed: bool
    skips_trusted: bool
    """True when it is not asked about trusted clients."""
    on_loop: bool
    """True when it runs in neither a thread nor a task of its own, so that no other client has a turn meanwhile."""
    direct: bool
    """True when calling it is all there is to do: it is on the loop, and not observed."""
    early: bool
    """True when it is also called before the end of a wait for the greeting, to start look-ups."""


class Chain:
    """The hooks of ``phase``, in the order in which they are asked, and the phase's limits."""

    __slots__ = ("ahead", "budget", "early", "hooks", "phase")

    def __init__(self, phase: str, hooks: Iterable[Hook] = ()) -> None:
        self.phase = phase
        self.hooks = tuple(hooks)
        self.ahead = tuple(hook for hook in self.hooks if hook.kind is Kind.AHEAD)
        """The hooks that look ahead."""
        self.early = tuple(hook for hook in self.hooks if hook.early)
        """The hooks that start look-ups before the end of a wait for the greeting."""
        self.budget = BUDGETS.get(phase, BUDGET)
        """Seconds that the phase may take as a whole."""
        if phase == "connect":
            declared = (hook.instance.declaration.longest_wait for hook in self.hooks)
            self.budget = CONNECT_SLACK + max(declared, default=0.0)

    def __len__(self) -> int:
        return len(self.hooks)

    def __iter__(self) -> Iterator[Hook]:
        return iter(self.hooks)


def compile_hook(
    instance: Instance, phase: str, function: Callable[..., Any], wanted: tuple[str, ...], opts: Any
) -> Hook:
    """Make a hook of ``phase`` from a function that pluggy holds, with its ``opts``."""
    kind = kind_of(function, opts)
    on_loop = kind in {Kind.PLAIN, Kind.ASYNC}
    pick = _picker(wanted, arguments_of(phase))
    return Hook(
        instance.name,
        instance,
        function,
        kind,
        _entering(instance, pick) if phase == "queue" else pick,
        observed=instance.observed,
        skips_trusted=instance.declaration.skip_trusted,
        on_loop=on_loop,
        direct=on_loop and not instance.observed,
        early=bool(opts.get("early")),
    )


def arguments_of(phase: str) -> tuple[str, ...]:
    """Return the names of a phase's arguments, in the order of its specification."""
    return tuple(inspect.signature(getattr(Hookspecs, phase)).parameters)[1:]


def kind_of(function: Callable[..., Any], marks: Mapping[str, Any]) -> Kind:
    """Return the way in which an implementation with the ``marks`` of ``hookimpl`` is called.

    Marks that contradict the function are refused when the plugin is loaded, see ``plugins.contract``.
    """
    if marks.get("ahead"):
        return Kind.AHEAD
    if marks.get("blocking"):
        return Kind.BLOCKING
    return Kind.ASYNC if inspect.iscoroutinefunction(function) else Kind.PLAIN


def _entering(instance: Instance, pick: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Callable[..., tuple[Any, ...]]:
    """Return ``pick`` for a hook of queue: it also says that the plugin begins with the handover."""
    may_take, commits_itself = instance.may_grant("queue"), instance.declaration.commits

    def enter_and_pick(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        commitment = arguments[1]._commitment
        if commitment is not None:
            commitment.enter(instance.name, may_take=may_take, commits_itself=commits_itself)
        return pick(arguments)

    return enter_and_pick


def _picker(wanted: tuple[str, ...], given: tuple[str, ...]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Return a function that picks the ``wanted`` ones out of a tuple of the ``given`` arguments, in C."""
    if wanted == given[: len(wanted)]:
        return itemgetter(slice(len(wanted)))
    places = [given.index(name) for name in wanted]
    if len(places) == 1:  # ``itemgetter`` of one index returns the bare item; the caller wants a tuple
        return itemgetter(slice(places[0], places[0] + 1))
    return itemgetter(*places)
