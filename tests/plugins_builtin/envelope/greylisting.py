"""What the tests of greylist share: a policy that greylists, and clients that come to it."""

from __future__ import annotations

from typing import Any

from gatepost.plugins import make_gate
from gatepost_builtin.envelope.greylist import Greylist, GreylistOptions
from tests.policy import Client, Policy, delivering, instance, vouching

MINUTE = 60.0
DAY = 86_400.0


def policy_of(*others: Any, store: Any = None, mode: str = "enforce", **options: Any) -> Policy:
    """A policy that vouches for everybody, asks ``others``, greylists, and takes what is left."""
    policy = Policy()
    plugin = Greylist(GreylistOptions(**options), store or policy.store.namespace("greylist"), policy.clock)
    front = [instance(other, f"other{number}") for number, other in enumerate((vouching(), *others))]
    own = instance(plugin, "greylist", mode=mode)
    policy.gate = make_gate([*front, own, instance(delivering(), "taking")], policy.clock, policy.events)
    return policy


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
