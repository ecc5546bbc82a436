"""The contract of a plugin: its hooks and its declarations, and a sentence for each thing that is wrong with them.

A plugin is a class, the object made of it, or a module. Of a class only what is known without making an object is
read: a property or a slot has no value yet. ``declaration_of`` reads the finished object and is the only place where
attributes of a plugin become facts; everybody else uses ``Instance.declaration``.

An attribute that gatepost does not know is the author's own, with one exception: a near miss. A class that says
``skip_trused = True`` would be asked about trusted clients, and its author would not notice.
"""

from __future__ import annotations

import difflib
import inspect
import math
import re
import reprlib
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from gatepost.errors import PluginError
from gatepost.gate import GRANTS, Declaration, arguments_of
from gatepost.hookspecs import ALL_RUN, HOOKS_VERSION, PHASES, PROJECT
from gatepost.options import Options

_MARK: Final = f"{PROJECT}_impl"
_UNKNOWN: Final = object()
"""Stands for the value of an attribute that is not there, or that only an object has."""


_ELSEWHERE: Final = {
    "data_post": "message",
    "ehlo": "helo",
    "lookup_rdns": "connect",
    "unrecognized_command": "unknown_command",
}
"""The names that other servers have for a phase."""


# Hooks


def hooks_of(plugin: Any) -> Iterator[tuple[str, Any]]:
    """Yield the phases that a class, an object or a module implements, with their functions. Runs no property."""
    for name in dir(plugin):
        static = inspect.getattr_static(plugin, name, None)
        function = static.__func__ if isinstance(static, staticmethod | classmethod) else static
        marks = getattr(function, _MARK, None) if isinstance(function, types.FunctionType) else None
        if marks is not None:
            yield marks.get("specname") or name, function


def problems_of(plugin: Any) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with a plugin's hooks and declarations."""
    yield from hook_problems(plugin)
    yield from declaration_problems(plugin)


def hook_problems(plugin: Any) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong with a plugin's hooks."""
    hooks = tuple(hooks_of(plugin))
    if not hooks:
        yield "it implements no phase; its hooks are those marked with @hookimpl"
    functions: dict[str, list[str]] = {}
    for phase, function in hooks:
        functions.setdefault(phase, []).append(function.__name__)
    for phase, names in functions.items():
        if len(names) > 1:
            yield f"it implements {phase} more than once: {', '.join(names)}"
    for phase, function in hooks:
        marks = getattr(function, _MARK)
        if phase in PHASES:
            yield from _problems_of_arguments(phase, function, takes_self=not inspect.ismodule(plugin))
            yield from _problems_of_marks(phase, function, marks)
        elif not marks["optionalhook"]:
            yield f"it implements {phase!r}, which is not a phase{did_you_mean(phase, PHASES)}"


def _problems_of_arguments(phase: str, function: Any, takes_self: bool) -> Iterator[str]:
    known = arguments_of(phase)
    first = next(iter(inspect.signature(function).parameters), None)
    if takes_self and (first is None or first in known):
        yield f"its {phase} has no self" + (f": {first!r} would be the plugin itself" if first else "")
        return
    for number, parameter in enumerate(inspect.signature(function).parameters.values()):
        if number == 0 and takes_self:
            continue
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            yield f"its {phase} takes {parameter}, but a hook takes plain arguments only"
        elif parameter.name not in known:
            yield f"its {phase} asks for {parameter.name!r}, but {phase} has {', '.join(known)}"


