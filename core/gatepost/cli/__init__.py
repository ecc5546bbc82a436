"""The command line: the group ``gatepost``, its exit statuses, and no imports that take time.

Each command is a module of this package and is imported when it is used. A command imports the modules that it needs
when it runs, so that ``gatepost --help`` works even when a plugin, the configuration or a library is broken.
"""

from __future__ import annotations

import importlib.util

import click

from gatepost.errors import ConfigError, GatepostError
from gatepost.hookspecs import HOOKS_VERSION

BAD_CONFIG = 78
"""The exit status for a wrong configuration (``EX_CONFIG`` of sysexits.h)."""

COMMANDS = {
    "serve": "serve",
    "init": "init",
    "check": "check",
    "config": "config",
    "plugins": "plugins.listing",
    "try": "try_",
    "explain": "explain",
    "log": "log",
}
"""The commands in the order in which they are usually needed, with their modules."""


def _build() -> str:
    """Return ``compiled`` for a compiled wheel (see docs/performance.md), else ``interpreted``."""
    found = importlib.util.find_spec("gatepost.gate.gate")
    return "compiled" if found and not str(found.origin).endswith(".py") else "interpreted"


class Gatepost(click.Group):
    """Finds commands by name, and turns errors into messages and exit statuses."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order in which they are usually needed."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. Return None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"gatepost.cli.{COMMANDS[cmd_name]}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a command. The exit status is 78 for a wrong configuration and 1 for any other error of gatepost."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            from gatepost.cli.printing import say

            for mistake in error.mistakes:
                say(str(mistake), err=True)
            ctx.exit(BAD_CONFIG)
        except GatepostError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=Gatepost, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(
    package_name="gatepost",
    prog_name="gatepost",
    message=f"%(prog)s %(version)s {_build()}, hooks version {HOOKS_VERSION}",
)
def main() -> None:
    """A mail gate: an SMTP server in front of a mail server, with plugins that accept, deny or defer.

    \b
    The configuration is the file named by --config or $GATEPOST_CONFIG, else ./gatepost.toml or
    /etc/gatepost/gatepost.toml, else the embedded default: a trial on 127.0.0.1:2525.

    \b
    Exit status:
      0   success
      1   refused (try), not found, or not possible; a message gives the reason
      2   wrong command line
      78  wrong configuration

    \b
    Completion for bash (similar for zsh and fish):
      eval "$(_GATEPOST_COMPLETE=bash_source gatepost)"
    """
