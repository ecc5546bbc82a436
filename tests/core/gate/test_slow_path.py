"""The slow path: waits are limited, failures are never accept and never permanent, and a client may leave meanwhile."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from gatepost import Decision, Session, deny, hookimpl
from gatepost.concurrency.deadlines import abandon
from gatepost.rulings import Ruling
from tests.core.gate.asking import (
    ASKED,
    KINDS,
    Ahead,
    Asked,
    Async,
    Blocking,
    Plain,
    ask,
    at_data,
    policy_of,
    really_ask,
)
from tests.policy import Client, instance, saying

# Time.


async def test_a_plain_def_that_returns_something_to_wait_for_is_awaited_within_its_limit() -> None:
    class Wrapped(Asked):
        @hookimpl
        def data(self, session: Session) -> Any:
            return self.wait_and_say(session)

    assert (await ask(policy_of(Wrapped(deny("no"), seconds=3)))).decision == deny("no")
    slow = policy_of(Wrapped(deny("no"), seconds=1000))
    ruling = await ask(slow)
    assert ruling.fault
    assert 30 <= slow.clock.monotonic() <= 32
    assert slow.events.named("stall") == []


@pytest.mark.parametrize("kind", [Async, Ahead])
@pytest.mark.parametrize(("on_error", "code"), [("defer", 451), ("pass", 354)])
async def test_a_call_over_its_time_limit_counts_as_an_error(kind: type[Asked], on_error: str, code: int) -> None:
    policy = policy_of(instance(kind(deny("no"), seconds=100), time_limit=5.0, on_error=on_error))
    client = await at_data(policy)
    assert (await client.say("DATA")).code == code
    assert 5 <= client.waited <= 6
    assert policy.events.named("plugin_failed")[0]["error"] == "no answer within 5 s"


async def test_a_blocking_call_over_its_time_limit_counts_as_an_error() -> None:
    release = threading.Event()
    policy = policy_of(Blocking(deny("no"), does=lambda session: release.wait(20)))
    task = asyncio.ensure_future(really_ask(policy))
    await policy.clock.advance(31)
    ruling = await task
    release.set()
    assert ruling.fault
    assert ruling.said[0].error == "no answer within 30 s"


class Stubborn:
    """Swallows its cancellation, and does not hurry afterwards."""

    clock: Any

    def __init__(self, *, raises: bool = False, again: float = 0.0) -> None:
        self.raises, self.again = raises, again

    @hookimpl
    async def data(self) -> Decision:
        try:
            await self.clock.sleep(1000)
        except asyncio.CancelledError:
            await self.clock.sleep(self.again)
            if self.raises:
                raise ValueError("was cancelled") from None
        return deny("too late")


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("again", [0.0, 0.5])
async def test_a_plugin_that_swallows_its_cancellation_has_not_answered(raises: bool, again: float) -> None:
    after = Async(deny("after"), seconds=3)
    policy = policy_of(instance(Stubborn(raises=raises, again=again), on_error="pass"), after)
    ruling = await ask(policy)
    assert ruling.said[0].error == "no answer within 30 s"
    assert ruling.decision == deny("after")


async def test_a_plugin_that_cleans_up_for_long_is_cancelled_again_and_the_session_goes_on() -> None:
    policy = policy_of(instance(Stubborn(again=100), on_error="pass"), Plain(deny("after")))
    ruling = await ask(policy)
    assert ruling.decision == deny("after")
    assert policy.clock.monotonic() < 40
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_time_in_silence_does_not_count() -> None:
    class Waits:
        longest_wait = 50.0

        def __init__(self) -> None:
            self.heard: bool | None = None

        @hookimpl
        async def connect(self, session: Session) -> None:
            self.heard = await session.silence(50)

    waits = Waits()
    client = await policy_of(instance(waits, time_limit=5.0)).connect()
    assert (client.banner.code, client.waited, waits.heard) == (220, 50, True)


@pytest.mark.parametrize(
    ("phase", "longest_wait", "budget"),
    [("data", 0.0, 60.0), ("connect", 0.0, 30.0), ("connect", 40.0, 70.0)],
)
async def test_a_phase_over_its_budget_is_451_though_every_plugin_would_let_it_pass(
    phase: str, longest_wait: float, budget: float
) -> None:
    class Slow:
        on_error = "pass"
        clock: Any

        def __init__(self) -> None:
            self.longest_wait = longest_wait

        async def wait(self) -> None:
            await self.clock.sleep(25)

        @hookimpl
        async def connect(self) -> None:
            await self.wait()

        @hookimpl
        async def data(self) -> None:
            await self.wait()

    policy = policy_of(*(instance(Slow(), f"slow{number}") for number in range(5)))
    ruling = await ask(policy, phase)
    assert (ruling.fault, ruling.plugin) == (True, "gatepost")
    assert budget <= policy.clock.monotonic() <= budget + 1
    assert ruling.unasked


async def test_many_sessions_wait_at_the_same_time_each_within_its_own_limit() -> None:
    class ByClient:
        clock: Any

        @hookimpl
        async def data(self, session: Session) -> Decision:
            await self.clock.sleep(float(session.client.rpartition(".")[2]))
            return deny("in time")

    policy = policy_of(ByClient())
    sessions = [Client(policy, f"192.0.2.{number}").session for number in range(1, 61)]
    tasks = [asyncio.ensure_future(policy.gate.ask("data", (session, None), session, None)) for session in sessions]
    await policy.clock.advance(100)
    rulings = [task.result() for task in tasks]
    assert [ruling.fault for ruling in rulings] == [number >= 30 for number in range(1, 61)]


async def test_a_plain_def_that_stalls_the_loop_is_named() -> None:
    def stall(session: Session) -> None:
        end = time.perf_counter() + 0.12
        while time.perf_counter() < end:
            pass

    policy = policy_of(instance(Plain(does=stall), "slow"), instance(Blocking(does=stall), "thread"))
    await really_ask(policy)
    stalls = policy.events.named("stall")
    assert [facts["plugin"] for facts in stalls] == ["slow"]
    assert float(str(stalls[0]["seconds"])) >= 0.12


# Errors.


WRONG = [True, 5, "text", b"octets", [deny("no")], (deny("no"),), {}, {"x": deny("no")}, object(), Decision]


ERRORS: list[Any] = [
    ValueError("secret text"),
    ConnectionResetError(104, "reset"),
    TimeoutError(),
    SystemExit(1),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    StopIteration(),
    RecursionError(),
    MemoryError(),
    *WRONG,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: "object()" if type(error) is object else repr(error))
@pytest.mark.parametrize(("on_error", "code"), [("defer", 451), ("pass", 354)])
async def test_an_error_or_a_wrong_return_value_is_never_accept_and_never_permanent(
    kind: str, error: Any, on_error: str, code: int
) -> None:
    asked_after = Plain()
    policy = policy_of(instance(ASKED[kind](error), "bad", on_error=on_error), instance(asked_after, "after"))
    client = await at_data(policy)
    reply = await client.rehearsal.say("DATA")
    assert reply.code == code
    assert asked_after.log == ([""] if on_error == "pass" else [])
    failed = policy.events.named("plugin_failed")
    assert (failed[0]["plugin"], failed[0]["phase"]) == ("bad", "data")
    if code == 451:
        assert reply.wire.decode() == f"451 4.3.0 local error, try again later [{failed[0]['id']}]\r\n"


async def test_an_error_in_a_phase_in_which_all_run_stops_nobody() -> None:
    log: list[str] = []

    class Notes:
        @hookimpl
        def reset(self) -> None:
            log.append("reset")

        @hookimpl
        async def disconnect(self) -> None:
            log.append("disconnect")

    bad = [saying(phase, error) for phase in ("reset", "disconnect", "quit") for error in (ValueError(), SystemExit())]
    client = await policy_of(*bad, Notes()).connect()
    await client.transaction()
    assert (await client.say("QUIT")).code == 221
    await client.close()
    assert log == ["reset", "disconnect"]


# A client that leaves.


@pytest.mark.parametrize("kind", [Async, Ahead])
async def test_a_client_that_leaves_cancels_the_phase_without_a_ruling(kind: type[Asked]) -> None:
    first, second = kind(seconds=20), Ahead(seconds=25)
    policy = policy_of(first, second)
    session = Client(policy, "192.0.2.1").session
    task = asyncio.ensure_future(policy.gate.ask("data", (session, None), session))
    await policy.clock.advance(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    assert first.cancelled and second.cancelled
    assert policy.events.events == []
    assert session._watch is None
    assert all(made.circuit.closed for made in policy.gate.instances)


async def test_a_client_that_leaves_is_noticed_although_a_plugin_swallows_the_cancellation() -> None:
    after = Plain()
    policy = policy_of(Stubborn(), after)
    task = asyncio.ensure_future(really_ask(policy))
    await policy.clock.advance(5)
    abandon(task)
    await policy.clock.advance(1)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert after.log == []


@pytest.mark.parametrize("handled", [False, True])
async def test_a_plugin_whose_task_group_fails_does_not_make_its_client_leave(handled: bool) -> None:
    """Before Python 3.13 a TaskGroup that waits for a task that fails leaves a cancellation behind."""

    class Groups:
        @hookimpl
        async def data(self) -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self.fails())
            except* ValueError:
                if not handled:
                    raise

        async def fails(self) -> None:
            raise ValueError

    policy = policy_of(instance(Groups(), on_error="pass"), Async(deny("after")))
    ruling = await ask(policy)
    assert ruling.decision == deny("after")
    assert bool(ruling.said[0].error) is not handled
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("sweep_first", [False, True])
async def test_a_client_that_leaves_as_the_time_is_up_has_left(sweep_first: bool) -> None:
    policy = policy_of(instance(Async(seconds=100), on_error="pass"))
    session = Client(policy, "192.0.2.1").session
    task = asyncio.ensure_future(policy.gate.ask("data", (session, None), session))
    await policy.clock.advance(29)
    assert session._watch is not None
    policy.clock._elapsed += 5
    if sweep_first:
        policy.gate.deadlines._sweep()
    task.cancel()
    if not sweep_first:
        policy.gate.deadlines._sweep()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_phases_that_run_after_the_client_has_left_keep_their_limits() -> None:
    """A door may run ``disconnect`` in the very task that was cancelled."""
    log: list[str] = []

    class Cleans(Asked):
        @hookimpl
        async def disconnect(self, session: Session) -> None:
            log.append("begun")
            await self.wait_and_say(session)

    policy = policy_of(Cleans(seconds=100), Cleans(seconds=1, log=log, name="done"))
    client = Client(policy, "192.0.2.1")

    async def door() -> None:
        try:
            await policy.clock.sleep(1000)
        finally:
            await client.rehearsal.close()

    task = asyncio.ensure_future(door())
    await asyncio.sleep(0)
    task.cancel()
    await policy.clock.advance(60)
    assert log == ["begun", "begun", "done"]
    assert policy.events.named("plugin_failed")[0]["error"] == "no answer within 30 s"


async def test_a_phase_that_is_closed_with_its_loop_is_not_a_failure_of_the_plugin() -> None:
    policy = policy_of(Async(seconds=20), Plain())
    session = Client(policy, "192.0.2.1").session
    asked = policy.gate.begin("data", (session, None), session)
    assert not isinstance(asked, Ruling)
    asked.send(None)
    await asyncio.to_thread(asked.close)  # where no loop runs, as after the end of ours
    assert policy.events.events == []
    assert session._watch is None


async def test_an_observed_plugin_that_hangs_at_queue_is_late_and_costs_the_message_nothing() -> None:
    class Hangs:
        clock: Any

        @hookimpl
        async def queue(self) -> None:
            await self.clock.sleep(10_000)

    policy = policy_of(instance(Hangs(), "hangs", mode="observe", time_limit=30.0))
    client = await policy.connect()
    assert (await client.transaction()).wire.startswith(b"250 2.0.0 queued as ")
    assert 30 <= client.waited <= 31
    said = [said for ruling in policy.events.records[-1].rulings for said in ruling.said if said.plugin == "hangs"]
    assert [each.error for each in said] == ["no answer within 30 s"]
