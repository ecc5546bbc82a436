"""Clients from loopback addresses that a real rbldnsd lists, does not list, or answers with an error.

No client uses 127.0.0.1, 127.0.0.2 or ::ffff:7f00:1, since these are the test points of RFC 5782 §5.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping

from tests.end_to_end.client import connected, message
from tests.end_to_end.conftest import StartGate
from tests.end_to_end.gate import Gate
from tests.peers.rbldnsd import BLOCKED, EVERYTHING, Rbldnsd

POLICY = """
[dns]
servers = {servers}
timeout = "2s"
[plugins]
order = ["dnsbl", "recipients", "discard"]
[plugins.recipients]
domains = ["example.test"]
[plugins.dnsbl]
ask_private = true
query_timeout = "2s"
defer_at = 1
deny_at = 2
[plugins.dnsbl.zones]
"bad.test" = {{ points = 2, text = "{{ip}}: {{txt}}" }}
"odd.test" = {{ points = 1, answers = ["127.0.0.4"] }}
"good.test" = -2
"blocked.test" = 2
"all.test" = 2
"gone.test" = 2
"""
FOUR, SIX = "127.0.0.2 :127.0.0.2:test\n", "::ffff:7f00:2 :127.0.0.2:test\n"
ZONES = {
    "bad.test": {
        "ip4trie": FOUR + "127.0.0.9 :127.0.0.3:seen here, see $\n127.0.0.12 :127.0.0.3:seen\n",
        "ip6trie": SIX + "::1 :127.0.0.3:seen here, see $\n",
    },
    "odd.test": {"ip4trie": FOUR + "127.0.0.10 :127.0.0.4:odd\n127.0.0.11 :127.0.0.5:odd\n", "ip6trie": SIX},
    "good.test": {"ip4trie": FOUR + "127.0.0.12 :127.0.0.2:good\n", "ip6trie": SIX},
    "blocked.test": BLOCKED,
    "all.test": EVERYTHING,
}

StartRbldnsd = Callable[[Mapping[str, Mapping[str, str]]], Rbldnsd]


async def verdict(gate: Gate, client: str) -> bytes:
    """Return the reply to RCPT for a client from this address, which sends a message after a 250."""
    is_ipv6 = ":" in client
    host, port = next((host, port) for host, port in gate.listening if (":" in host) is is_ipv6)
    async with connected(port, source=client, host=host) as wire:
        await wire.greet()
        (reply,) = await wire.envelope(["b@example.test"])
        if reply.startswith(b"250"):
            assert (await wire.content(message("<x@example.org>"))).startswith(b"250 2.0.0")
    return reply


async def test_clients_get_what_the_lists_say(start_gate: StartGate, start_rbldnsd: StartRbldnsd) -> None:
    lists = start_rbldnsd(ZONES)
    hosts = ["127.0.0.1:0", "[::1]:0"][: len(lists.hosts)]
    gate = start_gate(POLICY.format(servers=json.dumps(lists.servers)), hosts)

    assert (await verdict(gate, "127.0.0.9")).startswith(b"550 5.7.1 127.0.0.9: seen here, see 127.0.0.9 [")
    assert (await verdict(gate, "127.0.0.10")).startswith(b"450 4.7.1 127.0.0.10 is listed by odd.test [")
    assert (await verdict(gate, "127.0.0.11")).startswith(b"250"), "the list answers with a code that does not count"
    assert (await verdict(gate, "127.0.0.12")).startswith(b"250"), "an allow list outweighs the listing"
    assert (await verdict(gate, "127.0.0.13")).startswith(b"250"), (
        "listed only by a list of all addresses and by an error"
    )
    if "::1" in lists.hosts:
        assert (await verdict(gate, "::1")).startswith(b"550 5.7.1 ::1: seen here, see ::1 [")


async def test_useless_lists_are_named_in_the_log(start_gate: StartGate, start_rbldnsd: StartRbldnsd) -> None:
    lists = start_rbldnsd(ZONES)
    gate = start_gate(POLICY.format(servers=json.dumps(lists.servers)))
    assert (await verdict(gate, "127.0.0.13")).startswith(b"250")
    await asyncio.to_thread(gate.stop)  # the log is written in batches, and whole when the server has ended

    assert [line["zone"] for line in gate.lines("list_off", level="warning")] == ["all.test", "all.test"]
    (refuses,) = gate.lines("list_refuses_us", level="warning")
    assert (refuses["zone"], refuses["answer"]) == ("blocked.test", "127.255.255.254")
    (unanswered,) = gate.lines("list_unanswered", client="127.0.0.13")
    assert unanswered["zone"] == "gone.test" and "REFUSED" in unanswered["error"]
    assert not gate.lines("list_empty"), "the healthy lists have their test points"


async def test_mail_passes_while_the_server_of_the_lists_is_down(
    start_gate: StartGate, start_rbldnsd: StartRbldnsd
) -> None:
    lists = start_rbldnsd({"bad.test": ZONES["bad.test"]})
    gate = start_gate(POLICY.format(servers=json.dumps(lists.servers)))
    refused = await verdict(gate, "127.0.0.9")
    assert refused.startswith(b"550")

    lists.stop()
    assert (await verdict(gate, "127.0.0.12")).startswith(b"250")
    assert (await verdict(gate, "127.0.0.9")).startswith(b"550"), "the answer about this client is still cached"
    assert gate.wait_for("list_unanswered", client="127.0.0.12", zone="bad.test")
    lists.start()


async def test_nobody_waits_for_a_list_that_has_left_five_clients_without_an_answer(
    start_gate: StartGate, start_rbldnsd: StartRbldnsd
) -> None:
    lists = start_rbldnsd({"bad.test": ZONES["bad.test"]})
    policy = POLICY.format(servers=json.dumps(lists.servers)).replace('query_timeout = "2s"', 'query_timeout = "200ms"')
    gate = start_gate(policy)
    lists.pause()
    try:
        for number in range(20, 26):
            assert (await verdict(gate, f"127.0.0.{number}")).startswith(b"250")
        assert gate.wait_for("dns_list_failing", zone="bad.test", family="IPv4")
    finally:
        lists.go_on()
    # It is asked about the last client after at most ten seconds.
    assert gate.wait_for("dns_list_back", zone="bad.test", family="IPv4")
    assert (await verdict(gate, "127.0.0.9")).startswith(b"550 5.7.1 127.0.0.9: seen here, see 127.0.0.9 [")
