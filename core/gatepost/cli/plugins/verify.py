"""``gatepost plugins verify``: one plugin through the conformance kit, for who installs it and for its author."""

from __future__ import annotations

import asyncio
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
    from gatepost.testing.conformance import Report, Result

GIVEN = "--options"
"""Where a mistake is that stands in the option of this name."""


@click.command("verify")
@click.argument("name")
@click.option(
    "--options",
    "given",
    metavar="TOML",
    help="The plugin's options, instead of those in the configuration: a file, or TOML as it stands.",
)
@config_option
@json_option
@click.pass_context
def verify(ctx: click.Context, name: str, given: str | None, path: Path | None, as_json: bool) -> None:
    """Check that the plugin NAME does what every plugin must, whatever it is for.

    NAME is an installed plugin, or one of the configuration, whose options are used then. It is asked in sessions of
    ordinary and of hostile clients, while DNS, store and next hop work and while they fail; these are not the real
    ones, and time is virtual. What a plugin does by itself, such as writing files, it does here too: give it options
    for a trial then.

    \b
    Exit status:
      0   nothing is wrong
      1   something is wrong, or there is no such plugin
      78  the options are wrong
    """
    from gatepost.testing import conformance

    config = configured(path)
    plugin, origin = found_in(config, name)
    if given is not None:
        config = _config_of(given, name, config)
    options = _options(plugin, name, config)
    try:
        report = asyncio.run(conformance.check(plugin, options=options, name=name))
    except SystemExit as error:  # from a task of the plugin's own, where nobody can catch it
        raise click.ClickException(f"{name} ({origin}) ends the process: SystemExit: {error}") from None
    if as_json:
        checks = [result.facts() for result in report.results]
        print_json({"name": name, "origin": origin, "passed": report.passed, "checks": checks})
    else:
        _print(report, origin)
    ctx.exit(0 if report.passed else 1)


def _options(plugin: Any, name: str, config: Config) -> Options | None:
    """The options that the configuration has for it. Raises ``ConfigError`` when they are wrong."""
    from gatepost.config import validate_options
    from gatepost.errors import ConfigError, Mistake
    from gatepost.options import Options

    table, model = config.plugin(name), getattr(plugin, "Options", None)
    if isinstance(model, type) and issubclass(model, Options):
        return validate_options(model, table, config)
    if table.options:
        place = config.locate(("plugins", name))
        raise ConfigError([Mistake(*place, f"plugins.{name}.{key}", "it takes no options") for key in table.options])
    return None


def _config_of(given: str, name: str, config: Config) -> Config:
    """A configuration with this plugin only, and these options. Raises ``ConfigError`` when they are no TOML."""
    from gatepost.config import Config, Source
    from gatepost.errors import ConfigError, Mistake
    from gatepost.options import CORE_KEYS

    where, folder = GIVEN, config.folder
    try:
        if (file := Path(given)).is_file():
            where, folder = given, file.absolute().parent
            given = file.read_text(encoding="utf-8")
        table = tomllib.loads(given)
    except (OSError, ValueError) as error:
        raise ConfigError([Mistake(where, 0, "", f"this is neither a file nor TOML: {error}")]) from None
    own = {key: value for key, value in table.items() if key not in CORE_KEYS}
    return Config.model_validate({"plugins": {name: own}}, context=Source(folder, os.environ, where).context())


def _print(report: Report, origin: str) -> None:
    print_table(("check", "result", ""), (row for result in report.results for row in _rows(result)))
    outcomes = [result.outcome.value for result in report.results]
    counts = ", ".join(f"{outcomes.count(each)} {word}" for each, word in _COUNTED if each in outcomes)
    say("")
    say(f"{report.plugin} ({origin}): {counts}")


_COUNTED = (("fail", "failed"), ("pass", "passed"), ("skip", "skipped"))


def _rows(result: Result) -> Iterator[tuple[str, str, str]]:
    """A row with what must hold, or with the first finding, and a row for each further one."""
    first, *others = result.findings or (result.about,)
    yield result.check, result.outcome.value, first
    for other in others:
        yield "", "", other
