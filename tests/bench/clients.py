"""The 10,000 clients of the benchmark: each has its own loopback address, a sender and a recipient.

Each client is alone in its /24 network, because a greylist treats a network as one client. Consecutive numbers differ
in the second octet first, so that any range of numbers has the same share of clients whose DNS answers cannot be cached
(``dns.py``).
"""

from __future__ import annotations

from typing import NamedTuple

DOMAIN = "example.test"
"""The only domain that every server takes mail for."""
CLIENTS = 10_000
SECOND_OCTETS = range(1, 41)


class Client(NamedTuple):
    """The address and the envelope of a client."""

    address: str
    sender: str
    recipient: str


def client(number: int) -> Client:
    """Return the client with this number; after the last one the first follows again."""
    rest, second = divmod(number % CLIENTS, len(SECOND_OCTETS))
    return Client(
        f"127.{SECOND_OCTETS[second]}.{rest}.1",
        f"sender{number % CLIENTS}@client{second}.test",
        f"user{rest}@{DOMAIN}",
    )
