"""A hook gets the arguments that it names, and a phase has the limits that belong to it."""

from __future__ import annotations

from typing import Any

from gatepost import Address, Decision, Session, accept, hookimpl
from gatepost.gate.chain import BUDGETS
from tests.core.gate.asking import at_data, policy_of
from tests.policy import Policy, delivering, instance, vouching


async def test_a_hook_gets_the_arguments_that_it_names_in_the_order_in_which_it_names_them() -> None:
    got: dict[str, object] = {}

    class Picky:
        @hookimpl
        def rcpt(self, recipient: Address, session: Session, parameters: object = None) -> None:
            got.update(recipient=recipient, session=session, parameters=parameters)

        @hookimpl
        def data(self) -> None:
            got["data"] = True

        @hookimpl(specname="mail")
        def whatever(self, sender: Address) -> None:
            got["sender"] = sender

    client = await at_data(policy_of(Picky()))
    await client.say("DATA")
    assert got == {
        "recipient": Address("b", "example.org"),
        "session": client.session,
        "parameters": {},
        "data": True,
        "sender": Address("a", "example.com"),
    }


async def test_the_message_has_120_seconds_and_the_hand_over_900() -> None:
    class Slow:
        clock: Any
        on_error = "pass"

        @hookimpl
        async def message(self) -> None:
            await self.clock.sleep(25)

    class SlowDelivery:
        grants = "delivery"
        clock: Any

        @hookimpl
        async def queue(self) -> Decision:
            await self.clock.sleep(890)
            return accept("at last")

    policy = Policy(*(instance(Slow(), f"slow{number}") for number in range(4)), vouching(), SlowDelivery())
    for made in policy.gate.instances:
        made.plugin.clock = policy.clock
    client = await policy.connect()
    assert "at last" in (await client.transaction()).lines()[0]
    assert client.waited == 990
    assert BUDGETS["message"] == 120.0
    over = Policy(*(instance(Slow(), f"slow{number}") for number in range(6)), vouching(), delivering())
    for made in over.gate.instances:
        made.plugin.clock = over.clock
    client = await over.connect()
    assert (await client.transaction()).wire.startswith(b"451 4.3.0 local error")
    assert 120 <= client.waited <= 121
