"""A real Postfix behind ``forward``: what a client does on a connection costs neither it nor the next one a message."""

from __future__ import annotations

import asyncio

from tests.end_to_end.client import connected, message
from tests.end_to_end.conftest import StartGate
from tests.peers.postfix import DOMAIN, UNKNOWN, Postfix

INBOX = f"inbox@{DOMAIN}"
POLICY = """
[limits]
refusals = 100
[plugins]
order = ["recipients", "forward"]
[plugins.recipients]
domains = ["{domain}"]
[plugins.forward]
to = "smtp://127.0.0.1:{port}"
"""


def connections(postfix: Postfix) -> int:
    """Count the connections that gatepost has made, by Postfix's log; the first one only asked whether it answers."""
    return postfix.log.read_text().count(": connect from ")


async def test_nineteen_unknown_recipients_of_one_client_do_not_slow_the_next_one_down(
    start_gate: StartGate, postfix: Postfix
) -> None:
    gate = start_gate(POLICY.format(domain=DOMAIN, port=postfix.port))
    async with connected(gate.port) as guessing:
        await guessing.greet()
        replies = await guessing.envelope([UNKNOWN] * 19 + [INBOX])
        assert [reply[:9] for reply in replies] == [b"550 5.1.1"] * 19 + [b"250 2.1.5"]
        await guessing.say("RSET")
    before = connections(postfix)
    async with connected(gate.port) as client:
        await client.greet()
        assert (await client.transaction(INBOX, message("<b@example.org>"))).startswith(b"250 2.0.0")
    assert connections(postfix) == before + 1  # not the connection on which Postfix has begun to delay its answers
    await asyncio.to_thread(gate.stop)
    postfix.deliver()
    assert postfix.messages() == ["<b@example.org>"]


async def test_more_errors_than_postfix_bears_cost_no_recipient(start_gate: StartGate, postfix: Postfix) -> None:
    """After 20 errors Postfix hangs up with 421, in the midst of a transaction that has a recipient already."""
    gate = start_gate(POLICY.format(domain=DOMAIN, port=postfix.port))
    async with connected(gate.port) as client:
        await client.greet()
        replies = await client.envelope([INBOX, *[UNKNOWN] * 22])
        assert [reply[:9] for reply in replies] == [b"250 2.1.5"] + [b"550 5.1.1"] * 22
        assert (await client.content(message("<c@example.org>"))).startswith(b"250 2.0.0")
    await asyncio.to_thread(gate.stop)
    postfix.deliver()
    assert postfix.messages() == ["<c@example.org>"]


async def test_connections_to_postfix_retire(start_gate: StartGate, postfix: Postfix) -> None:
    gate = start_gate(POLICY.format(domain=DOMAIN, port=postfix.port))
    identifiers = [f"<{number}@example.org>" for number in range(21)]
    before = connections(postfix)
    async with connected(gate.port) as client:
        await client.greet()
        for identifier in identifiers:
            assert (await client.transaction(INBOX, message(identifier))).startswith(b"250 2.0.0")
    await asyncio.to_thread(gate.stop)
    assert connections(postfix) - before <= 3
    postfix.deliver()
    assert sorted(postfix.messages()) == sorted(identifiers)
