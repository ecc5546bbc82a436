"""The test kit for plugin authors: a policy of plugins, clients that talk to it, and scripted services.

    async def test_refuses_a_listed_domain(policy):
        gate = policy(Blocklist(BlocklistOptions(domains={"bad.example"})))
        session = await gate.connect("192.0.2.1")
        await session.ehlo()
        await session.mail("x@bad.example")
        reply = await session.rcpt("b@example.org")
        assert (reply.code, reply.status) == (550, "5.7.1")

``policy`` is a pytest fixture: ``pip install gatepost[test]`` installs pytest and pytest-asyncio, and pytest finds the
kit by itself. Without pytest, use ``Policy``. Nothing here uses the network, and time is virtual.
"""

from gatepost.errors import ConfigError
from gatepost.testing.client import MESSAGE, Client
from gatepost.testing.clock import TestClock
from gatepost.testing.dialogue import Dialogue, DialogueSyntaxError, DifferenceError
from gatepost.testing.dns import ScriptedDNS, UnscriptedQuestionError
from gatepost.testing.loading import instance
from gatepost.testing.next_hop import Connection, Delivered, Peer, ScriptedNextHops
from gatepost.testing.policy import Policy
from gatepost.testing.recording import Event, Events
from gatepost.testing.reply import Reply
from gatepost.testing.server import Server, Wire
from gatepost.testing.stand_ins import saying
from gatepost.testing.store import MemoryStore

__all__ = [
    "MESSAGE",
    "Client",
    "ConfigError",
    "Connection",
    "Delivered",
    "Dialogue",
    "DialogueSyntaxError",
    "DifferenceError",
    "Event",
    "Events",
    "MemoryStore",
    "Peer",
    "Policy",
    "Reply",
    "ScriptedDNS",
    "ScriptedNextHops",
    "Server",
    "TestClock",
    "UnscriptedQuestionError",
    "Wire",
    "instance",
    "saying",
]
