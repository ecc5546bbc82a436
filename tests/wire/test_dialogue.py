"""A dialogue takes its steps at once, and leaves to its task only what waits for somebody else than the client."""

import asyncio
import contextvars
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gatepost.concurrency.eager import Dialogue, client

Talk = Callable[["Talker"], Coroutine[Any, Any, Any]]


class Talker:
    """Somebody whose dialogue is ``talk``; what it comes to is kept, and ``then`` may follow."""

    def __init__(self, talk: Talk, then: Talk | None = None) -> None:
        self.then = then
        self.said: list[object] = []
        self.ends: list[object] = []
        self.talk = talk

    def begin(self, first: Callable[[], Coroutine[Any, Any, Any] | None] | None = None) -> None:
        self.dialogue = Dialogue(asyncio.get_running_loop(), self)
        self.task = self.dialogue.task
        self.dialogue.begin(first or (lambda: self.talk(self)))

    def ended(self, value: Any, error: BaseException | None) -> Coroutine[Any, Any, Any] | None:
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


async def echo(talker: Talker) -> str:
    for number in range(3):
        await client
        talker.said.append(number)
    return "done"


async def test_a_step_is_taken_before_go_on_returns() -> None:
    talker = Talker(echo)
    seen: list[int] = []

    def step() -> None:
        talker.dialogue.go_on()
        seen.append(len(talker.said))

    await outside(talker.begin)
    for _ in range(3):
        await outside(step)
    await turns()
    assert seen == [1, 2, 3]
    assert talker.ends == ["done"]
    assert talker.dialogue.over


async def test_the_task_takes_the_steps_that_are_called_for_from_another_task() -> None:
    talker = Talker(echo)
    await outside(talker.begin)
    for _ in range(3):
        talker.dialogue.go_on()
        await turns()
    assert talker.said == [0, 1, 2]
    assert talker.ends == ["done"]


async def test_all_of_it_runs_in_the_task() -> None:
    waited = asyncio.Event()

    async def talk(talker: Talker) -> None:
        talker.said.append(asyncio.current_task())
        await asyncio.sleep(0.001)
        waited.set()
        talker.said.append(asyncio.current_task())
        await client
        talker.said.append(asyncio.current_task())

    talker = Talker(talk)
    await outside(talker.begin)
    await waited.wait()
    await turns()
    await outside(talker.dialogue.go_on)
    await talker.task
    assert talker.said == [talker.task] * 3


async def test_a_context_variable_outlives_the_steps_and_is_not_shared() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")

    async def talk(talker: Talker) -> None:
        variable.set("mine")
        await client
        talker.said.append(variable.get())
        await asyncio.sleep(0)
        talker.said.append(variable.get())

    talker = Talker(talk)
    await outside(talker.begin)
    await outside(lambda: talker.said.append(variable.get()))
    await outside(talker.dialogue.go_on)
    await talker.task
    assert talker.said == ["nobody's", "mine", "mine"]


async def test_nothing_is_taken_while_somebody_else_is_waited_for() -> None:
    wait = asyncio.get_running_loop().create_future()

    async def talk(talker: Talker) -> object:
        return await wait

    talker = Talker(talk)
    await outside(talker.begin)
    for _ in range(3):
        await outside(talker.dialogue.go_on)
        await turns()
    assert not talker.dialogue.idle
    assert not talker.dialogue.over
    wait.set_result("came")
    await turns()
    assert talker.ends == ["came"]


async def test_a_time_limit_of_asyncio_holds() -> None:
    async def talk(talker: Talker) -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            return "late"
        return "never"

    talker = Talker(talk)
    await outside(talker.begin)
    await talker.task
    assert talker.ends == ["late"]


async def test_a_task_group_of_a_step_is_waited_for() -> None:
    async def talk(talker: Talker) -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0, number)) for number in range(3)]
        return [task.result() for task in tasks]

    talker = Talker(talk)
    await outside(talker.begin)
    await talker.task
    assert talker.ends == [[0, 1, 2]]


async def test_a_turn_of_the_loop_is_one() -> None:
    order: list[str] = []

    async def talk(talker: Talker) -> None:
        order.append("before")
        await asyncio.sleep(0)
        order.append("after")

    talker = Talker(talk)
    await outside(talker.begin, lambda: order.append("others"))
    await talker.task
    assert order == ["before", "others", "after"]


@pytest.mark.parametrize("settle", [0, 5], ids=["at once", "later"])
async def test_abandoning_cancels_what_is_waited_for(settle: int) -> None:
    wait = asyncio.get_running_loop().create_future()

    async def talk(talker: Talker) -> None:
        try:
            await wait
        except asyncio.CancelledError:
            talker.said.append("cancelled")
            raise

    talker = Talker(talk)
    await outside(talker.begin)
    for _ in range(settle):
        await asyncio.sleep(0)
    await outside(talker.dialogue.abandon)
    await turns()
    assert wait.cancelled()
    assert talker.said == ["cancelled"]
    assert isinstance(talker.ends[0], asyncio.CancelledError)
    assert talker.dialogue.over


async def test_abandoning_ends_one_that_waits_for_its_client() -> None:
    talker = Talker(echo)
    await outside(talker.begin)
    await outside(talker.dialogue.abandon)
    await outside(talker.dialogue.go_on)
    await turns()
    assert isinstance(talker.ends[0], asyncio.CancelledError)
    talker.dialogue.abandon()  # of one that is over: nothing


async def test_an_error_before_there_is_anything_to_run_is_the_owners_too() -> None:
    def fail() -> None:
        raise ValueError("no beginning")

    talker = Talker(echo)
    await outside(lambda: talker.begin(fail))
    await talker.task
    assert str(talker.ends[0]) == "no beginning"
    assert talker.dialogue.over


async def test_one_that_has_nothing_to_run_ends() -> None:
    talker = Talker(echo)
    await outside(lambda: talker.begin(lambda: None))
    await talker.task
    assert talker.ends == []


async def test_an_error_is_the_owners() -> None:
    async def talk(talker: Talker) -> None:
        raise ValueError("a fault")

    talker = Talker(talk)
    await outside(talker.begin)
    await talker.task
    assert str(talker.ends[0]) == "a fault"


async def test_what_an_error_of_the_awaited_raises_is_raised_where_it_is_awaited() -> None:
    wait = asyncio.get_running_loop().create_future()

    async def talk(talker: Talker) -> str:
        try:
            await wait
        except OSError as error:
            return str(error)
        return "no error"

    talker = Talker(talk)
    await outside(talker.begin)
    await turns()
    wait.set_exception(OSError("unreachable"))
    await talker.task
    assert talker.ends == ["unreachable"]


async def test_what_follows_runs_in_the_same_task() -> None:
    async def first(talker: Talker) -> object:
        return asyncio.current_task()

    talker = Talker(first, echo)
    await outside(talker.begin)
    for _ in range(3):
        await outside(talker.dialogue.go_on)
    await talker.task
    assert talker.ends == [talker.task, "done"]
    assert talker.said == [0, 1, 2]


async def test_it_leaves_no_circle_behind() -> None:
    talker = Talker(echo)
    await outside(talker.begin)
    alive = weakref.ref(talker.task)
    for _ in range(3):
        await outside(talker.dialogue.go_on)
    await turns()
    gc.disable()
    try:
        del talker
        assert alive() is None
    finally:
        gc.enable()


async def test_it_is_not_awaited() -> None:
    talker = Talker(echo)
    await outside(talker.begin)
    with pytest.raises(TypeError, match="by its task"):
        await talker.dialogue
    talker.dialogue.abandon()
    await turns()
