"""``gatepost plugins show``: one plugin's page: what it is for, its options, its phases."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatepost.cli.printing import config_option, find_config, json_option, print_json, print_table, say

if TYPE_CHECKING:
    from gatepost.config import Config


@click.command("show")
@click.argument("name")
@config_option
@json_option
def show(name: str, path: Path | None, as_json: bool) -> None:
    """Show the page of the plugin NAME: who made it, documentation, options, phases.

    NAME is an installed plugin, or one of the configuration.
    """
    plugin, origin = found_in(configured(path), name)
    facts = {"name": name, "origin": origin, **_imprint(origin), **page_of(plugin)}
    if as_json:
        print_json(facts)
        return
    say(f"{name} ({origin})")
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
        rows = facts[title]
        assert isinstance(rows, list)
        say("")
        print_table((title, *columns[1:]), [[row[column] for column in columns] for row in rows])


def page_of(plugin: Any) -> dict[str, Any]:
    """What there is to say of a plugin's class or module, as plain values."""
    from gatepost.hookspecs import PHASES, Hookspecs
    from gatepost.options import describe
    from gatepost.plugins import hooks_of

    hooks = sorted((PHASES.index(phase), phase, function) for phase, function in hooks_of(plugin) if phase in PHASES)
    options = getattr(plugin, "Options", None)
    grants = getattr(plugin, "grants", ())
    return {
        "doc": documentation(plugin),
        "grants": grants if isinstance(grants, str) else ", ".join(grants),
        "on_error": getattr(plugin, "on_error", "defer"),
        "skip_trusted": bool(getattr(plugin, "skip_trusted", False)),
        "options": [option._asdict() for option in describe(options)] if options else [],
        "phases": [
            {
                "phase": phase,
                "how": _how(function),
                "doc": (inspect.getdoc(getattr(Hookspecs, phase)) or "").split(". ")[0].replace("\n", " "),
            }
            for _, phase, function in hooks
        ],
    }


def documentation(plugin: Any) -> str:
    """The module's docstring, which is the plugin's page in the manual; else that of the class."""
    # A local file is in no table of modules; its functions know it all the same.
    own = next((each for each in vars(plugin).values() if inspect.isfunction(each)), None)
    page = own.__globals__["__doc__"] if own is not None and not inspect.ismodule(plugin) else None
    return inspect.cleandoc(page or plugin.__doc__ or "")


def _how(function: Any) -> str:
    marks = function.gatepost_impl
    if marks["ahead"] or marks["blocking"]:
        return "ahead" if marks["ahead"] else "blocking"
    return "async" if inspect.iscoroutinefunction(function) else "plain"


def _imprint(origin: str) -> dict[str, str]:
    """Who answers for it: what its package says, which a local file has not."""
    from gatepost.plugins import imprint

    package = "" if origin.endswith(".py") else origin.rpartition(" ")[0]
    return imprint(package)._asdict()


def configured(path: Path | None) -> Config:
    """What the configuration says, as far as it can be read; else one that says nothing."""
    from gatepost.config import Config, survey_config

    config, _ = survey_config(find_config(path), os.environ)
    return config or Config()


def found_in(config: Config, name: str) -> tuple[Any, str]:
    """The class or module that is meant, and where it comes from. What the configuration says comes first.

    Raises ``click.ClickException`` when there is none, or none that can be had.
    """
    from gatepost.plugins import find_plugins, installed

    if name not in config.plugin_tables and name not in {offer.name for offer in installed()}:
        raise click.ClickException(f"there is no plugin {name}: gatepost plugins lists what there is")
    found, mistakes = find_plugins(config, [name])
    if mistakes:
        raise click.ClickException("; ".join(mistake.message for mistake in mistakes))
    return found[name]
