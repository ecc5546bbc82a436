"""The dialogue with a client: a coroutine whose steps are taken at once, where its octets come in.

Most of what a client says is answered without waiting for anybody. To wake a task for each line would cost a future and
a turn of the loop, so whoever hears of the client takes the next step himself, in the name of the dialogue's task. That
task takes over where a plugin waits for something, and a plugin always finds itself in it: ``asyncio.timeout`` and
cancelling work as in any other task.

It knows neither octets nor phases. PEP 492 says what a coroutine is, asyncio's chapter on extending it how a task is
entered.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from gatepost.concurrency.deadlines import abandon
from gatepost.errors import PluginError

T = TypeVar("T")

_CLIENT: Final = object()
_TURN: Final = None
"""What a coroutine gives that waits for a turn of the loop, as ``asyncio.sleep(0)`` does."""


class _Client:
    """To be awaited in a dialogue."""

    def __await__(self) -> Generator[Any, None, None]:
        yield _CLIENT


client: Final = _Client()
"""``await client``: until the client has done something and ``go_on`` is called."""

Talk: TypeAlias = Coroutine[Any, Any, Any]


class Owner(Protocol):
    """Whose dialogue it is."""

    def ended(self, value: Any, error: BaseException | None) -> Talk | None:
        """The coroutine has ended. What follows it in the same dialogue; None: nothing."""


class Dialogue(Coroutine[Any, None, None]):
    """Runs a coroutine, and what its owner lets follow. It is what ``task`` runs."""

    __slots__ = ("_context", "_coroutine", "_loop", "_parked", "_waits_for", "owner", "task")
    __deletable__ = ("task",)  # mypyc wants to know

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner) -> None:
        self._coroutine: Talk | None = None
        self.owner: Owner | None = owner
        self._waits_for: object = _TURN  # or the client, or what the task is still to wait for
        self._parked: asyncio.Future[None] | None = None
        self._loop = loop
        self._context = contextvars.copy_context()
        # Not by the loop, whose factory, a plugin's maybe, would let it begin at once.
        self.task = asyncio.Task(self, loop=loop, name="dialogue", context=self._context)

    @property
    def idle(self) -> bool:
        """True while it waits for its client, and not for somebody else."""
        return self._waits_for is _CLIENT

    @property
    def over(self) -> bool:
        """True when it has ended, and nothing follows."""
        return self._coroutine is None

    def begin(self, first: Callable[[], Talk | None]) -> None:
        """Call ``first`` in the task; it gives the coroutine that is to be run, if any. To be called from no task."""
        _enter_task(self._loop, self.task)
        self._take(self._begin, first)

    def go_on(self) -> None:
        """The client has done something: take the steps that this allows. Nothing if it is not waited for."""
        if self._waits_for is not _CLIENT:
            return
        self._waits_for = _TURN
        try:
            _enter_task(self._loop, self.task)
        except RuntimeError:  # another task is in the midst of a step
            self._wake()
        else:
            self._take(self._step)

    def _take(self, step: Callable[..., Any], *arguments: Any) -> None:
        """Take a step in the name of the task, which was entered, and leave to it what is to be waited for."""
        try:
            waits_for = self._waits_for = self._context.run(step, *arguments)
        finally:
            _leave_task(self._loop, self.task)
        if waits_for is not _CLIENT:
            if asyncio.isfuture(waits_for):
                waits_for._asyncio_future_blocking = False  # as a task does: others may wait for the same
            self._wake()

    def _wake(self) -> None:
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    def abandon(self) -> None:
        """The client has gone: cancel what is done for it."""
        if not self.over:
            abandon(self.task)

    def _begin(self, first: Callable[[], Talk | None]) -> Any:
        try:
            self._run(first())
        except Exception as error:
            self._follow(None, error)
        return self._step()

    def _step(self, error: BaseException | None = None) -> Any:
        """Take a step. What it waits for now; ``_TURN`` also when it is over."""
        while self._coroutine is not None:
            try:
                return self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            except StopIteration as end:
                self._follow(end.value, None)
            except (Exception, asyncio.CancelledError) as failure:
                self._follow(None, failure)
            error = None
        return _TURN

    def _follow(self, value: Any, error: BaseException | None) -> None:
        self._coroutine = None
        assert self.owner is not None
        self._run(self.owner.ended(value, error))

    def _run(self, coroutine: Talk | None) -> None:
        self._coroutine = coroutine
        if coroutine is None:
            self.owner = None  # it leads back here, and nobody is to search for such circles

    # What the task calls.

    def send(self, value: None) -> Any:
        """The task's own step: to wait for what was waited for, or go on where nobody else did."""
        waits_for, self._waits_for = self._waits_for, _TURN
        return self._wait(self._step() if waits_for is _TURN else waits_for)

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
        """Raise ``error`` where the dialogue waits."""
        waits_for, self._waits_for = self._waits_for, _TURN
        if asyncio.isfuture(waits_for) and waits_for.cancel():  # as the task would, had it waited already
            return self._wait(waits_for)
        if isinstance(error, GeneratorExit):  # of a plugin's own thread or task: it would close the dialogue
            error = PluginError(f"GeneratorExit: {error}")
        try:
            return self._wait(self._step(error))
        finally:
            del error  # its traceback leads back here

    def _wait(self, waits_for: Any) -> Any:
        """What the task is to wait for."""
        if self._coroutine is None:
            del self.task  # it leads back here too
            raise StopIteration
        if waits_for is not _CLIENT:
            if asyncio.isfuture(waits_for):
                waits_for._asyncio_future_blocking = True
            return waits_for
        self._waits_for = _CLIENT
        self._parked = self._loop.create_future()
        self._parked._asyncio_future_blocking = True
        return self._parked

    def close(self) -> None:
        """The loop is closed."""
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, None, None]:
        raise TypeError("a dialogue is run by its task")


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
