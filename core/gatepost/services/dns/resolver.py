"""DNS, as plugins ask it. The resolver of a running gate stands in ``dns``, the one of tests in the kit.

What an answer means to a policy it does not know: "there is nothing" is an empty tuple, "nobody knows" is
DNSTemporaryError, and these two are never mixed up. RFC 5782 §2.1, §2.4: how DNS lists are asked for an address.
RFC 8601 §3: forward-confirmed reverse DNS.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Protocol, TypeVar

from gatepost.errors import DNSError, DNSTemporaryError
from gatepost.ip import IPAddress, ip_of, reverse_labels, reverse_pointer

T = TypeVar("T")

MAX_NAMES = 5
"""Names of an address that are looked at; whoever owns the reverse zone may list thousands."""


class Resolver(Protocol):
    """What a plugin gets when its constructor asks for ``dns``. A fake needs ``query`` only, if it subclasses this."""

    async def query(self, name: str, kind: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Return the records of ``kind`` at ``name``; empty when there are none (NXDOMAIN, NODATA).

        ``kind`` is "A", "AAAA", "PTR", "TXT", "MX", "NS" and so on; ``timeout`` is in seconds, over all retries and
        servers, and is the service's own when None. Addresses come as text, names in lower case without the last dot,
        MX as "10 mx.example.org" ("0 ." where mail is unwelcome, RFC 7505), TXT with its strings joined and all that
        is not printable ASCII as \\DDD, everything else as RFC 1035 §5.1 writes it.

        Raises DNSTemporaryError when nobody knows (SERVFAIL, REFUSED, no answer in time), DNSError when ``name`` or
        ``kind`` can never be asked for.
        """
        ...

    def known(self, name: str, kind: str) -> tuple[str, ...] | None:
        """Return what ``query`` would give at once and without asking anybody, or None when it would have to ask."""
        return None

    async def reverse(self, address: str) -> tuple[str, ...]:
        """Return the names that the PTR records of an IPv4 or IPv6 ``address`` give. Raises as ``query`` does."""
        return await self.query(reverse_pointer(_client(address)), "PTR")

    async def verified_name(self, address: str) -> str | None:
        """Return the first name of ``address`` whose own A or AAAA records hold it; None when there is none.

        The first five names are looked at. Raises DNSTemporaryError when one of them could not be looked up and no
        other was confirmed (RFC 8601 §2.7.3, "temperror"), DNSError when ``address`` is none.
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
                continue  # a PTR record may hold any octets, also what is no name
        if unknown is not None:
            raise unknown
        return None


def reversed_address(address: str) -> str:
    """Return what stands before the zone of a DNS list: 127.0.0.2 is "2.0.0.127", IPv6 its 32 nibbles with dots.

    An IPv4 address inside IPv6 (``::ffff:127.0.0.2``) stays IPv6, as the test entries of lists are (RFC 5782 §2.1,
    §2.4, §5). Raises DNSError when ``address`` is none.
    """
    return _of(reverse_labels, address)


def _parse(address: str) -> IPAddress:
    return _of(ip_of, address)


def _of(function: Callable[[str], T], address: str) -> T:
    """What ``function`` makes of an address without its zone. Raises DNSError when it is none."""
    try:
        return function(address.partition("%")[0] if "%" in address else address)
    except ValueError as error:
        raise DNSError(f"{address!r} is not an IP address") from error


def _client(address: str) -> str:
    """The address to look up; a client that came over a socket for both families is an IPv4 client."""
    parsed = _parse(address)
    return address.partition("%")[0] if isinstance(parsed, IPv4Address) else str(parsed.ipv4_mapped or parsed)
