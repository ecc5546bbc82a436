"""A real Dovecot behind gatepost, by LMTP: one full mailbox of five."""

from __future__ import annotations

import asyncio

from tests.end_to_end.client import connected, message
from tests.end_to_end.conftest import StartGate
from tests.peers.dovecot import Dovecot

POLICY = """
[plugins]
order = ["recipients", "forward"]
[plugins.recipients]
domains = ["example.test"]
[plugins.forward]
to = "{url}"
"""
EVERYBODY = [f"r{number}@example.test" for number in range(1, 6)]
FULL = EVERYBODY[2]
QUOTAS = {recipient: 10 if recipient == FULL else 1_000_000 for recipient in EVERYBODY}


async def test_one_full_mailbox_is_451_once_and_then_bounces_for_nobody_else(
    start_gate: StartGate, dovecot_of: type[Dovecot]
) -> None:
    mail = message("<full@example.org>")
    with dovecot_of(QUOTAS) as dovecot:
        gate = start_gate(POLICY.format(url=dovecot.url))
        heard = []
        for recipients in (EVERYBODY, EVERYBODY, [FULL]):
            async with connected(gate.port) as client:
                await client.greet()
                refused = [reply for reply in await client.envelope(recipients) if not reply.startswith(b"250")]
                heard.append(([reply[:9] for reply in refused], (await client.content(mail))[:9]))
        assert heard == [([], b"451 4.3.0"), ([b"452 4.5.3"], b"250 2.0.0"), ([], b"552 5.2.2")]
        assert [dovecot.count(each) for each in EVERYBODY] == [1, 1, 0, 1, 1]
        await asyncio.to_thread(gate.stop)
