"""An eager task takes its steps when it is signalled, and leaves to asyncio's task only what waits for something else.

The tests at the end are for asyncio's private names: one fails when a version of Python gives a name another meaning.
"""

import asyncio
import contextvars
import gc
import traceback
import weakref
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest

from gatepost.concurrency.eager import SIGNAL, EagerTask, Remainder, enter_task, leave_task, mark_awaited, start_eagerly

Work = Callable[["Worker"], Coroutine[Any, Any, Any]]


class Worker:
    """The owner of an eager task that runs ``work``; keeps how it ended, and lets ``then`` follow."""

    def __init__(self, work: Work, then: Work | None = None) -> None:
        self.work = work
        self.then = then
        self.did: list[object] = []
        self.ends: list[object] = []

    def start(self, first: Callable[[], Coroutine[Any, Any, Any] | None] | None = None) -> None:
        self.eager = EagerTask(asyncio.get_running_loop(), self)
        self.task = self.eager.task
        self.eager.start(first or (lambda: self.work(self)))

    def proceed(self, value: Any, error: BaseException | None) -> Coroutine[Any, Any, Any] | None:
        self.ends.append(error or value)
        then, self.then = self.then, None
        return then(self) if then else None


async def outside(*calls: Callable[[], object]) -> None:
    """Call them one after another as the loop calls a protocol: from no task."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def called() -> None:
        try:
            for call in calls:
                call()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    loop.call_soon(called)
    await done


async def turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def echo(worker: Worker) -> str:
    for number in range(3):
        await SIGNAL
        worker.did.append(number)
    return "done"


async def test_a_step_is_taken_before_go_on_returns() -> None:
    worker = Worker(echo)
    seen: list[int] = []

    def step() -> None:
        worker.eager.go_on()
        seen.append(len(worker.did))

    await outside(worker.start)
    for _ in range(3):
        await outside(step)
    await turns()
    assert seen == [1, 2, 3]
    assert worker.ends == ["done"]
    assert worker.eager.over


async def test_the_task_takes_the_steps_that_are_called_for_from_another_task() -> None:
    worker = Worker(echo)
    await outside(worker.start)
    for _ in range(3):
        worker.eager.go_on()
        await turns()
    assert worker.did == [0, 1, 2]
    assert worker.ends == ["done"]


async def test_all_of_it_runs_in_the_task() -> None:
    waited = asyncio.Event()

    async def work(worker: Worker) -> None:
        worker.did.append(asyncio.current_task())
        await asyncio.sleep(0.001)
        waited.set()
        worker.did.append(asyncio.current_task())
        await SIGNAL
        worker.did.append(asyncio.current_task())

    worker = Worker(work)
    await outside(worker.start)
    await waited.wait()
    await turns()
    await outside(worker.eager.go_on)
    await worker.task
    assert worker.did == [worker.task] * 3


async def test_a_context_variable_outlives_the_steps_and_is_not_shared() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")

    async def work(worker: Worker) -> None:
        variable.set("mine")
        await SIGNAL
        worker.did.append(variable.get())
        await asyncio.sleep(0)
        worker.did.append(variable.get())

    worker = Worker(work)
    await outside(worker.start)
    await outside(lambda: worker.did.append(variable.get()))
    await outside(worker.eager.go_on)
    await worker.task
    assert worker.did == ["nobody's", "mine", "mine"]


async def test_a_signal_does_nothing_while_something_else_is_waited_for() -> None:
    wait = asyncio.get_running_loop().create_future()

    async def work(worker: Worker) -> object:
        return await wait

    worker = Worker(work)
    await outside(worker.start)
    for _ in range(3):
        await outside(worker.eager.go_on)
        await turns()
    assert not worker.eager.idle
    assert not worker.eager.over
    wait.set_result("came")
    await turns()
    assert worker.ends == ["came"]


async def test_a_time_limit_of_asyncio_holds() -> None:
    async def work(worker: Worker) -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            return "late"
        return "never"

    worker = Worker(work)
    await outside(worker.start)
    await worker.task
    assert worker.ends == ["late"]


async def test_a_task_group_of_a_step_is_waited_for() -> None:
    async def work(worker: Worker) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, number)) for number in range(3)]
        return [task.result() for task in tasks]

    worker = Worker(work)
    await outside(worker.start)
    await worker.task
    assert worker.ends == [[0, 1, 2]]


async def test_sleeping_for_zero_seconds_gives_others_a_turn() -> None:
    order: list[str] = []

    async def work(worker: Worker) -> None:
        order.append("before")
        await asyncio.sleep(0)
        order.append("after")

    worker = Worker(work)
    await outside(worker.start, lambda: order.append("others"))
    await worker.task
    assert order == ["before", "others", "after"]


@pytest.mark.parametrize("settle", [0, 5], ids=["at once", "later"])
async def test_abandoning_cancels_what_is_waited_for(settle: int) -> None:
    wait = asyncio.get_running_loop().create_future()

    async def work(worker: Worker) -> None:
        try:
            await wait
        except asyncio.CancelledError:
            worker.did.append("cancelled")
            raise

    worker = Worker(work)
    await outside(worker.start)
    for _ in range(settle):
        await asyncio.sleep(0)
    await outside(worker.eager.abandon)
    await turns()
    assert wait.cancelled()
    assert worker.did == ["cancelled"]
    assert isinstance(worker.ends[0], asyncio.CancelledError)
    assert worker.eager.over


async def test_abandoning_ends_one_that_waits_for_the_signal() -> None:
    worker = Worker(echo)
    await outside(worker.start)
    await outside(worker.eager.abandon)
    await outside(worker.eager.go_on)
    await turns()
    assert isinstance(worker.ends[0], asyncio.CancelledError)
    worker.eager.abandon()  # of one that is over: nothing


async def test_an_error_before_there_is_a_coroutine_is_handed_to_the_continuation() -> None:
    def fail() -> None:
        raise ValueError("no beginning")

    worker = Worker(echo)
    await outside(lambda: worker.start(fail))
    await worker.task
    assert str(worker.ends[0]) == "no beginning"
    assert worker.eager.over


async def test_a_task_without_a_coroutine_ends() -> None:
    worker = Worker(echo)
    await outside(lambda: worker.start(lambda: None))
    await worker.task
    assert worker.ends == []


async def test_an_error_is_handed_to_the_continuation() -> None:
    async def work(worker: Worker) -> None:
        raise ValueError("a fault")

    worker = Worker(work)
    await outside(worker.start)
    await worker.task
    assert str(worker.ends[0]) == "a fault"


async def test_an_error_of_a_future_is_raised_where_the_future_is_awaited() -> None:
    wait = asyncio.get_running_loop().create_future()

    async def work(worker: Worker) -> str:
        try:
            await wait
        except OSError as error:
            return str(error)
        return "no error"

    worker = Worker(work)
    await outside(worker.start)
    await turns()
    wait.set_exception(OSError("unreachable"))
    await worker.task
    assert worker.ends == ["unreachable"]


async def test_what_follows_runs_in_the_same_task() -> None:
    async def first(worker: Worker) -> object:
        return asyncio.current_task()

    worker = Worker(first, echo)
    await outside(worker.start)
    for _ in range(3):
        await outside(worker.eager.go_on)
    await worker.task
    assert worker.ends == [worker.task, "done"]
    assert worker.did == [0, 1, 2]


async def test_it_leaves_no_reference_cycle_behind() -> None:
    worker = Worker(echo)
    await outside(worker.start)
    alive = weakref.ref(worker.task)
    for _ in range(3):
        await outside(worker.eager.go_on)
    await turns()
    gc.disable()
    try:
        del worker
        assert alive() is None
    finally:
        gc.enable()


async def test_it_cannot_be_awaited_itself() -> None:
    worker = Worker(echo)
    await outside(worker.start)
    with pytest.raises(TypeError, match="run by its task"):
        await worker.eager
    worker.eager.abandon()
    await turns()


async def test_an_error_of_a_step_by_hand_is_handed_to_the_continuation_in_the_task() -> None:
    async def work(worker: Worker) -> None:
        await SIGNAL
        raise ValueError("a fault")

    async def after(worker: Worker) -> object:
        await SIGNAL
        return asyncio.current_task()

    worker = Worker(work, after)
    await outside(worker.start)
    await outside(worker.eager.go_on)
    assert str(worker.ends[0]) == "a fault"
    await turns()
    assert worker.eager.idle
    await outside(worker.eager.go_on)
    await worker.task
    assert worker.ends[1:] == [worker.task]


def frames() -> list[str]:
    return [frame.name for frame in traceback.extract_stack()]


@pytest.mark.patches
async def test_a_step_by_hand_is_one_frame_below_its_coroutine() -> None:
    seen: list[list[str]] = []

    async def work(worker: Worker) -> None:
        await SIGNAL
        seen.append(frames())

    worker = Worker(work)
    await outside(worker.start)
    await outside(worker.eager.go_on)
    assert seen[0][-4:-1] == ["called", "go_on", "work"]


# The first step of any coroutine.


async def test_a_coroutine_that_does_not_wait_is_over_after_its_first_step() -> None:
    async def answer() -> str:
        return "at once"

    assert start_eagerly(answer()) == "at once"


async def test_an_error_in_the_first_step_is_raised_at_once() -> None:
    async def fail() -> None:
        raise ValueError("a fault")

    with pytest.raises(ValueError, match="a fault"):
        start_eagerly(fail())


async def test_the_rest_of_a_coroutine_that_waits_is_awaited() -> None:
    wait = asyncio.get_running_loop().create_future()

    async def answer() -> object:
        await asyncio.sleep(0)
        return await wait, asyncio.current_task()

    rest = start_eagerly(answer())
    assert isinstance(rest, Remainder)
    asyncio.get_running_loop().call_soon(wait.set_result, "came")
    assert await rest == ("came", asyncio.current_task())


async def test_a_cancellation_is_raised_where_the_rest_waits() -> None:
    async def answer() -> str:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            return "cancelled"
        return "never"

    async def waiting() -> object:
        rest = start_eagerly(answer())
        assert isinstance(rest, Remainder)
        return await rest

    task = asyncio.ensure_future(waiting())
    await turns()
    task.cancel()
    assert await task == "cancelled"


# asyncio's private names.


async def test_a_task_that_is_entered_is_the_current_one_until_it_is_left() -> None:
    async def never() -> None: ...

    loop = asyncio.get_running_loop()
    task = loop.create_task(never())
    current: list[object] = []

    def enter_and_leave() -> None:
        enter_task(loop, task)
        current.append(asyncio.current_task())
        leave_task(loop, task)
        current.append(asyncio.current_task())

    await outside(enter_and_leave)
    assert current == [task, None]
    await task


async def test_no_task_can_be_entered_while_another_one_runs() -> None:
    async def never() -> None: ...

    loop, running = asyncio.get_running_loop(), asyncio.current_task()
    task = loop.create_task(never())
    with pytest.raises(RuntimeError, match="while another task"):
        enter_task(loop, task)
    assert asyncio.current_task() is running
    await task


@pytest.mark.parametrize("awaited", [True, False])
async def test_a_task_waits_for_a_future_only_if_it_is_marked_as_awaited(awaited: bool) -> None:
    future = asyncio.get_running_loop().create_future()

    class Yielding:
        def __await__(self) -> Generator[Any, None, str]:
            mark_awaited(future, awaited)
            yield future
            return "waited"

    async def work() -> str:
        return await Yielding()

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    future.set_result(None)
    if awaited:
        assert await task == "waited"
    else:
        with pytest.raises(RuntimeError, match="yield was used instead of yield from"):
            await task


async def test_a_future_marks_itself_as_awaited_and_its_task_takes_the_mark_away() -> None:
    future: Any = asyncio.get_running_loop().create_future()
    assert next(future.__await__()) is future
    assert future._asyncio_future_blocking is True
    future._asyncio_future_blocking = False

    async def wait() -> None:
        await future

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    assert future._asyncio_future_blocking is False
    future.set_result(None)
    await task
