"""The server: from a configuration to listening sockets, and an orderly stop.

``server`` itself is not among the names here: what asks about accounts and addresses needs none of what it imports.
"""

from gatepost.server.presence import ask_to_reload
from gatepost.server.system import account_of, is_loopback, listen, temporarily

__all__ = [
    "account_of",
    "ask_to_reload",
    "is_loopback",
    "listen",
    "temporarily",
]
