"""DNS as plugins see it. ``client`` has the resolver of a running server, ``gatepost.testing`` that of tests.

It does not know what an answer means to a policy: "no such records" is an empty tuple, "could not be found out" is
DNSTemporaryError, and the two are never confused. RFC 5782 §2.1, §2.4: the name of an address in a DNS list. RFC 8601
§3: forward-confirmed reverse DNS.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Protocol, TypeVar

from gatepost.errors import DNSError, DNSTemporaryError
from gatepost.ip import IPAddress, ip_of, reverse_labels, reverse_pointer

T = TypeVar("T")

MAX_NAMES = 5
"""The most names of an address that are read and verified, because the owner of a reverse zone may list thousands."""


class Resolver(Protocol):
    """The service that a plugin gets as ``dns``. A fake that subclasses this only needs ``query``."""

    async def query(self, name: str, kind: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Return the records of ``kind`` at ``name``; empty when there are none (NXDOMAIN, NODATA).

        ``kind`` is "A", "AAAA", "PTR", "TXT", "MX", "NS" and so on. ``timeout`` is in seconds and covers all servers
        and retries; None means the timeout in ``[dns]``. Addresses are returned as text, names in lower case without
        the trailing dot, MX as "10 mx.example.org" ("0 ." for a domain that accepts no mail, RFC 7505), TXT with its
        strings joined and everything but printable ASCII as \\DDD, all others in the form of RFC 1035 §5.1. Of PTR
        records at most five are returned.

        Raises DNSTemporaryError when the records could not be found out (SERVFAIL, REFUSED, no answer in time),
        DNSError when ``name`` or ``kind`` is invalid.
        """
        ...

    def known(self, name: str, kind: str) -> tuple[str, ...] | None:
        """Return the records if they are known without a query, otherwise None."""
        return None

    async def reverse(self, address: str) -> tuple[str, ...]:
        """Return the names in the PTR records of an IPv4 or IPv6 ``address``. Raises as ``query`` does."""
        return await self.query(reverse_pointer(_client(address)), "PTR")

    async def verified_name(self, address: str) -> str | None:
        """Return the first name of ``address`` whose A or AAAA records contain it, or None.

        At most five names are tried. Raises DNSTemporaryError when one of them could not be looked up and no other
        was confirmed (RFC 8601 §2.7.3, "temperror"), DNSError when ``address`` is not an IP address.
        """
        client = _client(address)
        kind = "AAAA" if ":" in client else "A"
        unknown: DNSTemporaryError | None = None
        for name in (await self.query(reverse_pointer(client), "PTR"))[:MAX_NAMES]:
            try:
                if ip_of(client) in map(_parse, await self.query(name, kind)):
                    return name
            except DNSTemporaryError as error:
                unknown = error
            except DNSError:
                continue  # a PTR record may hold any octets, so this one is no name that can be looked up
        if unknown is not None:
            raise unknown
        return None


def reversed_address(address: str) -> str:
    """Return the labels for ``address`` in a DNS list: "2.0.0.127" for 127.0.0.2, 32 nibbles for an IPv6 address.

    An IPv4-mapped IPv6 address (``::ffff:127.0.0.2``) stays IPv6, because the test entries of lists are such
    addresses (RFC 5782 §2.1, §2.4, §5). Raises DNSError when ``address`` is not an IP address.
    """
    return _of(reverse_labels, address)


def _parse(address: str) -> IPAddress:
    return _of(ip_of, address)


def _of(function: Callable[[str], T], address: str) -> T:
    """Return ``function(address)`` without an IPv6 zone. Raises DNSError when it is not an IP address."""
    try:
        return function(address.partition("%")[0] if "%" in address else address)
    except ValueError as error:
        raise DNSError(f"{address!r} is not an IP address") from error


def _client(address: str) -> str:
    """Return the address to look up. An IPv4-mapped one is that of an IPv4 client on a dual-stack socket."""
    parsed = _parse(address)
    return address.partition("%")[0] if isinstance(parsed, IPv4Address) else str(parsed.ipv4_mapped or parsed)
