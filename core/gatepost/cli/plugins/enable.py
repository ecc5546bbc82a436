"""``gatepost plugins enable`` and ``disable``: change the order, in a drop-in that only these commands write.

Files that people wrote are never changed. The whole new order goes into ``gatepost.d/50-order.toml``, which is read
after the main file, and only if a configuration with it can be loaded.
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
"""The first line of the file. It is compared, so that a file of this name by somebody else is never overwritten."""
VARIABLE = "GATEPOST__PLUGINS__ORDER"


@click.command("enable")
@click.argument("name")
@click.option("--after", metavar="NAME", help="Ask it directly after this plugin.")
@click.option("--before", metavar="NAME", help="Ask it directly before this plugin.")
@config_option
def enable(name: str, after: str | None, before: str | None, path: Path | None) -> None:
    """Add the plugin NAME to the order, or move it.

    Without --after or --before, a new plugin goes before the first one that delivers, or to the end if it delivers
    itself. The order is written to gatepost.d/50-order.toml if a configuration with it can be loaded. Your own file is
    not changed.
    """
    if after and before:
        raise click.UsageError("--after and --before do not go together")
    file, config = _own(path)
    if name in config.order and not (after or before):
        say(f"{name} is enabled already: {', '.join(config.order)}")
        return
    if config.plugin(name).mode == "off":
        place = config.locate(("plugins", name, "mode"))
        raise click.ClickException(f'{name} is switched off: mode = "off" at {place.where}:{place.line}')
    order = [each for each in config.order if each != name]
    for neighbour in filter(None, (after, before)):
        if neighbour not in order:
            raise click.ClickException(f"{neighbour} is not in the order: {', '.join(order) or 'it is empty'}")
    if after:
        order.insert(order.index(after) + 1, name)
    elif before:
        order.insert(order.index(before), name)
    else:
        instances = _loaded(file, [*order, name])[0].instances
        delivering = [number for number, each in enumerate(order) if instances[each].may_grant("queue")]
        is_last = instances[name].may_grant("queue") or not delivering
        order.insert(len(order) if is_last else delivering[0], name)
    _write(file, config, order)


@click.command("disable")
@click.argument("name")
@config_option
def disable(name: str, path: Path | None) -> None:
    """Remove the plugin NAME from the order. Its options stay."""
    file, config = _own(path)
    if name not in config.order:
        raise click.ClickException(f"{name} is not in the order: {', '.join(config.order) or 'it is empty'}")
    _write(file, config, [each for each in config.order if each != name])


def _own(path: Path | None) -> tuple[Path, Config]:
    """Return the configuration and its file. Raises ``ClickException`` if our drop-in cannot set the order."""
    file = find_config(path)
    if file is None:
        raise click.ClickException("there is no configuration file yet: gatepost init writes one")
    config = load_config(path)
    written_at = config.locate(("plugins", "order")).where
    own = file.parent / OWN_FILE
    if own.exists() and not own.read_text(encoding="utf-8").startswith(HEAD):
        raise click.ClickException(f"{own} was not written by this command, so it is not changed: edit the order there")
    if written_at == VARIABLE or (Path(written_at).parent == own.parent and Path(written_at).name > own.name):
        raise click.ClickException(f"the order is set in {written_at}, which overrides {own}")
    return file, config


def _loaded(file: Path, order: Sequence[str]) -> tuple[Policy, Config]:
    """Return the policy with ``order``, and its configuration. Raises ``ConfigError`` if it is wrong."""
    from dataclasses import replace

    from gatepost.config import load_config as read_config
    from gatepost.errors import ConfigError
    from gatepost.events import NULL_RECORDER
    from gatepost.options import toml_value
    from gatepost.plugins import load_policy
    from gatepost.rehearsal import offline_services

    try:
        config = read_config(file, {**os.environ, VARIABLE: toml_value(order)})
        return load_policy(config, offline_services(config), NULL_RECORDER), config
    except ConfigError as error:
        own = str(file.parent / OWN_FILE)  # the order is tried as a variable, but will be in this file
        found = [replace(each, where=own) if each.where == VARIABLE else each for each in error.mistakes]
        raise ConfigError(found) from None


def _write(file: Path, config: Config, order: Sequence[str]) -> None:
    """Write the order, if it loads, and report what ``gatepost check`` finds: it may be one of several changes."""
    import tomli_w

    from gatepost.rehearsal import findings

    found = asyncio.run(findings(*_loaded(file, order)))
    own = file.parent / OWN_FILE
    text = HEAD + tomli_w.dumps({"plugins": {"order": list(order)}})
    try:
        # The file is replaced as a whole, so that a server that reloads meanwhile never reads half of it.
        own.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=own.parent, prefix=".", delete=False, encoding="utf-8") as part:
            part.write(text)
            part.flush()
            os.fsync(part.fileno())
        os.chmod(part.name, file.stat().st_mode & 0o777)
        os.replace(part.name, own)
    except OSError as error:
        raise click.ClickException(f"cannot write {own}: {error.strerror}") from error
    say(f"Wrote {own}: {', '.join(order) or 'no plugin is asked'}")
    others = [name for name, listener in config.listeners.items() if listener.plugins is not None]
    if others:
        say(f"Listeners with an order of their own stay as they are: {', '.join(others)}")
    for each in found:
        say(f"{'error' if each.is_error else 'warning'}: {each.mistake.key}: {each.mistake.message}")
    say("Send SIGHUP to a running gatepost to apply it.")
