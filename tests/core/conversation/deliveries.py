"""Deliveries that answer by a script, and messages that are sent to them."""

from __future__ import annotations

import asyncio
from typing import Any

from gatepost import Address, Decision, accept, defer, deny, hookimpl
from gatepost.replies import Reply
from tests.policy import MESSAGE, Policy, instance, vouching

TAKEN = accept("taken")
LATER = defer("mailbox busy")
NEVER = deny("no such mailbox", code=550, status="5.1.1")


class Scripted:
    """A delivery that answers for each recipient by the name before the @, as the script of this attempt says."""

    grants = "delivery"

    def __init__(self, *attempts: dict[str, Decision]) -> None:
        self.attempts = list(attempts)
        self.asked: list[list[str]] = []
        self.taken: list[str] = []

    @hookimpl
    async def queue(self, envelope: Any) -> dict[Address, Decision]:
        await asyncio.sleep(0)
        pending: tuple[Address, ...] = envelope.pending
        self.asked.append([recipient.local for recipient in pending])
        script = self.attempts.pop(0) if len(self.attempts) > 1 else self.attempts[0]
        answers = {recipient: script[recipient.local] for recipient in pending if recipient.local in script}
        self.taken += [recipient.local for recipient, decision in answers.items() if not decision.refuses]
        return answers


async def send(policy: Policy, *recipients: str, sender: str = "a@example.com", content: bytes = MESSAGE) -> Reply:
    """Send a message to ``recipients`` of our domain from a session of its own; the reply to the final dot."""
    client = await policy.connect()
    await client.ehlo()
    await client.mail(sender)
    for recipient in recipients:
        await client.rcpt(f"{recipient}@example.org")
    reply = await client.data(content)
    await client.close()
    return reply


def policy_of(*plugins: Any, **how: Any) -> Policy:
    return Policy(vouching(), *(instance(plugin, f"d{number}") for number, plugin in enumerate(plugins)), **how)
