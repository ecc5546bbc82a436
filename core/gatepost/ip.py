"""IP addresses from text and back to it, for each client: ``ipaddress``'s own ways take five times as long for IPv4."""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

IPAddress = IPv4Address | IPv6Address


@lru_cache(maxsize=256)
def ip_of(text: str) -> IPAddress:
    """The address that ``text`` is. Raises ``ValueError`` when it is none.

    The last ones are kept here, for who asks about a client asks again, and not with each of the clients that wait.
    They are few, so that the processor has them at hand too.
    """
    try:
        return IPv4Address(socket.inet_pton(socket.AF_INET, text))
    except (OSError, ValueError):  # IPv6, a zone, a NUL, or nothing that could be read
        return ip_address(text)


@lru_cache(maxsize=256)
def reverse_labels(text: str) -> str:
    """The octets of the IPv4 address that ``text`` is, or the nibbles of an IPv6 address, last one first, with dots.

    Kept like addresses: each list is asked about a client, and its name is. Raises ``ValueError`` as ``ip_of`` does.
    """
    address = ip_of(text)
    if isinstance(address, IPv4Address):
        number = int(address)
        return f"{number & 255}.{number >> 8 & 255}.{number >> 16 & 255}.{number >> 24}"
    return ".".join(reversed(address.packed.hex()))


def reverse_pointer(text: str) -> str:
    """The name under which DNS keeps what belongs to that address (RFC 1035 §3.5, RFC 3596 §2.5)."""
    return f"{reverse_labels(text)}.{'ip6' if ':' in text else 'in-addr'}.arpa"


def network_of(client: str) -> str:
    """The unit in which connections are counted: an IPv4 address, an IPv6 /64; "" for loopback."""
    if ":" not in client:
        return "" if client.startswith("127.") else client
    address = ipaddress.IPv6Address(client.partition("%")[0])
    return "" if address.is_loopback else str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def client_address(peer: str) -> str:
    """The address of a peer as text: an IPv4-mapped IPv6 address is the IPv4 address that it stands for."""
    return peer[7:] if peer.startswith("::ffff:") and "." in peer else peer