def _problems_of_marks(phase: str, function: Any, marks: Mapping[str, Any]) -> Iterator[str]:
    for refused in ("wrapper", "hookwrapper", "tryfirst", "trylast"):
        if marks[refused]:
            yield f"its {phase} is marked {refused}, which would break the order that the configuration states"
    is_async = inspect.iscoroutinefunction(function)
    if marks.get("ahead") and not is_async:
        yield f"its {phase} is marked ahead=True, which is for an async def"
    if marks.get("ahead") and (phase == "queue" or phase in ALL_RUN):
        # A look-up ahead is cancelled if a plugin before it decides, but the hooks of these phases have effects.
        yield f"its {phase} is marked ahead=True, which is only for a look-up whose answer may go unused"
    if marks.get("blocking") and is_async:
        yield f"its {phase} is marked blocking=True, which is for a plain def"
    if marks.get("early") and (phase != "connect" or is_async or marks.get("blocking")):
        yield f"its {phase} is marked early=True, which is for a connect that is a plain def"
    if phase == "ruled" and (is_async or marks.get("blocking")):
        yield "its ruled must be a plain def, because nothing waits for it"


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return ``; did you mean rcpt?`` if a known name is similar, else ""."""
    if name in _ELSEWHERE and _ELSEWHERE[name] in known:
        return f"; did you mean {_ELSEWHERE[name]}?"
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


# Declarations


def declaration_of(plugin: Any) -> Declaration:
    """Return what a plugin declares; for a class, as far as that is known before an object is made.

    Raises ``PluginError`` with everything that is wrong, also when a property of the object fails.
    """
    values, problems = _read(plugin)
    if problems:
        raise PluginError("; ".join(problems))
    return Declaration(**values)


def declaration_problems(plugin: Any) -> list[str]:
    """Return a sentence for each declaration that is wrong, and for each name that narrowly misses one."""
    return _read(plugin)[1]


# A mistake in one declaration must not hide the options and grants of a plugin from the loader, which reports all
# mistakes at once, or from the schema and the conformance kit. So these two do not look at the other declarations.


def options_of(plugin: Any) -> type[Options] | None:
    """Return the class of a plugin's options, also if other declarations are wrong; None if it takes no options."""
    declared = _value(plugin, "Options")
    return declared if inspect.isclass(declared) and issubclass(declared, Options) else None


def declared_grants(plugin: Any) -> frozenset[str]:
    """Return the grants that a plugin declares, also if other declarations are wrong."""
    grants: frozenset[str] = _read(plugin)[0].get("grants", frozenset())
    return grants


def needs_newer(plugin: Any) -> str:
    """Return a sentence if a class or module declares a later ``hooks_version`` than ours, else ""."""
    wanted = _value(plugin, "hooks_version")
    if not isinstance(wanted, int) or wanted <= HOOKS_VERSION:  # another type is a problem of the declaration
        return ""
    return f"it is made for hooks version {wanted}, and this gatepost has {HOOKS_VERSION}: a newer one is needed"


def _read(plugin: Any) -> tuple[dict[str, Any], list[str]]:
    """Return the declared values that are right, and a sentence for each thing that is wrong."""
    values, problems = {}, []
    for name, check in _CHECKS.items():
        try:
            value = _value(plugin, name)
            if value is not _UNKNOWN:
                values[name] = check(name, value)
        except PluginError as error:
            problems.append(str(error))
        except (Exception, SystemExit) as error:  # a property runs the plugin's code
            problems.append(f"its {name} cannot be read: {type(error).__name__}: {error}")
    return values, [*problems, *_near_misses(plugin)]


def _value(plugin: Any, name: str) -> Any:
    """Return the value of an attribute, or ``_UNKNOWN``. Raises what a property of an object raises."""
    static = inspect.getattr_static(plugin, name, _UNKNOWN)
    if inspect.isclass(plugin):
        return _UNKNOWN if hasattr(type(static), "__get__") else static
    # An AttributeError inside a property must not look like an attribute that is not there.
    return getattr(plugin, name, _UNKNOWN) if static is _UNKNOWN else getattr(plugin, name)


def _options(name: str, value: Any) -> Any:
    if value is None or (inspect.isclass(value) and issubclass(value, Options)):
        return value
    raise PluginError(f"its {name} is not a subclass of gatepost.Options")


def _grants(name: str, value: Any) -> frozenset[str]:
    names = (value,) if isinstance(value, str) else value
    if not _is_collection_of_text(names):
        raise PluginError(f"its {name} must be a name or several names, of {', '.join(GRANTS)}")
    for unknown in sorted(set(names).difference(GRANTS)):
        raise PluginError(f"it declares the grant {unknown!r}; there are {', '.join(GRANTS)}")
    return frozenset(names)


def _on_error(name: str, value: Any) -> str:
    if isinstance(value, str) and value in ("defer", "pass"):
        return value
    raise PluginError(f'its {name} must be "defer" or "pass", not {_shown(value)}')


