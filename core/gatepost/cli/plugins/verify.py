"""``gatepost plugins verify``: run the conformance kit on one plugin, for its author and for whoever installs it."""

from __future__ import annotations

import asyncio
import inspect
import os
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatepost.cli.plugins.show import configured, found_in
from gatepost.cli.printing import config_option, json_option, print_json, print_table, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gatepost.config import Config
    from gatepost.options import Options
    from gatepost.testing.conformance import Result

GIVEN = "--options"
"""The place of a mistake in the text of this command-line option."""


@click.command("verify")
@click.argument("name")
@click.option(
    "--options",
    "given",
    metavar="TOML",
    help="The plugin's options, instead of those in the configuration: a file, or TOML text.",
)
@click.option(
    "--deliver",
    is_flag=True,
    help="Let a delivery plugin deliver the messages of the sessions with the options of the configuration.",
)
@config_option
@json_option
@click.pass_context
def verify(ctx: click.Context, name: str, given: str | None, deliver: bool, path: Path | None, as_json: bool) -> None:
    """Check that the plugin NAME does what every plugin must do, whatever its purpose.

    NAME is an installed plugin, or one of the configuration, whose options are then used. The plugin is asked in
    sessions of ordinary and of hostile clients, while DNS, store and next hop work and while they fail. These are not
    the real ones, and time is virtual. Everything else that a plugin does, such as writing files, really happens: give
    it options for a trial. A plugin that delivers by itself is not checked with the options of the configuration, which
    would deliver about a hundred messages, unless you say --deliver.

    \b
    Exit status:
      0   every check passed
      1   a check failed, or there is no such plugin
      2   it delivers by itself: --options or --deliver is needed
      78  the options are wrong
    """
    from gatepost.testing import conformance

    config = configured(path)
    found = found_in(config, name)
    if given is not None:
        config = _config_of(given, name, config)
    elif not deliver and _delivers_by_itself(found.plugin):
        raise click.UsageError(
            f"{name} delivers by itself, and its options in the configuration are those of the real place. Give it "
            "others with --options, or say --deliver"
        )
    options = _options(found.plugin, name, config)
    try:
        report = asyncio.run(conformance.check(found.plugin, options=options, name=name))
    except SystemExit as error:  # raised in a task that the plugin started: asyncio lets it end the loop
        raise click.ClickException(f"{name} ({found.origin}) ends the process: SystemExit: {error}") from None
    if as_json:
        checks = [result.facts() for result in report.results]
        print_json({"name": name, "origin": found.origin, "passed": report.passed, "checks": checks})
    else:
        print_table(("check", "result", ""), (row for result in report.results for row in _rows(result)))
        outcomes = [result.outcome.value for result in report.results]
        counted = (("fail", "failed"), ("pass", "passed"), ("skip", "skipped"))
        counts = ", ".join(f"{outcomes.count(each)} {word}" for each, word in counted if each in outcomes)
        say("")
        say(f"{report.plugin} ({found.origin}): {counts}")
    ctx.exit(0 if report.passed else 1)


def _delivers_by_itself(plugin: Any) -> bool:
    """Return True for a plugin with options that delivers, unless it does so through the scripted next hop."""
    from gatepost.plugins import declared_grants, options_of

    if "delivery" not in declared_grants(plugin) or options_of(plugin) is None:
        return False
    return not (inspect.isclass(plugin) and "next_hop" in inspect.signature(plugin).parameters)


def _options(plugin: Any, name: str, config: Config) -> Options | None:
    """Return the options that the configuration has for the plugin. Raises ``ConfigError`` if they are wrong."""
    from gatepost.config import validate_options
    from gatepost.errors import ConfigError
    from gatepost.plugins import options_of

    table = config.plugin(name)
    if model := options_of(plugin):
        return validate_options(model, table, config)
    if table.options:
        raise ConfigError([config.mistake(("plugins", name, key), "it takes no options") for key in table.options])
    return None


def _config_of(given: str, name: str, config: Config) -> Config:
    """Return a configuration with only this plugin and these options. Raises ``ConfigError`` if they are not TOML."""
    from gatepost.config import Config, Source
    from gatepost.errors import ConfigError, Mistake
    from gatepost.options import CORE_KEYS

    where, folder = GIVEN, config.folder
    try:
        if (file := Path(given)).is_file():
            where, folder = given, file.absolute().parent
            given = file.read_text(encoding="utf-8-sig")
        table = tomllib.loads(given)
    except (OSError, ValueError) as error:
        raise ConfigError([Mistake(where, 0, "", f"this is neither a file nor TOML: {error}")]) from None
    own = {key: value for key, value in table.items() if key not in CORE_KEYS}
    return Config.model_validate({"plugins": {name: own}}, context=Source(folder, os.environ, where).context())


def _rows(result: Result) -> Iterator[tuple[str, str, str]]:
    """Yield a row with the check's sentence or its first finding, and a row for each further finding."""
    first, *others = result.findings or (result.about,)
    yield result.check, result.outcome.value, first
    for other in others:
        yield "", "", other
