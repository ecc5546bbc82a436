"""The circuit breaker: a plugin that keeps failing is left alone for a while."""

from __future__ import annotations

import asyncio

import pytest

from gatepost import DNSTemporaryError, deny
from tests.core.gate.asking import ASKED, Ahead, Asked, Async, Plain, ask, policy_of, really_ask
from tests.policy import instance, saying


async def test_after_five_failures_in_a_row_a_plugin_is_not_asked_until_a_trial_30_seconds_later() -> None:
    plugin = Plain(ValueError("x"))
    policy = policy_of(instance(plugin, "bad"))
    for _ in range(5):
        ruling = await ask(policy)
        assert (ruling.fault, ruling.said[0].skipped) == (True, "")
    assert [facts["plugin"] for facts in policy.events.named("circuit_opened")] == ["bad"]
    ruling = await ask(policy)
    assert (ruling.fault, ruling.said[0].skipped) == (True, "circuit open")
    assert len(plugin.log) == 5

    await policy.clock.advance(29.9)
    assert (await ask(policy)).said[0].skipped == "circuit open"
    await policy.clock.advance(0.1)
    await ask(policy)  # the trial fails
    assert (await ask(policy)).said[0].skipped == "circuit open"
    assert len(plugin.log) == 6

    await policy.clock.advance(30)
    plugin.answer = deny("well again")
    assert (await ask(policy)).decision == deny("well again")
    assert (await ask(policy)).decision == deny("well again")
    assert len(policy.events.named("circuit_closed")) == 1
    assert len(policy.events.named("circuit_opened")) == 1


@pytest.mark.parametrize("kind", ["async", "ahead", "plain"])
async def test_an_open_circuit_counts_as_on_error_says(kind: str) -> None:
    policy = policy_of(instance(ASKED[kind](ValueError()), on_error="pass"), Plain(deny("next")))
    for _ in range(6):
        assert (await ask(policy)).decision == deny("next")
    assert (await ask(policy)).said[0].skipped == "circuit open"


async def test_a_success_between_failures_keeps_the_circuit_closed() -> None:
    plugin = Plain()
    policy = policy_of(instance(plugin, on_error="pass"))
    for number in range(20):
        plugin.answer = ValueError() if number % 5 else None
        await ask(policy)
    assert len(plugin.log) == 20


@pytest.mark.parametrize("kind", [Async, Ahead])
async def test_only_one_client_makes_the_trial_and_may_leave_in_the_midst_of_it(kind: type[Asked]) -> None:
    plugin = kind(ValueError())
    policy = policy_of(instance(plugin, on_error="pass"))
    for _ in range(5):
        await ask(policy)
    await policy.clock.advance(30)
    plugin.answer, plugin.seconds = deny("x"), 5
    trial = asyncio.ensure_future(really_ask(policy))
    await policy.clock.advance(0)
    assert (await really_ask(policy)).said[0].skipped == "circuit open"
    trial.cancel()
    await asyncio.wait([trial])
    assert (await ask(policy)).decision == deny("x")


async def test_names_that_nobody_answers_for_do_not_open_a_circuit() -> None:
    """A stranger chooses them, and could so switch off what would refuse it."""
    looking = saying("data", DNSTemporaryError("SERVFAIL"), on_error="pass")
    policy = policy_of(instance(looking, "looking"))
    for _ in range(7):
        ruling = await ask(policy)
        assert ruling.said[0].error.startswith("DNSTemporaryError")
    assert not policy.events.named("circuit_opened")
