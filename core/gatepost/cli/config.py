"""``gatepost config``: the merged configuration with the origin of each value, and the schema for editors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatepost.cli.printing import config_option, find_config, json_option, print_json, say

if TYPE_CHECKING:
    from gatepost.config import Entry, KeyPath, Known


@click.group("config", short_help="Show the merged configuration; print its JSON schema.")
def command() -> None:
    """Show the merged configuration, or the schema that a configuration follows."""


@command.command("show")
@config_option
@json_option
@click.option("--defaults", is_flag=True, help="Show also the keys that are not written, with their defaults.")
def show(path: Path | None, as_json: bool, defaults: bool) -> None:
    """Show each value of the configuration with its origin (file and line, or variable), as TOML.

    Drop-ins and GATEPOST__ variables override the file. Secrets are hidden, and so is every option that its plugin
    does not describe, since it may be a misspelt secret.
    """
    from gatepost.config import entries, survey_config
    from gatepost.errors import ConfigError
    from gatepost.options import dotted_key
    from gatepost.plugins import find_plugins, options_of

    config, mistakes = survey_config(find_config(path), os.environ)
    if config is None:
        raise ConfigError(mistakes)
    plugins, broken = find_plugins(config, config.plugin_tables)
    models = {name: options_of(found.plugin) for name, found in plugins.items()}
    shown = list(entries(config, models, with_defaults=defaults))
    if as_json:
        print_json([{"key": dotted_key(entry.path), "value": entry.value, "origin": entry.origin} for entry in shown])
    else:
        for line in _toml_lines(shown):
            click.echo(_printable(line))
    for mistake in broken:
        say(f"hidden: {mistake.key}: {mistake.message}", err=True)
    if mistakes:
        say(f"The configuration has mistakes ({len(mistakes)}): gatepost check names them.", err=True)


@command.command("schema")
@config_option
def schema(path: Path | None) -> None:
    """Print the JSON schema (draft-07) of the configuration, with which an editor completes and checks it.

    The schema covers the core, all installed plugins and the plugins that the configuration names. Save it beside the
    configuration, and refer to it in the first line there: #:schema ./gatepost.schema.json
    """
    from gatepost.config import Config, configuration_schema, survey_config
    from gatepost.plugins import find_plugins, installed, pins

    config, offers = survey_config(find_config(path), os.environ)[0] or Config(), installed()
    plugins, broken = find_plugins(config, {*config.plugin_tables, *(offer.name for offer in offers)})
    known = {name: _known(plugins[name].plugin) for name in sorted(plugins)}
    made_of = ", ".join(f"{pin.package} {pin.version}" for pin in pins(offer.package for offer in offers))
    print_json(configuration_schema(known, f'Made by "gatepost config schema" from {made_of}.'))
    for mistake in broken:
        say(f"left out: {mistake.message}", err=True)


def _known(plugin: Any) -> Known:
    """Return the part of the schema about a plugin: its options, and the first paragraph of its page."""
    from gatepost.cli.plugins.show import documentation
    from gatepost.config import Known
    from gatepost.plugins import options_of

    summary = documentation(plugin).partition("\n\n")[0].replace("\n", " ")
    return Known(options_of(plugin), summary)


def _toml_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the entries as tables of TOML, the keys outside tables first, each with its origin as a comment."""
    from gatepost.options import dotted_key, toml_value

    tables: dict[KeyPath, list[Entry]] = {(): []}
    for entry in entries:
        tables.setdefault(entry.path if entry.value == {} else entry.path[:-1], []).append(entry)
    for path, inside in tables.items():
        if path:
            # An empty table has an entry of its own, whose origin stands behind its name.
            yield ""
            yield f"[{dotted_key(path)}]" + "".join(f"  # {each.origin}" for each in inside if each.path == path)
        for entry in inside:
            key = dotted_key(entry.path[-1:])
            if entry.value is None:
                yield f"# {key} =  # {entry.origin}"
            elif entry.path != path:
                yield f"{key} = {toml_value(entry.value)}  # {entry.origin}"


def _printable(line: str) -> str:
    """Return ``line`` with control characters as TOML escapes them.

    They can only be in a quoted string, where the escape means the same, or in a comment.
    """
    return "".join(
        each if each.isprintable() else f"\\u{ord(each):04x}" if ord(each) < 0x10000 else f"\\U{ord(each):08x}"
        for each in line
    )
