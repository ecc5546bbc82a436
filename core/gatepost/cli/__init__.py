"""The command line: the group ``gatepost``, its exit statuses, and no imports that take time.

Each command is a module of this package and is imported when it is used. A command imports the modules that it needs
when it runs, so that ``gatepost --help`` works even when a plugin, the configuration or a library is broken.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import NamedTuple

import click

from gatepost.errors import ConfigError, GatepostError

BAD_CONFIG = 78
"""The exit status for a wrong configuration (``EX_CONFIG`` of sysexits.h)."""


class Command(NamedTuple):
    """A command, as far as ``gatepost --help`` needs to know it."""

    module: str
    summary: str


COMMANDS = {
    "serve": Command("serve", "Run the gate in the foreground until SIGTERM or SIGINT."),
    "reload": Command("reload", "Tell the running server to read its configuration and list files again."),
    "init": Command("init", "Write a commented starting configuration."),
    "check": Command("check", "Show every mistake of the configuration at once."),
    "config": Command("config", "Show the merged configuration; print its JSON schema."),
    "plugins": Command("plugins.listing", "List plugins; show, enable or disable one."),
    "try": Command("try_", "Simulate one session and show what every plugin says."),
    "explain": Command("explain", "Show which plugin decided about a message or client, and why."),
    "log": Command("log", "Search the refusals and accepted messages: list them or count them."),
}
"""The commands in the order in which they are usually needed."""


def _print_version(ctx: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    from gatepost.hookspecs import HOOKS_VERSION

    click.echo(f"gatepost {version('gatepost')} {_build()}, hooks version {HOOKS_VERSION}")
    ctx.exit()


def _build() -> str:
    """Return ``compiled`` for a compiled wheel (see docs/performance.md), else ``interpreted``."""
    found = importlib.util.find_spec("gatepost.gate.gate")
    return "compiled" if found and not str(found.origin).endswith(".py") else "interpreted"


class Gatepost(click.Group):
    """Finds commands by name, and turns errors into messages and exit statuses."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, in the order in which they are usually needed."""
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. Return None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"gatepost.cli.{COMMANDS[cmd_name].module}").command
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
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
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
