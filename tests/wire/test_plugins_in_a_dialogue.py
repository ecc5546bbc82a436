"""Plugins that do what asyncio allows, and clients that come at the worst moment: the dialogue goes on, or ends wholly.

A dialogue's steps are taken by whoever hears of the client, and its task takes over where a plugin waits: see
``doors/dialogue``. No plugin is to notice.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gatepost import Decision, accept, hookimpl
from tests.door import Keeping, LiveDoor, live, until
from tests.policy import MESSAGE, Policy, instance, vouching

Way = Callable[[], Awaitable[object]]

UP_TO_DATA = ("connect", "greeting", "helo", "capabilities", "mail", "rcpt", "data")
PHASES = (*UP_TO_DATA, "headers", "message", "queue", "queued", "reset", "quit", "disconnect")
TRANSACTION = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n" + MESSAGE + b".\r\n"
WHOLE = b"EHLO client.example.com\r\n" + 2 * TRANSACTION + b"RSET\r\nQUIT\r\n"
"""A whole session of a client, sent at once."""


def doing(phase: str, way: Way) -> Any:
    """A plugin that does ``way`` in ``phase``, and answers so that the session goes on. ``ran`` counts."""

    async def hook(self: Any) -> Decision | None:
        await way()
        self.ran += 1
        return accept() if phase in {"rcpt", "queue"} else None

    return type("Doing", (), {phase: hookimpl(hook), "grants": ("delivery", "recipients"), "ran": 0})()


def once(way: Way) -> Way:
    """``way`` the first time, and nothing from then on."""
    done: list[bool] = []

    async def first() -> None:
        if not done:
            done.append(True)
            await way()

    return first


def future() -> asyncio.Future[Any]:
    """One that nobody ever ends."""
    return asyncio.get_running_loop().create_future()


def task() -> asyncio.Task[Any]:
    """The task that the caller runs in."""
    current = asyncio.current_task()
    assert current is not None
    return current


async def value(number: int) -> int:
    return number


async def fails() -> None:
    raise ValueError("of a task")


# Ways to wait that end well.


async def time_limit() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await future()


async def time_limit_that_is_over() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await future()


async def wait_for() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(future(), 0.001)


async def task_group() -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(value(1)), group.create_task(asyncio.sleep(0.001, 2))]
    assert [task.result() for task in tasks] == [1, 2]


async def task_group_that_fails() -> None:
    with pytest.raises(ExceptionGroup):  # noqa: PT012, the group is the statement
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            group.create_task(asyncio.sleep(60))


async def gather() -> None:
    assert await asyncio.gather(value(1), asyncio.sleep(0, 2)) == [1, 2]


async def shield() -> None:
    assert await asyncio.shield(asyncio.sleep(0.001, 1)) == 1


async def thread() -> None:
    assert await asyncio.to_thread(lambda: 1) == 1


async def task_that_fails() -> None:
    with pytest.raises(ValueError, match="of a task"):
        await asyncio.create_task(fails())


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def own_cancellation() -> None:
    task().cancel()
    with pytest.raises(asyncio.CancelledError):
        await future()
    task().uncancel()


async def own_cancellation_that_is_kept() -> None:
    task().cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(1)


async def same_task() -> None:
    before, ended, seen = task(), future(), []

    def callback() -> None:
        seen.append(asyncio.current_task())
        ended.set_result(None)

    asyncio.get_running_loop().call_soon(callback)
    await ended
    assert seen == [None]
    assert task() is before


async def own_task_is_awaited() -> None:
    with pytest.raises(RuntimeError, match=r"await on itself|await wasn't used"):
        await task()


async def another_loop() -> None:
    asked = value(1)
    with pytest.raises(RuntimeError, match="running event loop"):
        asyncio.run(asked)
    asked.close()


async def nonsense() -> None:
    class Nonsense:
        def __await__(self) -> Any:
            yield 42

    with pytest.raises(RuntimeError, match="bad yield"):
        await Nonsense()


async def context_variable() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    variable.set(1)
    await asyncio.sleep(0)
    assert variable.get() == await asyncio.create_task(asyncio.sleep(0.001, variable.get()))


WAYS = (
    time_limit,
    time_limit_that_is_over,
    wait_for,
    task_group,
    task_group_that_fails,
    gather,
    shield,
    thread,
    task_that_fails,
    turns,
    own_cancellation,
    own_cancellation_that_is_kept,
    same_task,
    own_task_is_awaited,
    another_loop,
    nonsense,
    context_variable,
)

# Ways to wait that do not end.


async def endless_turns() -> None:
    while True:  # noqa: ASYNC110, it is meant to be a fault
        await asyncio.sleep(0)


async def endless_in_a_time_limit() -> None:
    async with asyncio.timeout(1000):
        await future()


async def endless_in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.Event().wait())


async def endless_in_a_task() -> None:
    await asyncio.create_task(asyncio.Event().wait())


async def endless_in_a_shield() -> None:
    await asyncio.shield(future())


ENDLESS = (future, endless_turns, endless_in_a_time_limit, endless_in_a_group, endless_in_a_task, endless_in_a_shield)


async def all_has_ended(door: LiveDoor, tasks: set[asyncio.Task[Any]]) -> None:
    """Wait until no client, and no task but ``tasks``, is left."""
    await door.left()
    await until(lambda: asyncio.all_tasks() <= tasks)


async def session(door: LiveDoor) -> None:
    """A whole session, said at once by a client that leaves nothing unheard; each reply is a good one."""
    wire = await door.connect(early=WHOLE)
    wire.half_close()
    codes = [int(line[:3]) for line in (await wire.rest()).splitlines() if line[3:4] == b" "]
    assert codes == [220, 250, *2 * [250, 250, 354, 250], 250, 221]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("phase", PHASES)
async def test_a_plugin_may_wait_as_asyncio_allows(phase: str, way: Way) -> None:
    tasks = asyncio.all_tasks()
    async with live(policy := Policy(plugin := doing(phase, way), vouching(), Keeping())) as door:
        await session(door)
        await all_has_ended(door, tasks)
        assert plugin.ran
        assert not policy.events.events


@pytest.mark.parametrize("phase", ["connect", "helo"])
async def test_sessions_may_wait_for_the_same_task(phase: str) -> None:
    shared: list[asyncio.Task[Any]] = []

    async def way() -> None:
        if not shared:
            shared.append(asyncio.create_task(until(lambda: len(asking) == 20)))
        asking.append(phase)
        await shared[0]

    asking: list[str] = []
    async with live(policy := Policy(doing(phase, way))) as door:
        wires = [await door.connect() for _ in range(20)]
        for wire in wires:
            wire.send(b"EHLO client.example.com\r\n")
        assert [(await wire.reply())[:3] + (await wire.reply())[:3] for wire in wires] == 20 * [b"220250"]
        assert not policy.events.events


@pytest.mark.parametrize("phase", [phase for phase in PHASES if phase not in ("quit", "disconnect")])
async def test_a_plugin_that_cancels_its_task_and_does_not_wait_leaves_no_client_without_a_reply(phase: str) -> None:
    """Check that 421 comes at the latest; the reply to the current command may precede it."""

    async def way() -> None:
        task().cancel()

    async with live(policy := Policy(doing(phase, once(way)), vouching(), Keeping())) as door:
        wire, reply = await door.connect(), b""
        for line in (b"", *(WHOLE.replace(MESSAGE + b".\r\n", b"Subject: x,,.\r\n").splitlines())):
            reply = await wire.say(line.replace(b",", b"\r\n")) if line else await wire.reply()
            if reply.startswith(b"421 ") or wire.reader.at_eof():
                break
        assert reply.startswith(b"421 4.3.0 ")
        assert await wire.rest() == b""
        assert len(policy.events.named("internal_error")) == 1


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "later"])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration, asyncio.CancelledError])
@pytest.mark.parametrize("phase", ["greeting", "helo", "capabilities", "mail", "reset", "quit"])
async def test_what_a_plugin_raises_ends_no_dialogue(phase: str, error: type[BaseException], waits: bool) -> None:
    async def way() -> None:
        if waits:
            await asyncio.sleep(0)
        raise error("by a plugin")

    tasks = asyncio.all_tasks()
    async with live(policy := Policy(doing(phase, once(way)), vouching(), Keeping())) as door:
        wire = await door.connect()
        assert (await wire.reply()).startswith(b"220 ")
        wire.send(2 * b"EHLO client.example.com\r\n" + 2 * b"MAIL FROM:<a@example.com>\r\n" + b"QUIT\r\n")
        assert (await wire.rest()).endswith(b"221 2.0.0 bye\r\n")
        await wire.close()
        await all_has_ended(door, tasks)
        assert len(policy.events.named("plugin_failed")) == 1


@pytest.mark.parametrize("phase", PHASES[:-1])  # disconnect comes after the dialogue
async def test_what_another_task_of_a_plugin_raises_ends_no_dialogue(phase: str) -> None:
    """``GeneratorExit`` is what a coroutine is closed with."""

    async def other() -> None:
        raise GeneratorExit("by a plugin")

    async def way() -> None:
        await asyncio.create_task(other())

    tasks = asyncio.all_tasks()
    async with live(
        policy := Policy(instance(doing(phase, once(way)), on_error="pass"), vouching(), Keeping())
    ) as door:
        wire = await door.connect()
        wire.send(WHOLE)
        assert (await wire.rest()).endswith(b"221 2.0.0 bye\r\n")
        await wire.close()
        await all_has_ended(door, tasks)
        (failed,) = policy.events.named("plugin_failed")
        assert str(failed["error"]).startswith("GeneratorExit: by a plugin (")


@pytest.mark.parametrize("way", ENDLESS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("phase", ["connect", "helo", "headers", "queued", "quit", "disconnect"])
async def test_a_plugin_that_never_ends_is_ended_by_its_time_limit(phase: str, way: Way) -> None:
    tasks = asyncio.all_tasks()
    plugin = instance(doing(phase, once(way)), time_limit=5.0, on_error="pass")
    async with live(policy := Policy(plugin, vouching(), Keeping())) as door:
        said = asyncio.create_task(session(door))
        while not policy.events.named("plugin_failed"):
            await policy.clock.advance(1)
            await asyncio.sleep(0.001)
        await said
        await all_has_ended(door, tasks)
        (failed,) = policy.events.named("plugin_failed")
        assert failed["error"] == "no answer within 5 s"


LEAVING = {"reset": lambda door, wire: wire.reset(), "stop": lambda door, wire: door.listener.stop(now=True)}


@pytest.mark.parametrize("settle", [0, 1, 5])
@pytest.mark.parametrize("leave", LEAVING.values(), ids=LEAVING)
@pytest.mark.parametrize("way", ENDLESS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("phase", ["connect", "greeting", "helo", "rcpt", "data"])
async def test_whoever_ends_a_session_ends_its_plugin(phase: str, way: Way, leave: Any, settle: int) -> None:
    """Also in the very turn of the loop in which the plugin has begun to wait."""
    asked, ends = asyncio.Event(), []

    async def noted() -> None:
        asked.set()
        try:
            await way()
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    tasks = asyncio.all_tasks()
    async with live(policy := Policy(doing(phase, noted), vouching(), Keeping())) as door:
        wire = await door.connect(early=WHOLE)
        await asked.wait()
        for _ in range(settle):
            await asyncio.sleep(0)
        leave(door, wire)
        await wire.close()
        await all_has_ended(door, tasks)
        assert ends == ["cancelled"]
        assert not policy.events.warnings


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="new in Python 3.12")
async def test_a_plugin_may_have_tasks_begin_at_once() -> None:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.SelectorEventLoop):
        pytest.skip("uvloop calls that factory with an argument that Python 3.13 does not know")
    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
    async with live(policy := Policy(doing("helo", task_group), vouching(), Keeping())) as door:
        await session(door)
        assert not policy.events.events


async def test_a_client_that_has_just_left_when_the_server_stops_is_no_fault_of_ours() -> None:
    """It answers the last words with a reset, before this side can say that they were the last."""
    asked = asyncio.Event()

    async def way() -> None:
        asked.set()
        await future()

    async with live(policy := Policy(doing("helo", way))) as door:
        made = socket.create_connection(("127.0.0.1", door.port))
        made.sendall(WHOLE)
        await asked.wait()
        made.recv(1000)  # who leaves something unread resets at once
        made.close()
        door.listener.stop(now=True)
        await door.left()
        assert not policy.events.warnings


async def test_who_sends_a_thousand_messages_at_once_does_not_keep_others_waiting() -> None:
    async with live(Policy(vouching(), keeping := Keeping())) as door:
        greedy, other = await door.hello(), await door.hello()
        greedy.send(1000 * TRANSACTION)
        await until(lambda: keeping.contents)
        began = len(keeping.contents)
        assert (await other.say(b"NOOP")).startswith(b"250 ")
        assert len(keeping.contents) - began < 500
        await until(lambda: len(keeping.contents) == 1000)
