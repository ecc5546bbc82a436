"""Checks of a plugin's statements about itself: hooks, annotations, declarations, options, secrets, grants.

Only secrets and grants need a session; the other checks ask the plugin nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, Never, NoReturn, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from gatepost.decisions import Decision
from gatepost.errors import PluginError
from gatepost.gate import GRANTS
from gatepost.hookspecs import ALL_RUN, PHASES
from gatepost.options import Options, Secret
from gatepost.plugins import declaration_problems, declared_grants, hook_problems, hooks_of
from gatepost.testing.conformance.sessions import witness
from gatepost.testing.conformance.subject import NotApplicableError, Subject

CANARY = "canary-in-a-coal-mine"
"""The text of a secret, which must not be shown anywhere."""
SHORT = 6
"""A shorter text may appear somewhere by chance, so it is not looked for."""

_LIKE_A_SECRET = re.compile(r"(?:^|_)(?:password|passwd|passphrase|secret|token|api_?key|private_key|credentials?)$")


async def hooks(subject: Subject) -> list[str]:
    """Every hook is a phase, and takes plain arguments that the phase has."""
    return list(hook_problems(subject.offered))


async def declarations(subject: Subject) -> list[str]:
    """Each of its declarations has a right value, and no name narrowly misses one."""
    return declaration_problems(subject.offered)  # those of the finished object are found by start


async def start(subject: Subject) -> list[str]:
    """It can be made with its options and the services that it names, and it starts."""
    subject.loadable()
    if wrong := list(subject.why_not_made()):
        return wrong
    policy = subject.policy()
    try:
        await policy.start()
        await policy.close()
    except (PluginError, AssertionError) as error:
        return [str(error)]
    return []


async def returns(subject: Subject) -> list[str]:
    """The return annotation of each hook is one that its phase accepts."""
    return [
        f"its {phase} is annotated to return {_named(kind)}, which {phase} does not accept"
        for phase, function in hooks_of(subject.offered)
        if phase in PHASES
        for kind in _returned(function)
        if not _takes(phase, kind)
    ]


def _returned(function: Any) -> tuple[Any, ...]:
    """Return the parts of a return annotation; () without one, or if it cannot be resolved outside its module."""
    try:
        return tuple(_alternatives(get_type_hints(function).get("return", Any)))
    except (NameError, TypeError, AttributeError):
        return ()


def _alternatives(hint: Any) -> Iterator[Any]:
    """Yield the types of an answer, also inside a future or a coroutine, which a plain def may return."""
    if get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from _alternatives(part)
    elif hasattr(get_origin(hint), "__await__"):
        yield from _alternatives(get_args(hint)[-1])
    else:
        yield hint


def _takes(phase: str, kind: Any) -> bool:
    if kind in (NoneType, None, Any, Never, NoReturn):
        return True
    if phase in ALL_RUN:
        return False
    if phase == "greeting":
        return kind is str
    origin = get_origin(kind) or kind
    is_mapping = isinstance(origin, type) and issubclass(origin, Mapping)
    return kind is Decision or (phase == "queue" and is_mapping)


def _named(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


async def options(subject: Subject) -> list[str]:
    """Every option has its documentation: the string under the field."""
    if subject.model is None:
        raise NotApplicableError("it takes no options")
    return [f"the option {name} has no documentation" for name in _undocumented(subject.model, "", set())]


def _undocumented(model: type[BaseModel], prefix: str, seen: set[type]) -> Iterator[str]:
    seen.add(model)
    for name, field in model.model_fields.items():
        if not (field.description or "").strip():
            yield prefix + name
        for part in _parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel) and part not in seen:
                yield from _undocumented(part, f"{prefix}{name}.", seen)


def _parts(annotation: Any) -> Iterator[Any]:
    """Yield a type and all types inside it."""
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


async def secrets(subject: Subject) -> list[str]:
    """No secret is shown, neither in the repr of plugin or options nor in logs, records and replies."""
    if subject.model is None:
        raise NotApplicableError("it takes no options")
    shown = [
        f"the option {name} is plain text, which messages and dumps show: make it a gatepost.Secret"
        for name, field in subject.model.model_fields.items()
        if _LIKE_A_SECRET.search(name) and {str, bytes} & set(_parts(field.annotation))
    ]
    subject.playable()
    given = subject.made_options()
    texts = set(_secret_texts(given)) if given is not None else set()
    if given is not None and (canaries := _canaries(given)):
        subject = Subject(subject.plugin, given.model_copy(update=canaries), subject.name)
        texts.add(CANARY)
    if not texts and not shown:
        raise NotApplicableError("it has no secret")
    return shown + [f"a secret is shown in {where}" for where, text in await _places(subject) if _is_in(texts, text)]


def _canaries(given: Options) -> dict[str, Secret]:
    """Return a known secret for each option that can be one, so that also a secret that was left out is looked for."""
    return {
        name: Secret(CANARY)
        for name, field in type(given).model_fields.items()
        if Secret in _parts(field.annotation) and isinstance(getattr(given, name), Secret | NoneType)
    }


def _secret_texts(value: Any) -> Iterator[str]:
    """Yield the texts of all secrets in ``value``."""
    if isinstance(value, Secret):
        yield value.reveal()
    elif isinstance(value, BaseModel):
        yield from _secret_texts([getattr(value, name) for name in type(value).model_fields])
    elif isinstance(value, Mapping):
        yield from _secret_texts(list(value.values()))
    elif isinstance(value, list | tuple | set | frozenset):
        for part in value:
            yield from _secret_texts(part)


def _is_in(secret_texts: set[str], text: str) -> bool:
    return any(secret in text for secret in secret_texts if len(secret) >= SHORT)


async def _places(subject: Subject) -> list[tuple[str, str]]:
    """Return the texts in which a secret of the plugin could be shown, each with its place."""
    probe = await witness(subject)
    policy = probe.policy
    plugin = policy.plugin(subject.name)
    found = [("the repr of the plugin", repr(plugin)), ("the str of the plugin", str(plugin))]
    with suppress(AttributeError):
        found.append(("the repr of its options", repr(plugin.options)))
    found.append(("what it logs", repr(policy.log)))
    found.append(("the events of the gate", repr(policy.events)))
    found.append(("records and replies", repr([record.facts() for record in policy.records])))
    return found


async def grants(subject: Subject) -> list[str]:
    """It declares each grant that it uses, and has the hook for each grant that it declares."""
    implemented = {phase for phase, _ in hooks_of(subject.offered)}
    unused = [
        f"it declares the grant {name!r} and has no hook {GRANTS[name]}, where that would count"
        for name in sorted(declared_grants(subject.offered))
        if GRANTS[name] not in implemented
    ]
    if unused:
        return unused
    subject.playable()
    faults = (call.fault for call in (await witness(subject)).calls if call.fault)
    return [
        f'it {fault}: declare grants = "{grant}", or do not accept'
        for fault in dict.fromkeys(faults)
        for grant, phase in GRANTS.items()
        if fault == f"accepted at {phase} without the grant"
    ]
