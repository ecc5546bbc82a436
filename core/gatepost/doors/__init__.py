"""Doors speak wire protocols. They know sockets and timers, but neither plugins nor policy: see ``conversation``."""

from gatepost.doors.listener import Connections, Listener
from gatepost.doors.pregreet import Pregreet

__all__ = [
    "Connections",
    "Listener",
    "Pregreet",
]
