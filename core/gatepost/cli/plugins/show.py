"""``gatepost plugins show``: the page of one plugin: its purpose, options and phases."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatepost.cli.printing import config_option, find_config, json_option, print_json, print_table, say

if TYPE_CHECKING:
    from gatepost.config import Config
    from gatepost.plugins import Found


@click.command("show")
@click.argument("name")
@config_option
@json_option
def show(name: str, path: Path | None, as_json: bool) -> None:
    """Show the page of the plugin NAME: who made it, documentation, options, phases.

    NAME is an installed plugin, or one of the configuration.
    """
    from gatepost.plugins import imprint

    found = found_in(configured(path), name)
    made_by = imprint(found.package if found.version else "")  # a local file has no package that says who made it
    facts = {"name": name, "origin": found.origin, **made_by._asdict(), **page_of(found.plugin)}
    if as_json:
        print_json(facts)
        return
    say(f"{name} ({found.origin})")
    for key in ("author", "licence", "home"):
        say(f"{key}: {facts[key] or 'not stated'}")
    say("")
    for line in str(facts["doc"]).splitlines():
        say(line)
    say("")
    say(f"grants: {facts['grants'] or 'nothing'}")
    say(f"on_error: {facts['on_error']}")
    say(f"asked about trusted clients: {'no' if facts['skip_trusted'] else 'yes'}")
    for title, columns in (("options", ("name", "type", "default", "doc")), ("phases", ("phase", "how", "doc"))):
        say("")
        print_table((title, *columns[1:]), [[row[column] for column in columns] for row in facts[title]])


def page_of(plugin: Any) -> dict[str, Any]:
    """Return the page of a plugin's class or module as plain values. Raises ``PluginError`` for a wrong declaration."""
    from gatepost.gate import kind_of
    from gatepost.hookspecs import PHASES, Hookspecs
    from gatepost.options import describe
    from gatepost.plugins import declaration_of, hooks_of

    hooks = sorted((PHASES.index(phase), phase, function) for phase, function in hooks_of(plugin) if phase in PHASES)
    declared = declaration_of(plugin)
    return {
        "doc": documentation(plugin),
        "grants": ", ".join(sorted(declared.grants)),
        "on_error": declared.on_error,
        "skip_trusted": declared.skip_trusted,
        "options": [option._asdict() for option in describe(declared.Options)] if declared.Options else [],
        "phases": [
            {
                "phase": phase,
                "how": kind_of(function, function.gatepost_impl).value,
                "doc": (inspect.getdoc(getattr(Hookspecs, phase)) or "").split(". ")[0].replace("\n", " "),
            }
            for _, phase, function in hooks
        ],
    }


def documentation(plugin: Any) -> str:
    """Return the docstring of the plugin's module, which is its page in the manual; else that of the class."""
    # A local file is not in sys.modules under its own name, but its functions have its globals.
    own = next((each for each in vars(plugin).values() if inspect.isfunction(each)), None)
    page = own.__globals__["__doc__"] if own is not None and not inspect.ismodule(plugin) else None
    return inspect.cleandoc(page or plugin.__doc__ or "")


def configured(path: Path | None) -> Config:
    """Return the configuration as far as it can be read; an empty one if it cannot."""
    from gatepost.config import Config, survey_config

    config, _ = survey_config(find_config(path), os.environ)
    return config or Config()


def found_in(config: Config, name: str) -> Found:
    """Return the plugin of this name: that of the configuration, else the installed one.

    Raises ``click.ClickException`` if there is no such plugin, or if it cannot be used.
    """
    from gatepost.plugins import find_plugins, installed

    if name not in config.plugin_tables and name not in {offer.name for offer in installed()}:
        raise click.ClickException(f"there is no plugin {name}: gatepost plugins lists what there is")
    found, mistakes = find_plugins(config, [name])
    if mistakes:
        raise click.ClickException("; ".join(mistake.message for mistake in mistakes))
    return found[name]
