"""aiosmtpd alone, the usual SMTP server library for asyncio: what gatepost adds, and what it saves.

It runs on uvloop, as gatepost does. It keeps a message in memory and passes it to its handler as a whole.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys

from tests.bench.servers.running import ROOT, Command, Place, Server, interpreter


def aiosmtpd() -> Server:
    """Return aiosmtpd with a handler that discards mail."""
    return Server("aiosmtpd", _lay_out, version, holds_clients=True)


@functools.cache
def version() -> str:
    """Return the versions of aiosmtpd, uvloop and the interpreter."""
    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("aiosmtpd", "uvloop"))
    return f"{packages}, {interpreter()}"


def _lay_out(place: Place) -> Command:
    module = "tests.bench.servers.aiosmtpd_sink"
    arguments = [sys.executable, "-m", module, str(place.port), str(place.greeting_delay or 0)]
    return Command(arguments, {"PYTHONPATH": str(ROOT)})
