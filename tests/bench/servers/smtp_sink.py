"""smtp-sink, Postfix's test server in C: one process, takes mail for anybody and throws it away.

The nearest thing to a floor: it looks at nothing but the verbs. smtp-sink(1).
"""

from __future__ import annotations

import functools
import os
import subprocess

from tests.bench.servers.running import (
    HOST,
    HOSTNAME,
    LOAD_CORE,
    Command,
    Place,
    Server,
    await_listener,
    not_installed,
    program,
    started,
)
from tests.peers.ports import reserved_port


def smtp_sink() -> Server:
    """The server."""
    return Server("smtp-sink", lambda place: _command(place.port), version, missing)


def beside(place: Place) -> str:
    """Run one on the other core, as long as the server of this place runs, and say where: ``127.0.0.1:2526``."""
    port, log = place.beside.enter_context(reserved_port()), place.folder / "sink.log"
    await_listener(place.beside.enter_context(started(_command(port), log, LOAD_CORE)), port, log)
    return f"{HOST}:{port}"


def missing() -> str | None:
    """Say why it cannot run here, or None."""
    return not_installed("smtp-sink", "postfix")


@functools.cache
def version() -> str:
    """Postfix's version."""
    found = subprocess.run(["postconf", "-dh", "mail_version"], capture_output=True, text=True, check=True)
    return f"smtp-sink of Postfix {found.stdout.strip()}"


def _command(port: int) -> Command:
    # As root it wants to become somebody else; anybody else may not.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    return Command([program("smtp-sink"), *user, "-h", HOSTNAME, "-m", "20000", f"inet:{HOST}:{port}", "4096"])
