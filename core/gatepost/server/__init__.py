"""The server: from a configuration to listening sockets, and an orderly stop."""

from gatepost.server.server import Server, run
from gatepost.server.system import account_of, is_loopback, listen, temporarily

__all__ = [
    "Server",
    "account_of",
    "is_loopback",
    "listen",
    "run",
    "temporarily",
]
