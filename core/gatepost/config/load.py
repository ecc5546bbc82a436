"""Loading the configuration: finding the file, merging its layers, and reporting all its mistakes at once.

A file, the drop-ins of ``gatepost.d`` beside it and ``GATEPOST__…`` variables are merged in this order and become one
frozen ``Config``. Without a file the text of ``default_text`` takes the same way.

This module knows no plugin: ``validate_options`` validates a plugin's options once the loader has found its class.
"""

from __future__ import annotations

import copy
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from gatepost.config.model import Config, PluginTable
from gatepost.config.source import Layers, Source
from gatepost.config.toml_lines import KeyPath, key_lines, read_toml
from gatepost.config.values import own_host_name
from gatepost.config.wording import Complaint, complaints
from gatepost.errors import ConfigError, Mistake
from gatepost.events import NULL_RECORDER, Recorder
from gatepost.options import (
    CORE_KEYS,
    RESERVED_KEYS,
    ListFiles,
    Options,
    dotted_key,
    note_places,
    toml_value,
    with_paths_in,
)

STANDARD_PLACES = (Path("gatepost.toml"), Path("/etc/gatepost/gatepost.toml"))
DROP_INS = "gatepost.d"
VARIABLE_PREFIX = "GATEPOST__"
_DEFAULT = """\
hostname = {hostname}
state_dir = {state_dir}

[listen.smtp]
bind = ["127.0.0.1:2525"]

[store]
url = "memory:"

[plugins]
order = ["earlytalker", "recipients", "maildir"]

[plugins.earlytalker]
delay = "3s"
remember = "0s"

[plugins.recipients]
domains = {domains}

[plugins.maildir]
path = {maildir}
"""


