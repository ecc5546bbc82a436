"""``gatepost plugins``: the installed plugins, the enabled ones, and their order."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gatepost.cli.plugins.enable import disable, enable
from gatepost.cli.plugins.new import new
from gatepost.cli.plugins.show import show
from gatepost.cli.plugins.verify import verify
from gatepost.cli.printing import config_option, find_config, json_option, load_config, print_json, print_table, say

if TYPE_CHECKING:
    from gatepost.config import Config
    from gatepost.gate import Instance
    from gatepost.plugins import Installed


@click.group("plugins", short_help="List plugins; show, enable or disable one.", invoke_without_command=True)
@config_option
@json_option
@click.option("--order", is_flag=True, help="Show the plugins of each phase in the order in which they are asked.")
@click.option("--requirements", is_flag=True, help="Print gatepost and all packages with plugins as pip requirements.")
@click.pass_context
def command(ctx: click.Context, path: Path | None, as_json: bool, order: bool, requirements: bool) -> None:
    """List the installed plugins, and those of the configuration with their places in the order.

    A plugin does nothing until the order names it. --order needs a configuration without mistakes. pip install -r
    recreates this environment from the output of --requirements.
    """
    if ctx.invoked_subcommand is not None:
        return
    if order and requirements:
        raise click.UsageError("--order and --requirements do not go together")
    if requirements:
        _print_requirements(as_json)
    elif order:
        _print_order(load_config(path), as_json)
    else:
        _print_list(find_config(path), as_json)


command.add_command(show)
command.add_command(enable)
command.add_command(disable)
command.add_command(new)
command.add_command(verify)


@dataclass(frozen=True, slots=True)
class Row:
    """One configured plugin, or one that is only installed."""

    name: str
    package: str
    version: str
    place: str
    """Its number in the order, after the listener's name for an order of its own; "" if no order names it."""
    mode: str
    """"" if no order names it."""
    phases: tuple[str, ...]
    problem: str = ""


def _print_list(path: Path | None, as_json: bool) -> None:
    from gatepost.config import survey_config

    config, mistakes = survey_config(path, os.environ)
    rows, more = _rows(config)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        print_table(
            ("name", "package", "version", "place", "mode", "phases"),
            (
                (row.name, row.package, row.version, row.place, row.mode, row.problem or ", ".join(row.phases))
                for row in rows
            ),
        )
    if count := len(mistakes) + more:
        say(f"The configuration has mistakes ({count}): gatepost check names them.", err=True)


def _rows(config: Config | None) -> tuple[list[Row], int]:
    """Return the configured plugins in their order, then those that are only installed; and the number of mistakes."""
    from gatepost.events import NULL_RECORDER
    from gatepost.plugins import installed, survey_plugins
    from gatepost.rehearsal import offline_services

    offers = installed()
    if config is None:
        return [_installed_row(offer) for offer in offers], 0
    instances, mistakes = survey_plugins(config, offline_services(config), NULL_RECORDER)
    tables = config.plugin_tables
    ordered = [*dict.fromkeys(name for name in (*config.order, *tables))]
    rows = [_configured_row(config, name, instances.get(name), offers) for name in ordered]
    used = {table.use for table in tables.values()}
    return rows + [_installed_row(offer) for offer in offers if offer.name not in used], len(mistakes)


def _configured_row(config: Config, name: str, instance: Instance | None, offers: tuple[Installed, ...]) -> Row:
    table, place = config.plugin(name), _place(config, name)
    offered = [offer for offer in offers if offer.name == table.use]  # two packages that offer it are a mistake
    if offered and not place:
        return replace(_installed_row(offered[0]), name=name)
    package = " and ".join(offer.package for offer in offered) or (table.use if table.use.endswith(".py") else "")
    version = " and ".join(offer.version for offer in offered)
    if instance is None:
        problem = "cannot be loaded: see gatepost check" if place and table.mode != "off" else ""
        return Row(name, package, version, place, table.mode if place else "", (), problem)
    asked = instance.phases
    phases = tuple(phase for phase in _phases(instance.plugin) if asked is None or phase in asked)
    return Row(name, package, version, place, table.mode, phases)


def _place(config: Config, name: str) -> str:
    orders = {"": config.order, **{key: listener.plugins or () for key, listener in config.listeners.items()}}
    places = [(key, order.index(name) + 1) for key, order in orders.items() if name in order]
    return ", ".join(f"{key} {number}".strip() for key, number in places)


def _installed_row(offer: Installed) -> Row:
    try:
        phases, problem = _phases(offer.load()), ""
    except BaseException as error:  # a broken plugin, whatever its module raises, must not hide the others
        phases, problem = (), f"cannot be imported: {type(error).__name__}: {error}"
    return Row(offer.name, offer.package, offer.version, "", "", phases, problem)


def _phases(plugin: Any) -> tuple[str, ...]:
    from gatepost.hookspecs import PHASES
    from gatepost.plugins import hooks_of

    implemented = {phase for phase, _ in hooks_of(plugin)}
    return tuple(phase for phase in PHASES if phase in implemented)


def _print_order(config: Config, as_json: bool) -> None:
    """Print the order in each phase, read from the gates of the loaded policy."""
    from gatepost.events import NULL_RECORDER
    from gatepost.hookspecs import PHASES
    from gatepost.plugins import load_policy
    from gatepost.rehearsal import offline_services

    policy = load_policy(config, offline_services(config), NULL_RECORDER)
    orders = {
        name: {phase: gate.order(phase) for phase in PHASES if gate.order(phase)}
        for name, gate in (policy.gates or {"": policy.default}).items()
    }
    if as_json:
        print_json(orders)
        return
    rows = [
        (listener, phase, ", ".join(names)) for listener, phases in orders.items() for phase, names in phases.items()
    ]
    print_table(("listener", "phase", "asked in this order"), rows)


def _print_requirements(as_json: bool) -> None:
    """Print every distribution that offers plugins, pinned; a comment has the URL of one that is not from an index."""
    from gatepost.plugins import installed, pins

    pinned = pins(offer.package for offer in installed())
    if as_json:
        print_json([pin._asdict() for pin in pinned])
        return
    for pin in pinned:
        say(f"{pin.package}=={pin.version}" + (f"  # from {pin.came_from}" if pin.came_from else ""))
