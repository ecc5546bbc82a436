"""Helpers that the tests of dnsbl share: a policy with dnsbl in it, and DNS lists that answer as a test says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatepost import reversed_address
from gatepost.testing import Client, Policy, instance
from gatepost_builtin.connection.dnsbl import Dnsbl

BL = "bl.example.net"
OTHER = "other.example.com"
WHITE = "white.example.org"
CLIENT = "192.0.2.99"


class Lists:
    """A policy with dnsbl in it, and the lists that it asks. The test points are asked by ``start`` only."""

    def __init__(
        self,
        zones: Any = None,
        *,
        others: tuple[Any, ...] = (),
        score: Mapping[str, float] | None = None,
        failures: Any = "fail",
        **options: Any,
    ) -> None:
        own = instance(Dnsbl, "dnsbl", zones=zones or {BL: 1}, **options)
        self.policy = Policy(*others, own, score=score, dns="lenient", startup=False, failures=failures)

    @property
    def told(self) -> list[tuple[str, str]]:
        """The log of dnsbl, as (level, event)."""
        return [(line.level, line.name) for line in self.policy.log]

    @property
    def warnings(self) -> list[tuple[object, str]]:
        """Its warnings as (zone, event)."""
        return [(line.facts["zone"], line.name) for line in self.policy.log.warnings]

    def list(self, *answers: str, zone: str = BL, client: str = CLIENT, txt: str = "") -> None:
        """Let ``zone`` answer so about ``client``."""
        name = f"{reversed_address(client)}.{zone}"
        self.policy.dns.answer(name, "A", *(answers or ("127.0.0.2",)))
        if txt:
            self.policy.dns.answer(name, "TXT", txt)

    def silence(self, zone: str = BL, client: str = CLIENT, kind: str = "A") -> None:
        """Let ``zone`` fail when it is asked about ``client``."""
        self.policy.dns.servfail(f"{reversed_address(client)}.{zone}", kind)

    def slow(self, seconds: float, zone: str = BL, client: str = CLIENT) -> None:
        """Let ``zone`` take so long about ``client``."""
        self.policy.dns.delay(f"{reversed_address(client)}.{zone}", seconds, "A")

    def healthy(self, *zones: str) -> None:
        """Give ``zones`` the test points of a living list (RFC 5782 §5)."""
        for zone in zones or (BL,):
            self.list(zone=zone, client="127.0.0.2")
            self.list(zone=zone, client="::ffff:7f00:2")

    def asked(self, kind: str = "A") -> set[str]:
        """The names that were asked for."""
        return {name for name, asked in self.policy.dns.asked if asked == kind}

    async def start(self) -> None:
        """Run startup."""
        await self.policy.start()

    async def an_hour_later(self) -> None:
        """Let an hour pass, with what is repeated in it."""
        await self.policy.clock.advance("1h")

    async def connect(self, client: str = CLIENT) -> Client:
        """A client that stands before RCPT."""
        made = await self.policy.connect(client)
        await made.ehlo()
        await made.mail()
        return made

    async def ask(self, client: str = CLIENT) -> str:
        """The reply to RCPT."""
        return str((await (await self.connect(client)).rcpt()).wire.decode())

    async def said(self, client: str = CLIENT) -> list[str]:
        """Return the answers of dnsbl at RCPT, as in the record."""
        made = await self.connect(client)
        await made.rcpt()
        assert made.session.envelope is not None
        rulings = made.session.envelope._rulings
        return [str(said) for ruling in rulings for said in ruling.said if said.plugin == "dnsbl" and said.answer]
