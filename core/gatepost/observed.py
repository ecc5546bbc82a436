"""Observed plugins: they are asked, and what they say and do is recorded and not applied.

``begin_observing`` is called before such a plugin is asked, ``withheld`` when it has answered. What code may not do on
behalf of an observed plugin asks ``session.may_write``. Design, section 2 (``mode``).
"""

from __future__ import annotations

from typing import Any

from gatepost.session import Acting, acting


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
