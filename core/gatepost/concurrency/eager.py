"""Eager tasks: coroutines whose steps are taken at once, without a turn of the event loop.

**What a step is.** A coroutine is a generator of the things that it waits for (PEP 492). ``send(None)`` runs it to the
next ``await`` that suspends it, and returns what is awaited there: a future, or None for one turn of the loop
(``asyncio.sleep(0)``). ``asyncio.Task`` is the callback that calls ``send`` and has itself called again when that
future is done. It does not take even the first step until the next turn of the loop, and each wake-up costs a future
and another turn. For work that seldom waits, this overhead exceeds the work, so this module takes such steps by hand.
``asyncio.eager_task_factory`` would not do: it takes only the first step at once, and it needs Python 3.12.

**The first step of any coroutine.** ``start_eagerly`` takes it in the current task. A coroutine that did not have to
wait has ended then, and its value is returned; otherwise a ``Remainder`` is returned, which must be awaited in the same
task.

**A task that mostly waits for input.** The input is announced by a callback, such as ``Protocol.data_received``, and
the coroutine awaits it as ``SIGNAL``. Whoever calls ``EagerTask.go_on`` has the next step taken before the call
returns, in the task's name: asyncio is told that the task is entered and left, and the step runs in the task's context.
Therefore ``asyncio.current_task``, ``asyncio.timeout``, cancellation and context variables work as in any other task.

**How the loop's task keeps up.** ``EagerTask.task`` is an ordinary ``asyncio.Task`` that runs the ``EagerTask`` itself
as its coroutine. ``_waits_for`` says where the real coroutine stands:

=============  =====================================================================================================
``SIGNAL``     ``go_on`` takes the next step. The task is parked on a future of its own, or has not had its first turn.
a future       A step by hand met it. The task is woken, takes the future over in ``send``, and waits for it.
``_TURN``      The task takes the next step: after its turn, after the future it took over, or to find that all is over.
=============  =====================================================================================================

For example: the coroutine is at ``SIGNAL``; a line arrives, and ``go_on`` takes the step, in which a plugin awaits a
future. The step returns it, ``_waits_for`` holds it, and the parked task is woken. In its turn ``send`` hands the
future over to the task. When the future is done, the task takes the next step itself, up to the next ``SIGNAL``, and
parks.

asyncio has no public names for entering a task and for saying that a future is awaited; the section "asyncio's private
names" holds the ones that are used, and ``tests/core/concurrency/test_eager.py`` has a test for each.

This module knows neither sessions nor plugins.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Final, Protocol, TypeVar

from gatepost.concurrency.deadlines import abandon
from gatepost.errors import PluginError

T = TypeVar("T")

# asyncio's private names.

enter_task: Final = _enter_task
"""Make a task the current one of a loop. Raises ``RuntimeError`` while another one is."""
leave_task: Final = _leave_task
"""Undo ``enter_task``."""


def mark_awaited(future: Any, awaited: bool) -> None:
    """Mark ``future`` as handed to a task, or not. A task refuses a future without the mark, and removes the mark."""
    future._asyncio_future_blocking = awaited


# The first step of any coroutine.

_TAKEN: Final = object()


def start_eagerly(coroutine: Coroutine[Any, Any, T]) -> T | Remainder[T]:
    """Take the first step of ``coroutine``. Return its value if it has ended, else the rest, to be awaited.

    Raises what the coroutine raises.
    """
    try:
        return Remainder(coroutine, coroutine.send(None))
    except StopIteration as end:
        value: T = end.value
        return value


class Remainder(Generator[Any, Any, T]):
    """The rest of ``coroutine``, whose first step returned ``waits_for``.

    Await it once, in the same task, and before anything else that waits.
    """

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, T], waits_for: object) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        return self

    def __next__(self) -> Any:
        """Return the next thing that it waits for; ``StopIteration`` carries its value."""
        waits_for, self._waits_for = self._waits_for, _TAKEN
        return self._coroutine.send(None) if waits_for is _TAKEN else waits_for

    def send(self, value: Any) -> Any:
        """Take the next step."""
        return self.__next__() if value is None else self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise ``error`` in it, where it waits."""
        self._waits_for = _TAKEN
        try:
            return self._coroutine.throw(*error)
        finally:
            del error  # its traceback leads back to this frame (a reference cycle)


# A task that mostly waits for input.


class _Signal:
    def __await__(self) -> Generator[Any, None, None]:
        yield self


SIGNAL: Final = _Signal()
"""``await SIGNAL`` in an eager task waits until ``go_on`` is called."""
_TURN: Final = None
"""The value that a coroutine yields to wait for one turn of the loop."""


class Continuation(Protocol):
    """The owner of an eager task: it is told of each coroutine's end and may let another one follow."""

    def proceed(self, value: Any, error: BaseException | None) -> Coroutine[Any, Any, Any] | None:
        """Return the coroutine that follows one which ended with ``value`` or ``error``; None ends the task."""


