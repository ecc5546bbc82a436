"""DNS: what a plugin asks, the client that asks name servers, and the messages on the wire."""

from gatepost.services.dns.client import DNS, skipped_servers
from gatepost.services.dns.message import Question
from gatepost.services.dns.resolver import Resolver, reversed_address

__all__ = [
    "DNS",
    "Question",
    "Resolver",
    "reversed_address",
    "skipped_servers",
]
