"""Doors speak wire protocols. They know sockets and timers, and neither plugins nor policy: see ``conversation``."""
