"""Domains, mailboxes and patterns of them in options.

``Domain`` and ``Mailbox`` are exactly one domain or mailbox. ``DomainPattern`` and ``MailboxPattern`` also match all
domains below one (``.example.com``). Everything is compared as A-labels and without case: RFC 5321 §2.4 lets local
parts differ by case, but nobody gives ``Bob`` and ``bob`` to two people.

The zone of a DNS list is none of these, because it leaves room for a reversed address (see ``connection.dnsbl``).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, PlainSerializer, PlainValidator, WithJsonSchema

from gatepost import Address, AddressError


def parse_domain(value: object) -> str:
    """Return a domain, or an address literal such as ``[192.0.2.1]``, in the form in which addresses have it."""
    try:
        return Address.parse(f"postmaster@{value}").domain
    except AddressError:
        raise ValueError(f'expected a domain such as "example.org", found "{value}"') from None


def parse_mailbox(value: object) -> Address:
    """Return a mailbox with its local part in lower case."""
    if isinstance(value, Address):
        return _without_case(value)
    try:
        address = Address.parse(str(value))
    except AddressError as error:
        raise ValueError(f'expected a mailbox such as "bob@example.org", found "{value}": {error}') from None
    if not address.domain:
        raise ValueError(f'"{value}" has no domain; the bare postmaster is a matter of the option postmaster')
    return _without_case(address)


def _without_case(address: Address) -> Address:
    return Address(address.local.lower(), address.domain)


def _parse_domain_pattern(text: str) -> str:
    dot, name = ("." if text.startswith(".") else ""), text.removeprefix(".").removesuffix(".")
    try:
        return dot + Address.parse(f"postmaster@{name}").domain
    except AddressError:
        raise ValueError("expected a domain such as example.com, or .example.com for all below it") from None


def _parse_mailbox_pattern(text: str) -> str:
    if "@" not in text and text != "<>":
        return _parse_domain_pattern(text)
    try:
        return _comparable(Address.parse(text))
    except AddressError as error:
        raise ValueError(f"expected an address, a domain or <>: {error}") from None


def _comparable(address: Address) -> str:
    # Written anew: what came as a..b is the same mailbox as "a..b".
    return "<>" if address.is_null else str(Address(address.local, address.domain)).casefold()


def matches_domain(pattern: str, domain: str) -> bool:
    """Return True when ``domain``, in lower case, matches a ``DomainPattern``."""
    return domain.endswith(pattern) if pattern.startswith(".") else domain == pattern


def matches_address(pattern: str, address: Address) -> bool:
    """Return True when ``address`` matches a ``MailboxPattern``."""
    if "@" in pattern or pattern == "<>":
        # Most addresses have another domain; to find that out is faster than to write the address.
        return pattern.endswith(address.domain) and _comparable(address) == pattern
    return matches_domain(pattern, address.domain)


Domain = Annotated[str, AfterValidator(parse_domain), WithJsonSchema({"type": "string", "x-kind": "domain"})]
"""A domain or an address literal."""

Mailbox = Annotated[
    Address,
    PlainValidator(parse_mailbox),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "x-kind": "mailbox"}),
]
"""A mailbox with a domain."""

DomainPattern = Annotated[str, AfterValidator(_parse_domain_pattern)]
"""A domain, or ``.example.com`` for all domains below it (not itself)."""

MailboxPattern = Annotated[str, AfterValidator(_parse_mailbox_pattern)]
"""An address, a ``DomainPattern`` for all addresses there, or ``<>`` for the null reverse-path."""
