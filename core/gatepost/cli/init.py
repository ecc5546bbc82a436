"""``gatepost init``: a starting configuration that contains every key with its meaning and its default."""

from __future__ import annotations

import os
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from pydantic import BaseModel

WIDTH = 110

HEAD = """\
#:schema ./gatepost.schema.json
# The line above lets an editor complete and check this file. Generate the schema, and again whenever you install or
# remove plugins: gatepost config schema > gatepost.schema.json
#
# The configuration of gatepost, written by "gatepost init" and yours to edit.
#
# A line such as #idle = "5m" shows a key with its default: remove the # to set another value. A key without a value
# has no default. Durations are "10s", "5m", "36d"; sizes "512KiB", "25MiB". "gatepost check" lists every mistake.
"""
FORWARD = """\
# Mail is delivered into maildirs. To hand it to a mail server instead, replace "maildir" with "forward" above, and add:
#[plugins.forward]
#to = "smtp://127.0.0.1:10025"
"""


@click.command("init", short_help="Write a commented starting configuration.")
@click.argument("path", type=click.Path(path_type=Path), default=Path("gatepost.toml"))
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
def command(path: Path, force: bool) -> None:
    """Write a commented starting configuration to PATH (./gatepost.toml).

    It works without changes: a trial on 127.0.0.1:2525 that delivers into maildirs. An existing file is kept.
    """
    if path.is_dir():
        path /= "gatepost.toml"
    text = starting_config(os.environ)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise click.ClickException(f"{path} exists already; --force overwrites it") from None
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
    click.echo(f"Wrote {path}. Edit it, then run: gatepost check --config {path}")


def starting_config(environ: Mapping[str, str]) -> str:
    """Return the text: the policy of the embedded default, with everything else commented out."""
    from gatepost.config import STATE_DIR, Config, Listener, Plugins, PluginTable, default_text
    from gatepost.options import CORE_KEYS, RESERVED_KEYS

    if os.geteuid() == 0:  # root sets up a service of the machine, not a trial
        environ = {"GATEPOST__STATE_DIR": str(STATE_DIR), **environ}
    chosen = tomllib.loads(default_text(environ))
    del chosen["store"], chosen["plugins"]["earlytalker"]  # they let the trial forget everything; a service should not
    config = Config.model_validate(chosen)
    defaults = config.model_dump(mode="json", by_alias=True)
    tables = [name for name, value in defaults.items() if isinstance(value, dict)]
    parts = [HEAD, *_keys(Config, chosen, defaults, leave_out=tables)]
    parts += ["[listen.smtp]", *_keys(Listener, chosen["listen"]["smtp"], {})]
    parts += ["[plugins]", *_keys(Plugins, chosen["plugins"], {})]
    for name in config.order:
        parts += [f"[plugins.{name}]", *_plugin_keys(name, config.plugin(name).options)]
        if name == config.order[0]:
            parts.append("# The table of every plugin may contain these keys too.\n")
            settable = set(CORE_KEYS).difference(RESERVED_KEYS)
            parts += _keys(PluginTable, {}, config.plugin(name).model_dump(mode="json"), only=settable)
    parts.append(FORWARD)
    for name, field in Config.model_fields.items():
        if name in tables and name != "plugins":
            parts += [f"[{name}]", *_keys(cast("type[BaseModel]", field.annotation), {}, defaults[name])]
    return "\n".join(parts)


def _plugin_keys(name: str, chosen: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options of an installed plugin, each with its documentation: as chosen, or its default behind a #."""
    from gatepost.options import describe
    from gatepost.plugins import installed

    for option in describe(next(offer for offer in installed() if offer.name == name).load().Options):
        yield _comment(option.doc)
        if option.name in chosen:
            yield f"{option.name} = {_toml(chosen[option.name])}\n"
        else:
            yield f"#{option.name} = {option.default}\n"


def _keys(
    model: type[BaseModel],
    chosen: Mapping[str, Any],
    defaults: Mapping[str, Any],
    *,
    leave_out: Any = (),
    only: Any = None,
) -> Iterator[str]:
    """Yield each key of a table with its documentation: as chosen, or its default behind a #."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key in leave_out or (only is not None and key not in only):
            continue
        yield _comment(field.description or "")
        if key in chosen:
            yield f"{key} = {_toml(chosen[key])}\n"
        else:
            default = defaults.get(key)
            yield f"#{key} =\n" if default is None else f"#{key} = {_toml(default)}\n"


def _comment(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), WIDTH, initial_indent="# ", subsequent_indent="# ")


def _toml(value: object) -> str:
    import tomli_w

    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
