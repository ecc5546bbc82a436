"""The write guard: an observed plugin changes nothing, and neither does a look-up that runs ahead of its turn.

A session, its envelope and its message are shared by all plugins. Their methods that change something ask ``may_write``
first. Two kinds of callers may not write:

* A plugin with ``mode = "observe"`` is asked like any other, and what it does is recorded instead of applied. It is
  called within ``with Observed(arguments) as observed:``, gets ``observed.arguments``, and is recorded with
  ``observed.withheld``.
* A look-up that runs ahead must see the session as it is at the start of the phase, whatever order the look-ups end in.
  Its task calls ``forbid_writes``, and an attempt is its error.

The guard is a context variable, since both may wait while other sessions go on, and a blocking plugin runs in a thread
with a copy of the context. This module is the only one that sets or reads it. An observed plugin's ``with`` block spans
its wait, so it belongs in a coroutine of that plugin's own (``gate.slow_path``), not in one that every client waits in.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, Literal

from gatepost.errors import PluginError

_FORBIDDEN: Final = "forbidden"


class Observed:
    """The call of an observed plugin. While entered, what the plugin does is withheld.

    ``arguments`` are those given, with copies of their lists, which the plugin may change.
    """

    __slots__ = ("_calls", "_given", "arguments")

    def __init__(self, arguments: tuple[Any, ...]) -> None:
        self._given = arguments
        self._calls: list[str] = []
        self.arguments = tuple([list(argument) if type(argument) is list else argument for argument in arguments])

    def __enter__(self) -> Observed:
        _guard.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        # Not with a token: a coroutine that is closed with its loop is closed in another context.
        _guard.set(None)

    def withhold(self, what: str) -> None:
        """Record ``what`` the plugin would have done."""
        self._calls.append(what)

    @property
    def withheld(self) -> tuple[str, ...]:
        """The changes that the plugin would have made: the calls that were withheld, then its edits of lists."""
        changes = list(self._calls)
        for given, own in zip(self._given, self.arguments, strict=True):
            if type(given) is list:
                changes += [f"add {item!r}" for item in own if item not in given]
                changes += [f"remove {item!r}" for item in given if item not in own]
        return tuple(changes)


_guard: Final[ContextVar[Observed | Literal["forbidden"] | None]] = ContextVar("write_guard", default=None)


def forbid_writes() -> None:
    """Make every write of the current task from now on an error."""
    _guard.set(_FORBIDDEN)


def may_write(what: str) -> bool:
    """Return False when ``what`` must not be applied because the plugin is observed; it is recorded then.

    Raises ``PluginError`` in a look-up that runs ahead.
    """
    guard = _guard.get()
    if guard is None:
        return True
    if isinstance(guard, Observed):
        guard.withhold(what)
        return False
    raise PluginError(f"an ahead look-up must not write to the session: {what}")
