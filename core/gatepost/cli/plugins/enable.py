"""``gatepost plugins enable`` and ``disable``: change the order, in a file of our own.

A person's file is never rewritten. The whole new order goes into ``gatepost.d/50-order.toml``, which is read after the
main file, and only once a configuration with it has proved to load.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatepost.cli.printing import config_option, find_config, load_config, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gatepost.config import Config
    from gatepost.plugins import Policy

OWN_FILE = Path("gatepost.d/50-order.toml")
HEAD = '# Written by "gatepost plugins enable" and "disable", which write it again. It replaces the order before it.\n'
VARIABLE = "GATEPOST__PLUGINS__ORDER"


@click.command("enable")
@click.argument("name")
@click.option("--after", metavar="NAME", help="Ask it right after this one.")
@click.option("--before", metavar="NAME", help="Ask it right before this one.")
@config_option
def enable(name: str, after: str | None, before: str | None, path: Path | None) -> None:
    """Name the plugin NAME in the order, or move it there.

    Without --after or --before a new one goes before the first that delivers, and one that delivers to the end. The
    order is written to gatepost.d/50-order.toml if a configuration with it can be loaded; your own file stays as it is.
    """
    if after and before:
        raise click.UsageError("--after and --before do not go together")
    file, config = _own(path)
    if name in config.order and not (after or before):
        say(f"{name} is enabled already: {', '.join(config.order)}")
        return
    if config.plugin(name).mode == "off":
        raise click.ClickException(f'{name} is switched off: mode = "off" at {_place(config, name, "mode")}')
    rest = [each for each in config.order if each != name]
    for neighbour in filter(None, (after, before)):
        if neighbour not in rest:
            raise click.ClickException(f"{neighbour} is not in the order: {', '.join(rest) or 'nobody is'}")
    if after:
        rest.insert(rest.index(after) + 1, name)
    elif before:
        rest.insert(rest.index(before), name)
    else:
        rest.insert(_default_place(file, rest, name), name)
    _write(file, config, rest)


@click.command("disable")
@click.argument("name")
@config_option
def disable(name: str, path: Path | None) -> None:
    """Take the plugin NAME out of the order. Its options stay."""
    file, config = _own(path)
    if name not in config.order:
        raise click.ClickException(f"{name} is not in the order: {', '.join(config.order) or 'nobody is'}")
    _write(file, config, [each for each in config.order if each != name])


def _own(path: Path | None) -> tuple[Path, Config]:
    """The configuration file, and what it says. Raises ``ClickException`` where the order is not ours to change."""
    file = find_config(path)
    if file is None:
        raise click.ClickException("there is no configuration file to go with it: gatepost init writes one")
    config = load_config(path)
    written_at = config.locate(("plugins", "order")).where
    own = file.parent / OWN_FILE
    if own.exists() and not own.read_text(encoding="utf-8").startswith(HEAD):
        raise click.ClickException(f"{own} is not a file of ours, so it is left alone: change the order there")
    if written_at == VARIABLE or (Path(written_at).parent == own.parent and Path(written_at).name > own.name):
        raise click.ClickException(f"the order is written in {written_at}, which counts more than {own}")
    return file, config


def _default_place(file: Path, order: Sequence[str], name: str) -> int:
    """Before the first that delivers; behind everybody for one that delivers."""
    instances = _loaded(file, [*order, name])[0].instances
    if instances[name].may_grant("queue"):
        return len(order)
    return next((number for number, each in enumerate(order) if instances[each].may_grant("queue")), len(order))


def _loaded(file: Path, order: Sequence[str]) -> tuple[Policy, Config]:
    """The policy as it will be with ``order``, and its configuration. Raises ``ConfigError`` when it is wrong."""
    from dataclasses import replace

    from gatepost.config import load_config as read_config
    from gatepost.errors import ConfigError
    from gatepost.events import NULL_RECORDER
    from gatepost.plugins import load_policy
    from gatepost.rehearsal import offline

    try:
        config = read_config(file, {**os.environ, VARIABLE: _toml_list(order)})
        return load_policy(config, offline.services(config), NULL_RECORDER), config
    except ConfigError as error:
        own = str(file.parent / OWN_FILE)
        found = [replace(each, where=own) if each.where == VARIABLE else each for each in error.mistakes]
        raise ConfigError(found) from None


def _toml_list(order: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in order) + "]"


def _write(file: Path, config: Config, order: Sequence[str]) -> None:
    """Write the order, if it loads, and all at once."""
    import tomli_w

    remarks = _remarks(file, order)
    own = file.parent / OWN_FILE
    text = HEAD + tomli_w.dumps({"plugins": {"order": list(order)}})
    try:
        own.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=own.parent, prefix=".", delete=False, encoding="utf-8") as part:
            part.write(text)
            part.flush()
            os.fsync(part.fileno())
        os.chmod(part.name, file.stat().st_mode & 0o777)
        os.replace(part.name, own)
    except OSError as error:
        raise click.ClickException(f"cannot write {own}: {error.strerror}") from error
    say(f"Wrote {own}: {', '.join(order) or 'nobody is asked'}")
    aside = [name for name, listener in config.listeners.items() if listener.plugins is not None]
    if aside:
        say(f"Listeners with an order of their own stay as they are: {', '.join(aside)}")
    for remark in remarks:
        say(remark)
    say("SIGHUP makes a running gatepost take it.")


def _remarks(file: Path, order: Sequence[str]) -> list[str]:
    """What ``gatepost check`` has to say of the policy: on the way from one order to another much may be amiss."""
    from gatepost.rehearsal import findings

    found = asyncio.run(findings(*_loaded(file, order)))
    return [f"{'error' if each.is_error else 'warning'}: {each.mistake.key}: {each.mistake.message}" for each in found]


def _place(config: Config, name: str, key: str) -> str:
    place = config.locate(("plugins", name, key))
    return f"{place.where}:{place.line}"
