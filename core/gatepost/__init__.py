"""gatepost: a mail gate. All that a plugin may import stands here; everything else is the gate's own business."""

from gatepost.address import Address
from gatepost.decisions import Action, Decision, accept, defer, deny, points
from gatepost.errors import (
    AddressError,
    DNSError,
    DNSTemporaryError,
    GatepostError,
    NextHopError,
    NextHopRefusedError,
    NextHopUnreachableError,
    PluginError,
    SpoolError,
    StoreError,
)
from gatepost.hookspecs import HOOKS_VERSION, Answer, Answers, hookimpl
from gatepost.message.message import Headers, Message
from gatepost.options import Duration, Network, Options, Secret, Size, WatchedFile
from gatepost.rulings import Receipt, Ruling, Said
from gatepost.services.clock import Clock
from gatepost.services.dns.resolver import Resolver, reversed_address
from gatepost.services.host import Log, Server
from gatepost.services.next_hop.client import Delivery, NextHop
from gatepost.services.next_hop.service import NextHops
from gatepost.services.next_hop.syntax import Answer as NextHopAnswer
from gatepost.services.next_hop.syntax import Target
from gatepost.services.store.store import Store
from gatepost.session import Envelope, Later, Session

__all__ = [
    "HOOKS_VERSION",
    "Action",
    "Address",
    "AddressError",
    "Answer",
    "Answers",
    "Clock",
    "DNSError",
    "DNSTemporaryError",
    "Decision",
    "Delivery",
    "Duration",
    "Envelope",
    "GatepostError",
    "Headers",
    "Later",
    "Log",
    "Message",
    "Network",
    "NextHop",
    "NextHopAnswer",
    "NextHopError",
    "NextHopRefusedError",
    "NextHopUnreachableError",
    "NextHops",
    "Options",
    "PluginError",
    "Receipt",
    "Resolver",
    "Ruling",
    "Said",
    "Secret",
    "Server",
    "Session",
    "Size",
    "SpoolError",
    "Store",
    "StoreError",
    "Target",
    "WatchedFile",
    "accept",
    "defer",
    "deny",
    "hookimpl",
    "points",
    "reversed_address",
]
