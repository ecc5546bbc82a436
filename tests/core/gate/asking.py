"""Plugins that say what a test wants at ``data``, and ways to ask a gate about them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from gatepost import Session, hookimpl
from gatepost.rulings import Ruling
from tests.policy import Client, Policy, delivering, instance, vouching

KINDS = ["plain", "async", "ahead", "blocking"]


class Asked:
    """A plugin that waits, does something, writes down that it was asked, and answers or raises."""

    clock: Any

    def __init__(
        self,
        answer: Any = None,
        *,
        seconds: float = 0.0,
        does: Callable[[Session], object] | None = None,
        log: list[str] | None = None,
        name: str = "",
    ) -> None:
        self.answer = answer
        self.seconds = seconds
        self.does = does
        self.log: list[str] = [] if log is None else log
        self.name = name
        self.cancelled = False

    def say(self, session: Session) -> Any:
        self.log.append(self.name)
        if self.does is not None:
            self.does(session)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def wait_and_say(self, session: Session) -> Any:
        try:
            await (self.clock.sleep(self.seconds) if self.seconds else asyncio.sleep(0))
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.say(session)


class Plain(Asked):
    @hookimpl
    def data(self, session: Session) -> Any:
        return self.say(session)


class Async(Asked):
    @hookimpl
    async def data(self, session: Session) -> Any:
        return await self.wait_and_say(session)


class Ahead(Asked):
    @hookimpl(ahead=True)
    async def data(self, session: Session) -> Any:
        return await self.wait_and_say(session)


class Blocking(Asked):
    @hookimpl(blocking=True)
    def data(self, session: Session) -> Any:
        return self.say(session)


ASKED: dict[str, type[Asked]] = {"plain": Plain, "async": Async, "ahead": Ahead, "blocking": Blocking}


def policy_of(*plugins: Any, **how: Any) -> Policy:
    """A policy over ``plugins``, named in their order, that takes every message."""
    named = [
        plugin if not isinstance(plugin, Asked) else instance(plugin, plugin.name or f"p{number}")
        for number, plugin in enumerate(plugins)
    ]
    policy = Policy(*named, vouching(), delivering(), **how)
    for made in policy.gate.instances:
        made.plugin.clock = policy.clock
    return policy


async def at_data(policy: Policy) -> Client:
    """A client whose recipient was accepted, and that may now say DATA."""
    client = await policy.connect()
    await client.ehlo()
    await client.mail()
    assert (await client.rcpt()).code == 250
    return client


async def ask(policy: Policy, phase: str = "data", client: Client | None = None) -> Ruling:
    """Ask one phase directly, moving the clock when everybody waits."""
    client = client or Client(policy, "192.0.2.1")
    arguments = {"data": (client.session, client.session.envelope), "connect": (client.session,)}[phase]
    ruling: Ruling = await client.wait_for(policy.gate.ask(phase, arguments, client.session, client.session.envelope))
    return ruling


async def really_ask(policy: Policy) -> Ruling:
    """The same while threads are at work, which the virtual clock does not know of."""
    session = Client(policy, "192.0.2.1").session
    return await policy.gate.ask("data", (session, None), session)


def names(ruling: Ruling) -> list[str]:
    return [said.plugin for said in ruling.said]
