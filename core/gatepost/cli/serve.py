"""``gatepost serve``: run the gate in the foreground."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatepost.cli.check import examine
from gatepost.cli.printing import config_option, find_config

if TYPE_CHECKING:
    from gatepost.server.server import Server


@click.command("serve")
@config_option
def command(path: Path | None) -> None:
    """Run the gate in the foreground until SIGTERM or SIGINT.

    SIGHUP makes it read the configuration again, for new sessions. If there are mistakes, also such as only gatepost
    check finds, no socket is bound.
    """
    import asyncio

    from gatepost.errors import ConfigError
    from gatepost.server.server import run

    found = find_config(path)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the configuration is about to be read; the server handles it later
    # An open relay, or a policy that takes no mail, is no less wrong when nobody has run gatepost check.
    if errors := asyncio.run(examine(found)).errors:
        raise ConfigError(errors)
    run(found, os.environ, _announce_default if found is None else None)


def _announce_default(server: Server) -> None:
    """Print what the embedded default does and where, and what to try next."""
    from gatepost.config import SocketAddress

    (host, port), *_ = [address for addresses in server.addresses.values() for address in addresses]
    address = SocketAddress(host, port)
    domains = " and ".join(dict.fromkeys(("localhost", server.config.hostname)))
    for line in (
        "There is no configuration file, so this is a trial. Ctrl-C ends it.",
        f"It listens on {address}, makes strangers wait three seconds, accepts mail for {domains},",
        f"and delivers to {server.config.plugin('maildir').options.get('path')}",
        "In another terminal, try a polite client and a hasty one:",
        f"  swaks --server {address} --from a@example.com --to postmaster@localhost",
        f"  printf 'EHLO x\\r\\n' | nc {host} {port}",
        "Then write your own configuration: gatepost init",
    ):
        click.echo(line, err=True)
