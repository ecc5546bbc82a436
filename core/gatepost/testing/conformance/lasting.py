"""Checks of the lasting effects of a plugin: tasks, and references to sessions."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

from gatepost.conversation import Conversation
from gatepost.message import Message
from gatepost.plugins import hooks_of
from gatepost.session import Envelope, Session
from gatepost.testing.conformance.sessions import witness
from gatepost.testing.conformance.subject import NotApplicableError, Subject
from gatepost.testing.policy import Policy

MOST_AWAITS = 8
"""The most awaits of a phase to cancel. If there are more, these are spread evenly."""
MOST_OBJECTS = 200_000
"""The most objects to examine from one attribute on."""
OF_A_SESSION = (Session, Envelope, Message, Conversation)
_NOT_ENTERED = (type, ModuleType, asyncio.Future, asyncio.AbstractEventLoop)
"""Types whose objects are not searched: through them everything in the process is reachable."""


async def cancellation(subject: Subject) -> list[str]:
    """When it is cancelled at any await, it ends at once and leaves no tasks."""
    subject.playable()
    awaits = (await witness(subject)).awaits()
    if not any(awaits.values()):
        raise NotApplicableError("it never awaits")
    found: list[str] = []
    for phase, count in awaits.items():
        for number in sorted({count * part // MOST_AWAITS for part in range(MOST_AWAITS)}):
            probe = await witness(subject, cancel=(phase, number))
            if any(call.swallowed for call in probe.calls):
                found.append(f"its {phase} goes on after it was cancelled: let CancelledError through")
            found += [f"its {phase} leaves a task when it is cancelled: {task}" for task in probe.left]
    return list(dict.fromkeys(found))


async def tasks(subject: Subject) -> list[str]:
    """No task outlives its session; those of session.later end with it."""
    subject.playable()
    left = (await witness(subject)).left
    return [f"it leaves a task: {task}; start work with session.later" for task in dict.fromkeys(left)]


async def keeps(subject: Subject) -> list[str]:
    """It keeps no session, envelope or message after the client has disconnected."""
    subject.playable()
    policy = (await witness(subject)).policy
    plugin, services = policy.plugin(subject.name), _services(policy)
    return [
        f"{where} holds the {kind} of a client that has disconnected: keep it in session.notes(self)"
        for where, value in _roots(plugin, subject.offered)
        if (kind := _held(value, services)) is not None
    ]


def _services(policy: Policy) -> frozenset[int]:
    """Return the ids of the kit's objects, which a plugin may keep, and through which sessions may be reachable."""
    return frozenset(
        map(id, (policy, policy.clock, policy.dns, policy.store, policy.next_hop, policy.log, policy.events))
    )


def _roots(plugin: Any, offered: Any) -> Iterator[tuple[str, Any]]:
    """Yield the attributes in which a plugin may keep something: its own, its classes' and its module's."""
    if plugin is not offered:
        yield from ((f"self.{name}", value) for name, value in _attributes(plugin))
        for owner in offered.__mro__[:-1]:
            yield from ((f"{owner.__name__}.{name}", value) for name, value in vars(owner).items() if _is_own(value))
    _, hook = next(hooks_of(offered))  # its globals are those of the plugin's module, also of a local file
    held = hook.__globals__
    yield from ((name, held[name]) for name in held if not name.startswith("__") and _is_own(held[name]))


def _attributes(plugin: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of an object's attributes, without running a property."""
    yield from getattr(plugin, "__dict__", {}).items()
    for owner in type(plugin).__mro__:
        slots = owner.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if hasattr(plugin, name):
                yield name, getattr(plugin, name)


def _is_own(value: Any) -> bool:
    """Return True when an attribute of a class or module may hold a plugin's data, unlike functions and constants."""
    return isinstance(value, (dict, list, set, deque, *OF_A_SESSION))


def _held(root: Any, services: frozenset[int]) -> str | None:
    """Return the kind of the first object of a session that is reachable from ``root``, or None."""
    seen, waiting = set(services), deque((root,))
    while waiting and len(seen) < MOST_OBJECTS:
        each = waiting.popleft()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, OF_A_SESSION):
            return type(each).__name__
        if isinstance(each, FunctionType):
            waiting.extend(each.__closure__ or ())
        elif not isinstance(each, _NOT_ENTERED):
            waiting.extend(part for part in gc.get_referents(each) if gc.is_tracked(part))
    return None
