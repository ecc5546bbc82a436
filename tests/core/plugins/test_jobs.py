"""Repeated jobs of plugins go on until the server stops, whatever happens in one of their runs."""

from __future__ import annotations

import asyncio

import pytest

from gatepost.plugins.lifecycle import Jobs
from tests.policy import Policy


@pytest.mark.parametrize("error", [OSError("no"), SystemExit(3), asyncio.CancelledError()])
async def test_a_job_that_fails_is_reported_and_repeated(error: BaseException) -> None:
    policy = Policy()
    jobs, turns = Jobs(policy.runtime), []

    async def job() -> None:
        turns.append(policy.clock.monotonic())
        raise error

    began = policy.clock.monotonic()
    jobs.every(60, job)
    await policy.clock.advance(150)
    assert [turn - began for turn in turns] == [60, 120]
    assert [facts["error"] for facts in policy.events.named("job_failed")] == [repr(error)] * 2
    await jobs.stop()


async def test_a_job_under_way_ends_with_the_server() -> None:
    policy = Policy()
    jobs, ended = Jobs(policy.runtime), asyncio.Event()

    async def job() -> None:
        try:
            await policy.clock.sleep(3600)
        finally:
            ended.set()

    jobs.every(60, job)
    await policy.clock.advance(61)
    await jobs.stop()
    assert ended.is_set() and not policy.events.events
    await policy.clock.advance(7200)
    assert not policy.events.events
