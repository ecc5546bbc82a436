"""``gatepost init``: a starting configuration that contains every key with its meaning and its default.

With ``--postfix`` it is one for a gate in front of Postfix, and the lines for Postfix's master.cf lie beside it, so
that both sides agree. What Postfix knows already (its name, domains and limit of size) is asked of postconf(1).
"""

from __future__ import annotations

import os
import re
import subprocess
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from pydantic import BaseModel

WIDTH = 110
MASTER = "postfix-master.cf"
"""The lines for Postfix's master.cf: a file of this package, and the name of the copy that is written."""
DOMAIN_LISTS = ("mydestination", "virtual_mailbox_domains", "virtual_alias_domains", "relay_domains")
DOMAIN = re.compile(r"(?:[A-Za-z0-9_-]+\.)+[A-Za-z0-9-]+")
ADDED = 16 * 1024
"""Octets by which a message may grow on its way to Postfix, whose limit is for the whole."""

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
@click.option("--postfix", is_flag=True, help="Write both sides of a gate in front of Postfix.")
@click.option("--force", is_flag=True, help="Overwrite existing files.")
def command(path: Path, postfix: bool, force: bool) -> None:
    """Write a commented starting configuration to PATH (./gatepost.toml).

    It works without changes: a trial on 127.0.0.1:2525 that delivers into maildirs. With --postfix it is for port 25 in
    front of Postfix, with the name, the domains and the limit of size that postconf reports, and postfix-master.cf
    beside it has the lines to add to Postfix's master.cf. Existing files are kept.
    """
    if path.is_dir():
        path /= "gatepost.toml"
    if not postfix:
        _write({path: starting_config(tomllib.loads(_trial(os.environ)), FORWARD)}, force)
        click.echo(f"Wrote {path}. Edit it, then run: gatepost check --config {path}")
        return
    chosen, unknown = _in_front_of_postfix()
    master = path.parent / MASTER
    _write({path: starting_config(chosen), master: (files("gatepost.cli") / MASTER).read_text("utf-8")}, force)
    for line in (
        f"Wrote {path} and {master}.",
        *unknown,
        f"Edit {path}, then run: gatepost check --config {path}",
        f"Add the lines of {master} to /etc/postfix/master.cf and reload Postfix.",
        "Last, put a # before its line that begins with smtp inet, restart Postfix, and start gatepost.",
    ):
        click.echo(line)


def _write(texts: Mapping[Path, str], force: bool) -> None:
    """Write all files, or none if one exists already."""
    for path in texts:
        if path.exists() and not force:
            raise click.ClickException(f"{path} exists already; --force overwrites it")
    for path, text in texts.items():
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"cannot write {path}: {error.strerror}") from error


def _trial(environ: Mapping[str, str]) -> str:
    from gatepost.config import STATE_DIR, default_text

    if os.geteuid() == 0:  # root sets up a service of the machine, not a trial
        environ = {"GATEPOST__STATE_DIR": str(STATE_DIR), **environ}
    return default_text(environ)


def _in_front_of_postfix() -> tuple[dict[str, Any], list[str]]:
    """Return what is chosen for a gate in front of Postfix, and a sentence for each thing that is left to do."""
    from gatepost.config import own_host_name
    from gatepost.errors import GatepostError
    from gatepost.server import account_of

    said, unknown = _postconf(), list[str]()
    listed = [word for key in DOMAIN_LISTS for word in re.split(r"[\s,]+", said.get(key, "")) if word]
    domains = [word.lower() for word in listed if DOMAIN.fullmatch(word)]
    if tables := [word for word in listed if ":" in word or "/" in word]:
        unknown.append(f"Postfix has domains in {', '.join(tables)}, which are not read: add them to domains.")
    try:
        account_of("gatepost")
    except GatepostError:
        unknown.append("Create its account: adduser --system --group --home /var/lib/gatepost gatepost")
    if not domains:
        unknown.append("The domains of Postfix are not known: write yours in place of example.org.")
    chosen: dict[str, Any] = {
        "hostname": said.get("myhostname") or own_host_name(),
        "user": "gatepost",
        "listen": {"smtp": {"bind": ["0.0.0.0:25", *(["[::]:25"] if Path("/proc/net/if_inet6").exists() else [])]}},
        "plugins": {
            "order": ["access", "earlytalker", "recipients", "greylist", "forward"],
            "recipients": {"domains": list(dict.fromkeys(domains)) or ["example.org"]},
            "forward": {"to": "smtp://127.0.0.1:10025"},
        },
    }
    largest = int(said.get("message_size_limit") or 0)
    if largest > ADDED:  # 0 is no limit
        chosen["limits"] = {"max_size": largest - ADDED}
    return chosen, unknown


def _postconf() -> dict[str, str]:
    """Return some of Postfix's settings, expanded; {} if there is no Postfix or it has no configuration."""
    command = ["postconf", "-x", "myhostname", "message_size_limit", *DOMAIN_LISTS]
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=True, env={**os.environ, "PATH": path}
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    pairs = (line.partition(" =") for line in said.stdout.splitlines())
    return {key: value.strip() for key, _, value in pairs}


def starting_config(chosen: dict[str, Any], more: str = "") -> str:
    """Return the text: what is chosen, with everything else commented out, and ``more`` after the plugins."""
    from gatepost.config import Config, Listener, Plugins, PluginTable
    from gatepost.options import CORE_KEYS, RESERVED_KEYS

    # They let the trial forget everything; a service should not.
    chosen.pop("store", None)
    chosen["plugins"].pop("earlytalker", None)
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
    parts += [more] if more else []
    for name, field in Config.model_fields.items():
        if name in tables and name != "plugins":
            parts += [
                f"[{name}]",
                *_keys(cast("type[BaseModel]", field.annotation), chosen.get(name, {}), defaults[name]),
            ]
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
