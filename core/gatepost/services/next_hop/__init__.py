"""The next hop: a client of the mail server behind the gate, over SMTP or LMTP."""

from gatepost.services.next_hop.client import Delivery, NextHop, Tls
from gatepost.services.next_hop.connection import SmtpConnection
from gatepost.services.next_hop.service import NextHops
from gatepost.services.next_hop.syntax import Answer, Target

__all__ = [
    "Answer",
    "Delivery",
    "NextHop",
    "NextHops",
    "SmtpConnection",
    "Target",
    "Tls",
]