class EagerTask(Coroutine[Any, None, None]):
    """Runs a coroutine, and those that its ``continuation`` lets follow; ``go_on`` takes the next step at once."""

    __slots__ = ("_context", "_coroutine", "_loop", "_parked", "_waits_for", "continuation", "task")
    __deletable__ = ("task",)  # mypyc has to be told

    def __init__(self, loop: asyncio.AbstractEventLoop, continuation: Continuation) -> None:
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self.continuation: Continuation | None = continuation
        self._waits_for: object = _TURN
        self._parked: asyncio.Future[None] | None = None
        self._loop = loop
        self._context = contextvars.copy_context()
        # loop.create_task would ask the loop's task factory, which a plugin may have set to one that starts at once.
        self.task = asyncio.Task(self, loop=loop, name="eager", context=self._context)

    @property
    def idle(self) -> bool:
        """True while it waits for the signal, and for nothing else."""
        return self._waits_for is SIGNAL

    @property
    def over(self) -> bool:
        """True when its coroutine has ended and none follows."""
        return self._coroutine is None

    def start(self, first: Callable[[], Coroutine[Any, Any, Any] | None]) -> None:
        """Call ``first`` in the task and take the first step of the coroutine that it returns; None ends the task.

        Must be called while no task runs, as by a callback of the loop.
        """
        enter_task(self._loop, self.task)
        try:
            waits_for = self._context.run(self._first_step, first)
        finally:
            leave_task(self._loop, self.task)
        self._leave_to_task(waits_for)

    def _first_step(self, first: Callable[[], Coroutine[Any, Any, Any] | None]) -> Any:
        try:
            self._follow(first())
        except Exception as error:
            self._end(None, error)
        return self._step()

    def go_on(self) -> None:
        """Signal the coroutine, and take its next step now. Does nothing while something else is waited for."""
        coroutine = self._coroutine
        if self._waits_for is not SIGNAL or coroutine is None:
            return
        # Set before the step, so that a ``go_on`` in the midst of the step does nothing.
        self._waits_for = _TURN
        try:
            enter_task(self._loop, self.task)
        except RuntimeError:  # another task is running, and is the caller: leave the step to our own task
            self._wake()
            return
        waits_for: Any = _TURN  # after its end the task goes on: it starts what follows, or ends too
        try:
            # Not by ``_step``: a frame and a call less for each of these steps.
            waits_for = self._context.run(coroutine.send, None)
        except StopIteration as end:
            self._context.run(self._end, end.value, None)
        except (Exception, asyncio.CancelledError) as error:
            self._context.run(self._end, None, error)
        finally:
            leave_task(self._loop, self.task)
        self._leave_to_task(waits_for)

    def abandon(self) -> None:
        """Cancel the task, since nobody needs its outcome any more."""
        if not self.over:
            abandon(self.task)

    def _leave_to_task(self, waits_for: Any) -> None:
        """Let the task wait for what a step by hand came to, unless that is the next signal."""
        self._waits_for = waits_for
        if waits_for is not SIGNAL:
            if asyncio.isfuture(waits_for):
                mark_awaited(waits_for, False)  # until the task takes it over: others may await the same future
            self._wake()

    def _wake(self) -> None:
        # Not parked means that the task has not had its first turn, which is on its way and serves as well.
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)

    def _step(self, error: BaseException | None = None) -> Any:
        """Take a step, past the end of a coroutine into the one that follows. Return what is waited for now."""
        while self._coroutine is not None:
            try:
                return self._coroutine.send(None) if error is None else self._coroutine.throw(error)
            except StopIteration as end:
                self._end(end.value, None)
            except (Exception, asyncio.CancelledError) as failure:
                self._end(None, failure)
            error = None
        return _TURN

    def _end(self, value: Any, error: BaseException | None) -> None:
        self._coroutine = None
        if self.continuation is not None:
            self._follow(self.continuation.proceed(value, error))

    def _follow(self, coroutine: Coroutine[Any, Any, Any] | None) -> None:
        self._coroutine = coroutine
        if coroutine is None:
            self.continuation = None  # break the reference cycle, so that the garbage collector has nothing to do

    # The coroutine that ``task`` runs.

    def send(self, value: None) -> Any:
        """Take over what a step by hand came to; take the next step where none was taken by hand."""
        waits_for, self._waits_for = self._waits_for, _TURN
        return self._yield(self._step() if waits_for is _TURN else waits_for)

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
        """Raise ``error`` where the coroutine waits."""
        waits_for, self._waits_for = self._waits_for, _TURN
        if asyncio.isfuture(waits_for) and waits_for.cancel():  # as the task would have done, had it waited
            return self._yield(waits_for)
        if isinstance(error, GeneratorExit):  # raised by a plugin's thread or task; here it would close the coroutine
            error = PluginError(f"GeneratorExit: {error}")
        try:
            return self._yield(self._step(error))
        finally:
            del error  # its traceback leads back to this frame (a reference cycle)

    def _yield(self, waits_for: Any) -> Any:
        """Return what the task is to wait for: a future of its own while the signal is awaited."""
        if self._coroutine is None:
            del self.task  # break the other reference cycle
            raise StopIteration
        if waits_for is SIGNAL:
            self._waits_for = SIGNAL
            waits_for = self._parked = self._loop.create_future()
        if asyncio.isfuture(waits_for):
            mark_awaited(waits_for, True)
        return waits_for

    def close(self) -> None:
        """Close the coroutine: the loop is closed."""
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, None, None]:
        raise TypeError("an EagerTask is run by its task; await that")