def find_config_file(explicit: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file: ``explicit``, else $GATEPOST_CONFIG, else the first of the standard places.

    None if there is none: then ``load_config`` takes the embedded default. The first two need not exist;
    ``load_config`` reports that.
    """
    if explicit is not None:
        return explicit
    if named := environ.get("GATEPOST_CONFIG"):
        return Path(named)
    return next((place for place in STANDARD_PLACES if os.path.isfile(place)), None)


def load_config(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read, merge and validate; None means the embedded default. Raises ``ConfigError`` with every mistake."""
    config, mistakes = survey_config(path, environ)
    if mistakes or config is None:
        raise ConfigError(mistakes)
    return config


def survey_config(path: Path | None, environ: Mapping[str, str]) -> tuple[Config | None, list[Mistake]]:
    """Return the configuration without its wrong keys, and every mistake, so that plugins' tables can be checked too.

    A line that is not TOML is left out with what belongs to it, and the rest is read. The configuration is None if
    nothing can be read, or if what remains without the wrong keys is not valid either.
    """
    layers, mistakes = Layers(), list[Mistake]()
    if path is None:
        name, folder = "the embedded default", Path.cwd()
        _add_text(layers, default_text(environ), name)
    else:
        name, folder = str(path), path.absolute().parent
        mistakes = _add_files(layers, path)
    is_complete = not mistakes
    is_anything = is_complete or bool(layers.merged)
    mistakes += _add_environment(layers, environ)
    source = Source(folder, environ, name, layers.places, layers.merged, layers.replaced, is_complete)
    tables, known = layers.merged, list[Complaint]()
    config, wrong = _validated(tables, source)
    while True:
        # A missing key may stand in the part that cannot be read; later on it may be missing because it was wrong.
        found = [each for each in wrong if not (each.is_missing and (known or not is_complete))]
        known += [each for each in found if not any(_comes_of(each.path, other.path) for other in known)]
        # Leaving out a wrong key may make another one wrong, such as a table that lacks it, so try until all is well.
        if config is not None or (smaller := _without(tables, wrong)) == tables:
            break
        tables = smaller
        config, wrong = _validated(tables, source)
    mistakes += _mistakes(known, source)
    return (config if is_anything else None), _in_order(mistakes, source)


def _comes_of(path: KeyPath, known: KeyPath) -> bool:
    """Return True for a known mistake, one inside it, and one about the list that it was left out of: too short now."""
    return path[: len(known)] == known or (path == known[:-1] and isinstance(known[-1], int))


def parse_config(text: str, folder: Path, name: str) -> Config:
    """Return the configuration in one TOML text, without other layers; relative paths in it start at ``folder``.

    ``name`` is the text's name in messages. Raises ``ConfigError`` with every mistake.
    """
    layers = Layers()
    if mistakes := _add_text(layers, text, name):
        raise ConfigError(mistakes)
    source = Source(folder, {}, name, layers.places, layers.merged)
    config, wrong = _validated(layers.merged, source)
    if config is None:
        raise ConfigError(_in_order(_mistakes(wrong, source), source))
    return config


def _mistakes(wrong: list[Complaint], source: Source) -> list[Mistake]:
    return [Mistake(*source.locate(each.path), dotted_key(each.path), each.message) for each in wrong]


def _validated(tables: Mapping[str, Any], source: Source) -> tuple[Config | None, list[Complaint]]:
    try:
        return Config.model_validate(tables, context=source.context()), []
    except ValidationError as error:
        return None, complaints(error, Config, tables)


def _without(tables: Mapping[str, Any], wrong: list[Complaint]) -> dict[str, Any]:
    """Return the tables without each wrong key or list element, and without each table that lacks a required key."""
    smaller = copy.deepcopy(dict(tables))
    paths = {complaint.path[:-1] if complaint.is_missing else complaint.path for complaint in wrong}
    for path in sorted(filter(None, paths), reverse=True):  # the last element of a list first, or indexes would shift
        holder: Any = smaller
        for part in path[:-1]:
            holder = holder[part]
        del holder[path[-1]]
    return smaller


OptionsT = TypeVar("OptionsT", bound=Options)


def validate_options(
    model: type[OptionsT],
    table: PluginTable,
    config: Config,
    recorder: Recorder = NULL_RECORDER,
    files: ListFiles | None = None,
) -> OptionsT:
    """Return the options in a plugin's table, validated by ``model``. Raises ``ConfigError`` with every mistake.

    Relative paths are those from the folder of the configuration.
    ``recorder`` is told later if a file that they name changes and cannot be used; ``files`` are those of the server,
    which looks at them.
    """
    context = {**config.source.context(), "recorder": recorder, "files": files}
    try:
        options = model.model_validate(table.options, context=context)
        options = with_paths_in(config.source.folder, options)
    except ValidationError as error:
        # A misspelt core key ends up among the plugin's own options, so core keys are suggested here too.
        core = set(CORE_KEYS).difference(RESERVED_KEYS)
        mistakes = []
        for complaint in complaints(error, model, table.options, also_known=core):
            # What is missing, and what a model says about the whole table, may come of a part that cannot be read.
            if config.source.is_complete or not (complaint.is_missing or not complaint.path):
                path = ("plugins", table.name, *complaint.path)
                mistakes += [
                    Mistake(file, line, dotted_key(path), message) for file, line, message in complaint.in_file
                ]
                if not complaint.in_file:
                    mistakes.append(config.mistake(path, complaint.message))
        raise ConfigError(_in_order(mistakes, config.source)) from None

    def locate(path: KeyPath) -> str:
        file, line = config.locate(("plugins", table.name, *path))
        return f"{file}, line {line}" if line else ""

    note_places(options, locate)
    return options


def _in_order(mistakes: list[Mistake], source: Source) -> list[Mistake]:
    """Return the mistakes of the main file first, then those of the other layers, each from its first line on."""
    return sorted(mistakes, key=lambda mistake: (mistake.where != source.name, mistake.where, mistake.line))


def default_text(environ: Mapping[str, str]) -> str:
    """Return the embedded default as TOML: a trial on loopback that delivers to maildirs.

    The environment may set host name and state folder. They are inserted here because plugins' options need them too.
    """
    hostname = environ.get(f"{VARIABLE_PREFIX}HOSTNAME") or own_host_name()
    state_dir = environ.get(f"{VARIABLE_PREFIX}STATE_DIR")
    if not state_dir:
        # The folder for state of this account (XDG Base Directory: only an absolute path counts).
        base = Path(environ.get("XDG_STATE_HOME", ""))
        if not base.is_absolute():
            base = Path(environ.get("HOME") or Path.home()) / ".local/state"
        state_dir = str(base / "gatepost")
    return _DEFAULT.format(
        hostname=toml_value(hostname),
        state_dir=toml_value(state_dir),
        domains=toml_value(list(dict.fromkeys(("localhost", hostname)))),
        maildir=toml_value(f"{state_dir}/maildir/{{local}}"),
    )


# Layers


def _add_files(layers: Layers, path: Path) -> list[Mistake]:
    """Add the file and its drop-ins, by name. A file with a mistake is left out, and the others are still read."""
    folder, mistakes = path.parent / DROP_INS, []
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".toml") and not name.startswith("."))
    except FileNotFoundError:
        names = []
    except OSError as error:
        names = []
        mistakes.append(Mistake(str(folder), 0, "", f"cannot read the folder: {error.strerror}"))
    for file in (path, *(folder / name for name in names)):
        try:
            # An editor on another system may have put a byte order mark at the start.
            mistakes += _add_text(layers, file.read_text(encoding="utf-8-sig"), str(file))
        except OSError as error:
            mistakes.append(Mistake(str(file), 0, "", f"cannot read the file: {error.strerror}"))
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            mistakes.append(Mistake(str(file), line, "", "this is not UTF-8 text"))
    return mistakes


def _add_text(layers: Layers, text: str, where: str) -> list[Mistake]:
    """Add what can be read of a text. Return a mistake for each part that is not TOML."""
    table, rest, wrong = read_toml(text)
    layers.add(table, where, key_lines(rest))
    return [Mistake(where, line, "", f"this is not TOML: {message}") for line, message in wrong]


def _add_environment(layers: Layers, environ: Mapping[str, str]) -> list[Mistake]:
    """Add ``GATEPOST__TABLE__KEY`` variables, by name."""
    mistakes = []
    for name in sorted(name for name in environ if name.startswith(VARIABLE_PREFIX)):
        keys = name.removeprefix(VARIABLE_PREFIX).lower().split("__")
        if not all(keys):
            message = "expected keys between double underscores, as in GATEPOST__LOG__LEVEL"
            mistakes.append(Mistake(name, 0, "", message))
            continue
        table: Any = _variable_value(environ[name])
        for key in reversed(keys):
            table = {key: table}
        layers.add(table, name, {})
    return mistakes


def _variable_value(text: str) -> object:
    """Return the text as a TOML value, or as it is if it is not one."""
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return table["value"] if list(table) == ["value"] else text  # a line break can begin a second key
