"""Helpers that the tests of greylist share: a policy that greylists, and clients that connect to it."""

from __future__ import annotations

from typing import Any

from gatepost.testing import Client, Policy, instance
from gatepost_builtin.envelope.greylist import Greylist

MINUTE = 60.0
DAY = 86_400.0


def greylist(**table: Any) -> Any:
    """The plugin with what its table says."""
    return instance(Greylist, "greylist", **table)


def policy_of(*others: Any, behind: tuple[Any, ...] = (), **table: Any) -> Policy:
    """A policy that asks ``others``, greylists, asks those ``behind``, and takes what is left."""
    return Policy(*others, greylist(**table), *behind, dns="lenient")


async def arrive(policy: Policy, client: str = "192.0.2.1", sender: str = "a@example.com") -> Client:
    """A client that has said EHLO and MAIL."""
    made = await policy.connect(client)
    await made.ehlo()
    await made.mail(sender)
    return made


async def send(
    policy: Policy, client: str = "192.0.2.1", sender: str = "a@example.com", recipient: str = "b@example.org"
) -> int:
    """The code that one transaction of a new connection ends with."""
    made = await policy.connect(client)
    reply = await made.transaction(sender, recipient)
    await made.close()
    return reply.code


async def introduce(policy: Policy, **who: str) -> None:
    """Let a triple come, wait and come back, so that it is known."""
    assert await send(policy, **who) == 451
    await policy.clock.advance(5 * MINUTE)
    assert await send(policy, **who) == 250
