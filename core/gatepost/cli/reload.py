"""``gatepost reload``: tell the running server to read its configuration again."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gatepost.cli.printing import config_option, find_config


@click.command("reload")
@config_option
@click.option(
    "--accept-shrunk",
    is_flag=True,
    help="Believe lists of recipients that have lost more than half of their entries at once.",
)
def command(path: Path | None, accept_shrunk: bool) -> None:
    """Tell the running server to read its configuration and list files again.

    The configuration is read here first: if there are mistakes, they are printed and the server is left alone. The
    server logs `reloaded` or `reload_failed`.
    """
    from gatepost.config import load_config
    from gatepost.server import ask_to_reload

    config = load_config(find_config(path), os.environ)
    number = ask_to_reload(config.state_dir, accept_shrunk=accept_shrunk)
    click.echo(f"gatepost (process {number}) reads its configuration again; its log says with what result")
