"""Haraka, the closest peer: a mail server with plugins in JavaScript, in one process (``nodes=0``).

It runs the plugin that its manual recommends for taking mail for one domain, ``rcpt_to.in_host_list``, and up to three
plugins from the folder of this module: one answers the reverse look-up, so that Haraka sends no DNS queries, one takes
mail and discards it, and one holds clients before the greeting, if required. Haraka receives messages as it does with a
queue. *As run*, it logs as by default and hands messages over with its own ``queue/smtp_forward``.

``python -m tests.bench.servers.haraka`` installs it with npm into ``.bench/haraka`` in the repository's root.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

from tests.bench.clients import DOMAIN
from tests.bench.servers import smtp_sink
from tests.bench.servers.running import (
    HOST,
    HOSTNAME,
    MESSAGE_LIMIT,
    ROOT,
    SILENCE_LIMIT,
    Command,
    Place,
    Server,
    not_installed,
    program,
)

OWN = Path(__file__).parent
INSTALLED = ROOT / ".bench" / "haraka"
PACKAGE = INSTALLED / "node_modules" / "Haraka"


def haraka() -> Server:
    """Return Haraka."""
    return Server("haraka", _lay_out, version, missing, holds_clients=True)


def as_run() -> Server:
    """Return Haraka as people run it: with its default log, forwarding to an smtp-sink."""
    return Server(
        "haraka-as-run", partial(_lay_out, forwarding=True), version, lambda: missing() or smtp_sink.missing()
    )


def missing() -> str | None:
    """Return the reason why Haraka cannot run here, or None if it can."""
    if absent := not_installed("node", "nodejs npm"):
        return absent
    return None if _version_of(PACKAGE) == _wanted() else f"Haraka {_wanted()} is not installed: scripts/bench does it"


@functools.cache
def version() -> str:
    """Return the versions of Haraka and Node.js."""
    node = subprocess.run([program("node"), "--version"], capture_output=True, text=True, check=True)
    return f"Haraka {_version_of(PACKAGE)}, Node.js {node.stdout.strip().removeprefix('v')}"


def install() -> None:
    """Install Haraka with npm, unless it is installed. Raises FileNotFoundError or CalledProcessError."""
    if missing() is None:
        return
    INSTALLED.mkdir(parents=True, exist_ok=True)
    shutil.copy(OWN / "package.json", INSTALLED)
    quiet = ("--omit=optional", "--no-audit", "--no-fund", "--no-package-lock", "--loglevel=error")
    subprocess.run([program("npm"), "install", *quiet], cwd=INSTALLED, check=True)


def _wanted() -> str:
    version: str = json.loads((OWN / "package.json").read_text())["dependencies"]["Haraka"]
    return version


def _version_of(package: Path) -> str | None:
    try:
        version: str = json.loads((package / "package.json").read_text())["version"]
    except FileNotFoundError:
        return None
    return version


def _lay_out(place: Place, *, forwarding: bool = False) -> Command:
    config = place.folder / "config"
    config.mkdir()
    shutil.copytree(OWN / "plugins", place.folder / "plugins")
    plugins = ["bench_rdns", "rcpt_to.in_host_list", "queue/smtp_forward" if forwarding else "bench_queue"]
    if place.greeting_delay is not None:
        plugins.insert(0, "bench_pause")
    # Settings of this file have no defaults outside it, so it is Haraka's own, apart from the message size.
    connection = re.sub(r"(?m)^bytes=.*", f"bytes={MESSAGE_LIMIT}", (PACKAGE / "config" / "connection.ini").read_text())
    files = {
        "smtp.ini": f"listen={HOST}:{place.port}\ninactivity_timeout={SILENCE_LIMIT}\nnodes=0\n",
        "connection.ini": connection,
        "plugins": "".join(f"{plugin}\n" for plugin in plugins),
        "host_list": f"{DOMAIN}\n",
        "me": f"{HOSTNAME}\n",
        "plugin_timeout": f"{SILENCE_LIMIT}\n",
    }
    if forwarding:  # log.ini stays Haraka's own
        host, _, port = smtp_sink.beside(place).rpartition(":")
        files["smtp_forward.ini"] = f"host={host}\nport={port}\n"
    else:
        files["log.ini"] = "[main]\nlevel=crit\ntimestamps=false\n"
    for name, text in files.items():
        (config / name).write_text(text)
    environ = {"HARAKA": str(place.folder), "BENCH_PAUSE": str(place.greeting_delay)}
    return Command([program("node"), str(PACKAGE / "haraka.js")], environ)
