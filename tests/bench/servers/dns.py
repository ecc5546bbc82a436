"""The DNS servers that gatepost queries in the benchmark, on the other core.

``lists`` is a real rbldnsd with an empty DNS list, and with a reverse zone in which no client has a name. All its
answers are negative, and a negative answer is cached for the time in its SOA (RFC 2308 §5). So the zones control the
cache: a zone without an SOA is queried for each connection. With 95 % hits, one client in twenty is in such a zone,
whichever clients a load uses.

``slow`` answers each query after 50 ms with a negative answer that must not be cached.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.bench.clients import SECOND_OCTETS
from tests.bench.servers.running import HOST, Place
from tests.peers import rbldnsd

ZONE = "bl.test"
KEPT = "$SOA 86400 ns.test hostmaster.test 1 2 3 4 86400\n"
SLOW = Path(__file__).with_name("slow_name_server.py")

missing = rbldnsd.missing


def lists(place: Place, hits: int) -> str:
    """Run rbldnsd and return its address. The answers about ``hits`` of 100 clients, 0 or 95, can be cached."""
    soa = KEPT if hits else ""
    zones = {
        ZONE: {kind: soa + text for kind, text in rbldnsd.TEST_POINTS.items()},
        "in-addr.arpa": {"dnset": f"{soa}nobody.in-addr.arpa :127.0.0.2:\n"},
    }
    if hits:
        for octet in SECOND_OCTETS[:: 100 // (100 - hits)]:
            zones[f"{octet}.127.{ZONE}"] = {"ip4trie": "192.0.2.1 :127.0.0.2:\n"}
            zones[f"{octet}.127.in-addr.arpa"] = {"dnset": "nobody.in-addr.arpa :127.0.0.2:\n"}
    server = place.beside.enter_context(rbldnsd.Rbldnsd(zones))
    return server.servers[0]


def slow(place: Place) -> str:
    """Run the slow name server and return its address."""
    process = subprocess.Popen([sys.executable, SLOW], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    place.beside.callback(process.wait)
    place.beside.callback(process.kill)
    assert process.stdout is not None
    with process.stdout as told:
        return f"{HOST}:{int(told.readline())}"
