"""Coroutines that begin at once, and are awaited only if they have to wait.

Most hooks that are written as ``async def`` answer without ever waiting. So the gate takes their first step itself, and
sets up deadlines only for those that do wait. RFCs say nothing of this; PEP 492 says what a coroutine is.
"""

from __future__ import annotations

from collections.abc import Coroutine, Generator
from typing import Any, Final, TypeVar

T = TypeVar("T")

_GIVEN: Final = object()


def begin(coroutine: Coroutine[Any, Any, T]) -> T | Begun[T]:
    """Take the first step of ``coroutine``: its value if it has ended with that, else what remains, to be awaited."""
    try:
        return Begun(coroutine, coroutine.send(None))
    except StopIteration as end:
        value: T = end.value
        return value


class Begun(Generator[Any, Any, T]):
    """What remains of ``coroutine``, whose first step has given ``waits_for``. To be awaited once, in the same task."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, T], waits_for: object) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    def __next__(self) -> Any:
        """The next thing that it waits for; its value comes as that of the ``StopIteration``."""
        waits_for, self._waits_for = self._waits_for, _GIVEN
        return self._coroutine.send(None) if waits_for is _GIVEN else waits_for

    def send(self, value: Any) -> Any:
        """Go on with it."""
        return self.__next__() if value is None else self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise in it, where it waits."""
        self._waits_for = _GIVEN
        try:
            return self._coroutine.throw(*error)
        finally:
            del error  # its traceback leads back here
