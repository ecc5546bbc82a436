"""A message for the tests of the next hop, and the steps that deliver it."""

from __future__ import annotations

from collections.abc import Callable

from gatepost.services.next_hop import Answer, Delivery, NextHop

OpenNextHop = Callable[..., NextHop]

CONTENT = b"Subject: hello\r\n\r\n.leading dot\r\nbody\r\n"
FINE = Answer(250, "2.0.0", "fine")


async def addressed(next_hop: NextHop, *recipients: str) -> Delivery:
    """Return a delivery whose MAIL and RCPT have been said."""
    delivery = await next_hop.begin()
    assert (await delivery.mail("a@x.example")).is_positive
    for recipient in recipients or ("b@y.example",):
        await delivery.rcpt(recipient)
    return delivery


async def deliver(next_hop: NextHop) -> dict[str, Answer]:
    """Deliver CONTENT to b@y.example and give the connection back."""
    delivery = await addressed(next_hop)
    answers = await delivery.data([CONTENT])
    await delivery.release()
    return answers
