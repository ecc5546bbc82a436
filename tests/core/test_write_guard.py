"""To observe a plugin costs its waiting, and nothing else."""

from __future__ import annotations

from typing import Any

from gatepost import Clock, Session, hookimpl
from tests.policy import Policy, delivering, instance, saying, vouching


class Hanging:
    """Never answers at MAIL."""

    clock: Clock

    @hookimpl
    async def mail(self) -> None:
        await self.clock.sleep(1000)


class Waiting:
    """Waits at connect for longer than the phase has, without having said so."""

    @hookimpl
    async def connect(self, session: Session) -> None:
        await session.silence(45)


async def test_the_time_of_observed_plugins_is_not_taken_from_the_phase() -> None:
    """Two time limits of 30 s would use up the 60 s that MAIL has."""
    hanging = (Hanging(), Hanging())
    observed = [instance(each, f"hanging{place}", mode="observe") for place, each in enumerate(hanging)]
    policy = Policy(*observed, vouching(), delivering())
    for each in hanging:
        each.clock = policy.clock
    client = await policy.connect()
    assert (await client.transaction()).code == 250


async def test_an_observed_wait_at_connect_does_not_turn_the_client_away() -> None:
    policy = Policy(instance(Waiting(), "waiting", mode="observe"), vouching(), delivering())
    client = await policy.connect()
    assert client.banner.code == 220
    assert client.waited >= 45


async def test_an_observed_banner_is_recorded() -> None:
    observed = instance(saying("greeting", "mx.example.org says hello"), "polite", mode="observe")
    told: list[Any] = []
    told_of = instance(_Told(told), "told")
    client = await Policy(observed, told_of, vouching()).connect()
    assert client.banner.text == "mx.example.org ESMTP"
    (ruling,) = [ruling for ruling in told if ruling.phase == "greeting"]
    assert str(ruling.said[0].answer) == "accept mx.example.org says hello"


class _Told:
    """Keeps the rulings that it is told."""

    def __init__(self, told: list[Any]) -> None:
        self._told = told

    @hookimpl
    def ruled(self, ruling: Any) -> None:
        self._told.append(ruling)
