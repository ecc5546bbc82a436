"""smtp-sink, Postfix's test server in C: a single process that takes mail for all recipients and discards it.

It parses only the verbs of commands, so its figures are close to the least that is possible. smtp-sink(1).
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
    """Return smtp-sink."""
    return Server("smtp-sink", lambda place: _command(place.port), version, missing)


def beside(place: Place) -> str:
    """Run one on the other core while the server of this place runs. Returns its address: ``127.0.0.1:2526``."""
    port, log = place.beside.enter_context(reserved_port()), place.folder / "sink.log"
    await_listener(place.beside.enter_context(started(_command(port), log, LOAD_CORE)), port, log)
    return f"{HOST}:{port}"


def missing() -> str | None:
    """Return the reason why smtp-sink cannot run here, or None if it can."""
    return not_installed("smtp-sink", "postfix")


@functools.cache
def postfix_version() -> str:
    """Return the version of Postfix, to which smtp-sink belongs."""
    found = subprocess.run([program("postconf"), "-dh", "mail_version"], capture_output=True, text=True, check=True)
    return f"Postfix {found.stdout.strip()}"


def version() -> str:
    """Return the version of the Postfix that this smtp-sink came with."""
    return f"smtp-sink of {postfix_version()}"


def _command(port: int) -> Command:
    # Started by root, smtp-sink requires an account to run as; started by anybody else, it rejects the option.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    return Command([program("smtp-sink"), *user, "-h", HOSTNAME, "-m", "20000", f"inet:{HOST}:{port}", "4096"])
