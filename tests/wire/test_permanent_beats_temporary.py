"""Permanent beats temporary: points for a denial, and a plugin that defers, through a real socket."""

from __future__ import annotations

import pytest

from gatepost.gate.score import Score
from gatepost.services.store.memory import MemoryBackend
from gatepost.services.virtual_clock import VirtualClock
from gatepost.testing.dns import ScriptedDNS
from gatepost_builtin.connection.dnsbl import Dnsbl, DnsblOptions
from gatepost_builtin.envelope.greylist import Greylist, GreylistOptions
from tests.door import Deaf, live
from tests.policy import Policy, instance, vouching


@pytest.mark.parametrize(
    ("points", "reply"),
    [
        (3, b"550 5.7.1 score 3: 127.0.0.1 is listed by bl.example.net (+3) ["),
        (2, b"451 4.7.1 greylisted: please try again in 300 seconds ["),
    ],
)
async def test_a_listed_client_hears_550_at_its_first_try_and_not_only_when_it_comes_back(
    points: float, reply: bytes
) -> None:
    clock = VirtualClock()
    dns = ScriptedDNS(clock, lenient=True)
    dns.answer("1.0.0.127.bl.example.net", "A", "127.0.0.2")
    lists = DnsblOptions(zones={"bl.example.net": points}, ask_private=True)
    store = MemoryBackend(clock).namespace("greylist")
    rules = Policy(
        vouching(),
        instance(Dnsbl(lists, dns, Deaf()), "dnsbl"),
        instance(Greylist(GreylistOptions(), store, clock), "greylist"),
        score=Score(2, 3),
        clock=clock,
        resolver=dns,
    )
    async with live(rules) as door:
        wire = await door.hello()
        assert (await wire.say(b"MAIL FROM:<a@example.com>")).startswith(b"250 ")
        for _ in range(2):
            assert (await wire.say(b"RCPT TO:<b@example.org>")).startswith(reply)
