"""Look-ups ahead overlap, see the session as at the start of the phase, and count at their turn."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from gatepost import Decision, Session, defer, deny, hookimpl
from tests.core.gate.asking import Ahead, Asked, Async, Plain, ask, policy_of, really_ask
from tests.policy import Client, instance


async def test_look_ups_ahead_overlap_with_each_other_and_with_what_stands_before_them() -> None:
    policy = policy_of(Async(seconds=3), Ahead(seconds=4), Ahead(seconds=5), Ahead(seconds=2))
    ruling = await ask(policy)
    assert not ruling.refuses
    assert policy.clock.monotonic() == 5


async def test_the_answer_of_a_look_up_ahead_counts_at_its_turn_however_early_it_comes() -> None:
    policy = policy_of(Async(defer("first"), seconds=4), Ahead(deny("second"), seconds=1))
    assert (await ask(policy)).decision == defer("first")


async def test_what_a_decided_phase_no_longer_needs_is_cancelled() -> None:
    slow = Ahead(seconds=50)
    policy = policy_of(Async(deny("no"), seconds=1), slow)
    await ask(policy)
    assert policy.clock.monotonic() == 1
    await asyncio.sleep(0)
    assert slow.cancelled
    assert policy.gate.instances[1].circuit.closed


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError()])
async def test_an_error_of_a_look_up_that_nobody_takes_makes_no_noise(error: BaseException) -> None:
    noise: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: noise.append(context))
    policy = policy_of(Async(deny("no"), seconds=2), Ahead(error, seconds=1))
    assert (await ask(policy)).decision == deny("no")
    del policy
    gc.collect()
    await asyncio.sleep(0)
    assert noise == []


@pytest.mark.parametrize("first", [Plain, Async])
async def test_a_look_up_ahead_sees_the_session_as_at_the_start_of_the_phase(first: type[Asked]) -> None:
    seen: list[str] = []

    class Looks:
        @hookimpl(ahead=True)
        async def data(self, session: Session) -> None:
            seen.append(session.trusted)

    await ask(policy_of(first(does=lambda session: session.trust("network")), Looks()))
    assert seen == [""]


@pytest.mark.parametrize("on_error", ["defer", "pass"])
async def test_a_look_up_ahead_must_not_write_to_the_session(on_error: str) -> None:
    policy = policy_of(instance(Ahead(does=lambda session: session.trust("me")), on_error=on_error))
    client = Client(policy, "192.0.2.1")
    ruling = await ask(policy, client=client)
    assert client.session.trusted == ""
    assert "must not write" in ruling.said[0].error
    assert ruling.fault == (on_error == "defer")


async def test_the_time_limit_of_a_look_up_ahead_counts_from_the_start_of_the_phase() -> None:
    policy = policy_of(Async(seconds=4), instance(Ahead(seconds=100), time_limit=5.0))
    ruling = await ask(policy)
    assert ruling.said[1].error == "no answer within 5 s"
    assert 5 <= policy.clock.monotonic() <= 6


@pytest.mark.parametrize("before", [0, 20])
async def test_an_answer_after_the_limit_does_not_count_even_if_it_is_there_at_its_turn(before: float) -> None:
    policy = policy_of(Async(seconds=before), instance(Ahead(deny("late"), seconds=5.5), time_limit=5.0))
    ruling = await ask(policy)
    assert (ruling.fault, ruling.said[1].error) == (True, "no answer within 5 s")


async def test_who_became_trusted_meanwhile_is_asked_again_at_the_turn_of_a_look_up() -> None:
    class Skippable(Ahead):
        skip_trusted = True

    look_up = Skippable(deny("no"), seconds=1)
    policy = policy_of(Async(seconds=3, does=lambda session: session.trust("network")), instance(look_up))
    ruling = await ask(policy)
    assert ruling.decision is None
    assert ruling.said[1].skipped == "trusted"


class Broken:
    """Counts the look-ups that were started; each fails."""

    def __init__(self) -> None:
        self.started = 0

    @hookimpl(ahead=True)
    async def data(self) -> None:
        self.started += 1
        raise ValueError("x")


async def test_a_look_up_whose_plugin_s_circuit_is_open_is_not_started() -> None:
    broken = Broken()
    policy = policy_of(instance(broken, "broken", on_error="pass"))
    for _ in range(5):
        await ask(policy)
    assert broken.started == 5
    ruling = await ask(policy)
    assert (ruling.decision, ruling.said[0].skipped) == (None, "circuit open")
    await asyncio.sleep(0)
    assert broken.started == 5


async def test_a_look_up_about_a_trusted_client_is_not_started() -> None:
    class Skippable(Ahead):
        skip_trusted = True

    look_up, other = Skippable(deny("no")), Ahead()
    policy = policy_of(instance(look_up, "skippable"), other)
    client = Client(policy, "192.0.2.1")
    client.session.trust("network")
    ruling = await ask(policy, client=client)
    await asyncio.sleep(0)
    assert ruling.said[0].skipped == "trusted"
    assert (len(look_up.log), len(other.log)) == (0, 1)


class Stubborn:
    """Answers although its look-up was cancelled."""

    clock: Any

    def __init__(self) -> None:
        self.cancelled = 0

    @hookimpl(ahead=True)
    async def data(self) -> Decision:
        try:
            await self.clock.sleep(100)
        except asyncio.CancelledError:
            self.cancelled += 1
        return deny("late")


async def test_a_look_up_that_answers_after_the_sweep_has_cancelled_it_gave_no_answer() -> None:
    stubborn = Stubborn()
    policy = policy_of(instance(stubborn, "stubborn", time_limit=5.0))
    ruling = await ask(policy)
    assert stubborn.cancelled == 1
    assert (ruling.fault, ruling.said[0].error) == (True, "no answer within 5 s")
    assert policy.gate.instances[0].circuit.failures == 1


async def test_a_look_up_that_answers_after_its_phase_was_decided_changes_nothing() -> None:
    stubborn = Stubborn()
    policy = policy_of(Async(defer("first"), seconds=1), instance(stubborn, "stubborn"))
    ruling = await ask(policy)
    for _ in range(3):
        await asyncio.sleep(0)
    assert stubborn.cancelled == 1
    assert ruling.decision == defer("first")
    assert ruling.unasked == ("stubborn",)
    assert [said.plugin for said in ruling.said] == ["p0"]
    assert policy.gate.instances[1].circuit.failures == 0


@pytest.mark.parametrize("end", ["answer", "error", "limit", "decided", "left"])
async def test_the_watch_of_a_look_up_ends_with_it_however_it_ends(end: str) -> None:
    """Each one left behind would be looked at by every sweep from then on, and keep its task."""
    look_up = Ahead(ValueError("x") if end == "error" else None, seconds=100 if end in {"limit", "left"} else 1)
    first = Async(deny("no") if end == "decided" else None, seconds=0.5)
    policy = policy_of(first, instance(look_up, time_limit=5.0))
    deadlines = policy.gate.deadlines
    if end == "left":
        asked = asyncio.ensure_future(really_ask(policy))
        await policy.clock.advance(0.1)
        assert len(deadlines._watches) == 2
        asked.cancel()
        await asyncio.wait([asked])
    else:
        await ask(policy)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not deadlines._watches
