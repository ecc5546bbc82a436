"""The contract of a plugin class: its hooks and what it declares, and what is wrong with them."""

from __future__ import annotations

import difflib
import inspect
import types
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from gatepost.errors import PluginError
from gatepost.gate import GRANTS, arguments_of
from gatepost.hookspecs import ALL_RUN, PHASES, PROJECT

_MARK = f"{PROJECT}_impl"


def _grants(plugin: Any) -> frozenset[str]:
    """What a plugin declares as ``grants``: one name or several. Of what is neither, ``problems_of`` complains."""
    declared = getattr(plugin, "grants", ())
    names = (declared,) if isinstance(declared, str) else declared
    named = isinstance(names, Collection) and all(isinstance(name, str) for name in names)
    return frozenset(names) if named else frozenset()


def phases_of(plugin: Any, configured: Collection[str] | None) -> frozenset[str] | None:
    """The phases in which a plugin object takes part, as it declares and as is configured; None: all it implements.

    Raises ``PluginError`` when it declares what is no phase.
    """
    declared = getattr(plugin, "phases", None)
    if declared is None:
        return None if configured is None else frozenset(configured)
    phases = frozenset(declared)
    if unknown := sorted(phases.difference(PHASES)):
        raise PluginError(f"its phases names {unknown[0]!r}, which is no phase")
    return phases if configured is None else phases.intersection(configured)


def hooks_of(plugin: Any) -> Iterator[tuple[str, Any]]:
    """The phases that a class, an object or a module implements, with their functions. Runs no property."""
    for name in dir(plugin):
        static = inspect.getattr_static(plugin, name, None)
        function = static.__func__ if isinstance(static, staticmethod | classmethod) else static
        marks = getattr(function, _MARK, None) if isinstance(function, types.FunctionType) else None
        if marks is not None:
            yield marks.get("specname") or name, function


def problems_of(plugin: Any) -> Iterator[str]:
    """What is wrong with a plugin's hooks and declarations, a sentence each."""
    hooks = tuple(hooks_of(plugin))
    if not hooks:
        yield "it implements no phase; its hooks are those marked with @hookimpl"
    for phase, function in hooks:
        marks = getattr(function, _MARK)
        if phase not in PHASES:
            if not marks["optionalhook"]:
                near = difflib.get_close_matches(phase, PHASES, 1)
                yield f"it implements {phase!r}, which is no phase" + (f"; did you mean {near[0]}?" if near else "")
            continue
        yield from _problems_of_hook(phase, function, marks, takes_self=inspect.isclass(plugin))
    yield from _problems_of_declarations(plugin)


def _problems_of_hook(phase: str, function: Any, marks: Mapping[str, Any], takes_self: bool) -> Iterator[str]:
    for refused in ("wrapper", "hookwrapper", "tryfirst", "trylast"):
        if marks[refused]:
            yield f"its {phase} is marked {refused}, which would break the order that the configuration states"
    known = arguments_of(phase)
    for number, parameter in enumerate(inspect.signature(function).parameters.values()):
        if number == 0 and takes_self:
            continue
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            yield f"its {phase} takes {parameter}, but a hook takes plain arguments only"
        elif parameter.name not in known:
            yield f"its {phase} asks for {parameter.name!r}, but {phase} has {', '.join(known)}"
    yield from _problems_of_kind(phase, inspect.iscoroutinefunction(function), marks)


def _problems_of_kind(phase: str, is_async: bool, marks: Mapping[str, Any]) -> Iterator[str]:
    if marks.get("ahead") and not is_async:
        yield f"its {phase} is marked ahead=True, which is for an async def"
    if marks.get("ahead") and (phase == "queue" or phase in ALL_RUN):
        yield f"its {phase} is marked ahead=True, which is for a look-up that may be asked in vain"
    if marks.get("blocking") and is_async:
        yield f"its {phase} is marked blocking=True, which is for a plain def"
    if phase == "ruled" and (is_async or marks.get("blocking")):
        yield "its ruled must be a plain def: nobody waits for it"


def _problems_of_declarations(plugin: Any) -> Iterator[str]:
    grants = _grants(plugin)
    if not grants and bool(getattr(plugin, "grants", None)):
        yield f"its grants is neither a name nor several; there are {', '.join(GRANTS)}"
    for grant in sorted(grants):
        if grant not in GRANTS:
            yield f"it declares the grant {grant!r}; there are {', '.join(GRANTS)}"
    if getattr(plugin, "on_error", "defer") not in ("defer", "pass"):
        yield 'its on_error is neither "defer" nor "pass"'
