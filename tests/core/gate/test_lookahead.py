"""Look-ups ahead overlap, see the session as at the start of the phase, and count at their turn."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from gatepost import Session, defer, deny, hookimpl
from tests.core.gate.asking import Ahead, Asked, Async, Plain, ask, policy_of
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
