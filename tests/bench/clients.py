"""Who sends in a benchmark: 10,000 clients on loopback addresses of their own, each with a sender and a recipient.

Each client is alone in its /24 network, so that a greylist, to which a network is one client, knows 10,000 of them.
The second octet counts fastest. So any run of consecutive numbers has the same share of the clients whose DNS answers
cannot be kept (``dns.py``).
"""

from __future__ import annotations

from typing import NamedTuple

DOMAIN = "example.test"
"""The one domain that every server takes mail for."""
CLIENTS = 10_000
SECOND_OCTETS = range(1, 41)


class Client(NamedTuple):
    """Where mail comes from and goes to."""

    address: str
    sender: str
    recipient: str


def client(number: int) -> Client:
    """The client of that number; after the last comes the first again."""
    rest, second = divmod(number % CLIENTS, len(SECOND_OCTETS))
    return Client(
        f"127.{SECOND_OCTETS[second]}.{rest}.1",
        f"sender{number % CLIENTS}@client{second}.test",
        f"user{rest}@{DOMAIN}",
    )
