"""The write guard: code that runs for an observed plugin, or in a look-up ahead of its turn, must not change a session.

An observed plugin is asked, and its changes are recorded instead of applied; a look-up that runs ahead must make none.
Methods that change what plugins share ask ``may_write`` first. Design, section 2 (``mode``, looking ahead).
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

from gatepost.errors import PluginError


class Acting:
    """On whose behalf code runs that may not write: an observed plugin, or a look-up that runs ahead."""

    __slots__ = ("ahead", "arguments", "withheld")

    def __init__(self, arguments: tuple[Any, ...] = (), *, ahead: bool = False) -> None:
        self.arguments = arguments
        """Those that an observed plugin was given, with lists of its own."""
        self.ahead = ahead
        self.withheld: list[str] = []


acting: Final[ContextVar[Acting | None]] = ContextVar("acting", default=None)


def may_write(what: str) -> bool:
    """False when ``what`` is to be recorded and not applied, since the plugin is only observed.

    Raises ``PluginError`` in a look-up that runs ahead, which must not write to the session.
    """
    actor = acting.get()
    if actor is None:
        return True
    if actor.ahead:
        raise PluginError(f"an ahead look-up must not write to the session: {what}")
    actor.withheld.append(what)
    return False


def begin_observing(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """From now on what is done is withheld. Gives ``arguments`` with lists of its own, which it may change."""
    own = tuple(list(argument) if type(argument) is list else argument for argument in arguments)
    acting.set(Acting(own))
    return own


def withheld(arguments: tuple[Any, ...]) -> tuple[str, ...]:
    """What the plugin that was just asked would have changed; nothing if it is not observed. Ends the observing."""
    actor = acting.get()
    if actor is None:
        return ()
    acting.set(None)
    return (*actor.withheld, *_changes(arguments, actor.arguments))


def _changes(given: tuple[Any, ...], own: tuple[Any, ...]) -> list[str]:
    """What was put into or taken out of the lists of ``own``, which began as those of ``given``."""
    changes = []
    for before, after in zip(given, own, strict=False):
        if type(before) is list:
            changes += [f"add {item!r}" for item in after if item not in before]
            changes += [f"remove {item!r}" for item in before if item not in after]
    return changes