def _flag(name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise PluginError(f"its {name} must be True or False, not {_shown(value)}")


def _phases(name: str, value: Any) -> frozenset[str] | None:
    if value is None:
        return None
    if not _is_collection_of_text(value):
        raise PluginError(f"its {name} must be a collection of names of phases, not {_shown(value)}")
    for unknown in sorted(set(value).difference(PHASES)):
        raise PluginError(f"its {name} has {unknown!r}, which is not a phase{did_you_mean(unknown, PHASES)}")
    return frozenset(value)


def _whole_number(name: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise PluginError(f"its {name} must be a whole number, not {_shown(value)}")


def _seconds(name: str, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
        return float(value)
    raise PluginError(f"its {name} must be a number of seconds, not {_shown(value)}")


def _time_limit(name: str, value: Any) -> float:
    if (seconds := _seconds(name, value)) > 0:
        return seconds
    raise PluginError(f"its {name} must be more than 0 s")


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if _is_collection_of_text(value):
        return tuple(value)
    raise PluginError(f"its {name} must be a collection of text, not {_shown(value)}")


def _signs(name: str, value: Any) -> frozenset[str]:
    signs = (value,) if isinstance(value, str) else value
    if not _is_collection_of_text(signs) or not set(signs) <= {"positive", "negative"}:
        raise PluginError(f'its {name} must be "positive", "negative" or both, not {_shown(value)}')
    return frozenset(signs)


def _shown(value: Any) -> str:
    return "a function" if callable(value) else reprlib.repr(value)


def _is_collection_of_text(value: Any) -> bool:
    is_collection = isinstance(value, Collection) and not isinstance(value, str | bytes)
    return is_collection and all(isinstance(part, str) for part in value)


_CHECKS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    "Options": _options,
    "grants": _grants,
    "on_error": _on_error,
    "skip_trusted": _flag,
    "phases": _phases,
    "hooks_version": _whole_number,
    "time_limit": _time_limit,
    "longest_wait": _seconds,
    "takes_everything": _flag,
    "commits": _flag,
    "next_hops": _texts,
    "trusts": _flag,
    "wants_vouched": _flag,
    "defers_strangers": _flag,
    "gives_points": _signs,
}
"""The fields of ``Declaration``, each with the function that returns a value as the field has it, or refuses it."""


# Near misses


def _near_misses(plugin: Any) -> Iterator[str]:
    """Yield a sentence for each name on a plugin's class that must have been meant as a declaration.

    It must be public, one edit away, not callable, and have a value that the declaration could have; a name that is
    only annotated must have its type. Modules are full of imported names, so nothing is concluded from theirs.
    """
    if inspect.ismodule(plugin):
        return
    seen = set()
    for owner in (plugin if inspect.isclass(plugin) else type(plugin)).__mro__[:-1]:  # the last one is object
        annotations = _annotations(owner)
        for name in (*vars(owner), *annotations):
            meant = next((known for known in _CHECKS if _is_one_edit_away(name, known)), None)
            if meant is None or name.startswith("_") or name in seen:
                continue
            seen.add(name)
            if _could_be(meant, name, plugin, annotations.get(name)):
                yield f"it declares {name}, which means nothing to gatepost; did you mean {meant}?"


def _could_be(meant: str, name: str, plugin: Any, annotation: str | None) -> bool:
    try:
        value = _value(plugin, name)
        if value is _UNKNOWN:
            return bool(annotation == _CHECKS[meant].__annotations__["return"])
        _CHECKS[meant](name, value)
    except (Exception, SystemExit):  # of a wrong type, or a property of the author's own that fails
        return False
    return not callable(value)


def _annotations(owner: type) -> dict[str, str]:
    """Return the annotations of a class as text, without ``ClassVar`` and ``Final``."""
    try:
        found = inspect.get_annotations(owner)
    except Exception:  # Python 3.14 evaluates them here, and one may name what only a type checker imports
        return {}
    texts = {name: part if isinstance(part, str) else inspect.formatannotation(part) for name, part in found.items()}
    return {name: re.sub(r"^(?:\w+\.)*(?:ClassVar|Final)\[(.*)\]$", r"\1", text) for name, text in texts.items()}


def _is_one_edit_away(name: str, known: str) -> bool:
    """True when one letter inserted, deleted or replaced, or two neighbours swapped, turn ``name`` into ``known``."""
    if name == known or abs(len(name) - len(known)) > 1:
        return False
    # Beyond the letters that both begin with, one edit must make the rests equal.
    same = next((place for place, pair in enumerate(zip(name, known, strict=False)) if pair[0] != pair[1]), len(name))
    left, wanted = name[same:], known[same:]
    swapped = left[1:2] + left[:1] + left[2:]
    return left == wanted[1:] or left[1:] == wanted or left[1:] == wanted[1:] or swapped == wanted
