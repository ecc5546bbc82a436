"""The command line: the group ``gatepost``, its exit statuses, and nothing that takes time to import.

Each command is a module of this package, imported when it is wanted. What a command needs is imported when it runs, so
that a plugin, a configuration or a library that is broken cannot keep ``gatepost --help`` from helping.
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
}
"""Commands in the order of their use, with their modules."""


def _build() -> str:
    """How this installation runs: ``compiled``, as docs/performance.md says, or ``interpreted``."""
    found = importlib.util.find_spec("gatepost.gate.gate")
    return "compiled" if found and not str(found.origin).endswith(".py") else "interpreted"


class Gatepost(click.Group):
    """Finds commands by name and turns errors into sentences and exit statuses."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, in the order of their use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"gatepost.cli.{COMMANDS[cmd_name]}").command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a command; a wrong configuration is status 78, any other error of ours status 1."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            from gatepost.cli.printing import print_mistakes

            print_mistakes(error.mistakes)
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
    The configuration is --config of a command, else $GATEPOST_CONFIG, ./gatepost.toml or
    /etc/gatepost/gatepost.toml, else an embedded default: a trial on 127.0.0.1:2525.

    \b
    Exit status:
      0   done
      1   refused (try), or not found, or not possible; the reason is said
      2   the command line is wrong
      78  the configuration is wrong

    \b
    Completion for bash (zsh and fish alike):
      eval "$(_GATEPOST_COMPLETE=bash_source gatepost)"
    """
