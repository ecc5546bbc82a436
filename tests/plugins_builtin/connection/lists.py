"""What the tests of dnsbl share: a policy with dnsbl in it, and DNS lists that answer as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from gatepost import DNSTemporaryError
from gatepost.composition import Score
from gatepost.plugins import make_gate
from gatepost.services.dns import reversed_address
from gatepost_builtin.connection.dnsbl import Dnsbl, DnsblOptions
from tests.policy import Client, Policy, delivering, instance, vouching

BL = "bl.example.net"
OTHER = "other.example.com"
WHITE = "white.example.org"
CLIENT = "192.0.2.99"
SILENT = DNSTemporaryError("SERVFAIL")


class Lines:
    """A log that keeps what it was told, as (level, event, facts)."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, dict[str, object]]] = []

    def info(self, event: str, **facts: object) -> None:
        self.told.append(("info", event, facts))

    def warning(self, event: str, **facts: object) -> None:
        self.told.append(("warning", event, facts))

    def error(self, event: str, **facts: object) -> None:
        self.told.append(("error", event, facts))

    def warnings(self) -> list[tuple[object, str]]:
        """The warnings as (zone, event)."""
        return [(facts["zone"], event) for level, event, facts in self.told if level == "warning"]


class Hours:
    """A server whose hours pass when a test says so."""

    hostname = "mx.example.org"

    def __init__(self) -> None:
        self.jobs: list[tuple[float, Callable[[], Coroutine[Any, Any, None]]]] = []

    def every(self, seconds: float, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.jobs.append((seconds, job))

    async def pass_one(self) -> None:
        for _, job in self.jobs:
            await job()


class Lists:
    """A policy with dnsbl in it, and the lists that it asks."""

    def __init__(
        self, zones: Any = None, *, others: tuple[Any, ...] = (), score: Score | None = None, **options: Any
    ) -> None:
        self.policy = Policy()
        self.log = Lines()
        self.server = Hours()
        self.plugin = Dnsbl(DnsblOptions(zones=zones or {BL: 1}, **options), self.policy.dns, self.log)
        before = [instance(other, f"before{number}") for number, other in enumerate(others)]
        after = [instance(self.plugin, "dnsbl"), instance(vouching(), "vouching"), instance(delivering(), "delivering")]
        self.policy.gate = make_gate([*before, *after], self.policy.clock, self.policy.events, score=score)

    def list(self, *answers: str, zone: str = BL, client: str = CLIENT, txt: str = "") -> None:
        """Let ``zone`` answer so about ``client``."""
        name = f"{reversed_address(client)}.{zone}"
        self.policy.dns.answers[name, "A"] = answers or ("127.0.0.2",)
        if txt:
            self.policy.dns.answers[name, "TXT"] = (txt,)

    def silence(self, zone: str = BL, client: str = CLIENT, kind: str = "A") -> None:
        """Let ``zone`` fail when it is asked about ``client``."""
        self.policy.dns.answers[f"{reversed_address(client)}.{zone}", kind] = SILENT

    def healthy(self, *zones: str) -> None:
        """Give ``zones`` the test points of a living list (RFC 5782 §5)."""
        for zone in zones or (BL,):
            self.list(zone=zone, client="127.0.0.2")
            self.list(zone=zone, client="::ffff:7f00:2")

    def asked(self, kind: str = "A") -> set[str]:
        """The names that were asked for."""
        return {name for name, asked in self.policy.dns.asked if asked == kind}

    async def start(self) -> None:
        """Run startup, with the clock moving."""
        work = asyncio.ensure_future(self.plugin.startup(self.server))
        while not work.done():
            await self.policy.clock.jump()
        await work

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
        """What dnsbl says at RCPT, as the record has it."""
        made = await self.connect(client)
        await made.rcpt()
        assert made.session.envelope is not None
        rulings = made.session.envelope.rulings
        return [str(said) for ruling in rulings for said in ruling.said if said.plugin == "dnsbl" and said.answer]
