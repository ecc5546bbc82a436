"""gatepost.toml: which file, what it says, and everything that is wrong with it at once.

A file, the drop-ins of ``gatepost.d`` beside it and ``GATEPOST__…`` variables are laid over each other and become one
frozen ``Config``. Without any file the text of ``default_text`` goes the very same way.

This module knows no plugin: their options are validated by ``validate_options`` once the loader has found the class.
"""

from __future__ import annotations

import copy
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from gatepost.config.model import Config, PluginTable
from gatepost.config.source import Layers, Source
from gatepost.config.toml_lines import error_line, key_lines
from gatepost.config.values import own_host_name
from gatepost.config.wording import Complaint, complaints
from gatepost.errors import ConfigError, Mistake
from gatepost.events import NULL_RECORDER, Recorder
from gatepost.options import CORE_KEYS, Options, dotted_key

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
    """The configuration file: the one asked for, else $GATEPOST_CONFIG, else the first of the standard places.

    None when there is none: then ``load`` takes the embedded default. A file that is asked for need not exist here;
    ``load`` says so.
    """
    if explicit is not None:
        return explicit
    if named := environ.get("GATEPOST_CONFIG"):
        return Path(named)
    return next((place for place in STANDARD_PLACES if os.path.isfile(place)), None)


def load_config(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read, merge and validate; None means the embedded default. Raises ConfigError with every mistake there is."""
    config, mistakes = survey_config(path, environ)
    if mistakes or config is None:
        raise ConfigError(mistakes)
    return config


def survey_config(path: Path | None, environ: Mapping[str, str]) -> tuple[Config | None, list[Mistake]]:
    """Every mistake, and what the rest says: so that ``check`` can name mistakes in plugins' tables at the same time.

    The rest is None when a file cannot be read, or when nothing sensible is left without the wrong keys.
    """
    layers, mistakes = Layers(), list[Mistake]()
    if path is None:
        name, folder = "the embedded default", Path.cwd()
        _lay_text(layers, default_text(environ), name)
    else:
        name, folder = str(path), path.absolute().parent
        mistakes = _lay_files(layers, path)
    is_whole = not mistakes
    mistakes += _lay_environment(layers, environ)
    source = Source(folder, environ, name, layers.places, layers.merged)
    config, wrong = _validated(layers.merged, source)
    mistakes += [
        Mistake(*source.locate(complaint.path), dotted_key(complaint.path), complaint.message)
        for complaint in wrong
        if is_whole or not complaint.is_missing
    ]
    if is_whole and wrong:
        config = _rest(layers.merged, wrong, source)
    return (config if is_whole else None), _in_order(mistakes, source)


def _rest(tables: Mapping[str, Any], wrong: list[Complaint], source: Source) -> Config | None:
    """What is left without what is wrong, and without what is wrong for lack of that; None when nothing helps."""
    rest, config = _without(tables, wrong), None
    while config is None and rest != tables:
        tables = rest
        config, wrong = _validated(tables, source)
        rest = _without(tables, wrong)
    return config


def _validated(tables: Mapping[str, Any], source: Source) -> tuple[Config | None, list[Complaint]]:
    try:
        return Config.model_validate(tables, context=source.context()), []
    except ValidationError as error:
        return None, complaints(error, Config, tables)


def _without(tables: Mapping[str, Any], wrong: list[Complaint]) -> dict[str, Any]:
    """The tables without what is wrong in them: a wrong key or list element, or a table that lacks a required key."""
    rest = copy.deepcopy(dict(tables))
    paths = {complaint.path[:-1] if complaint.is_missing else complaint.path for complaint in wrong}
    for path in sorted(filter(None, paths), reverse=True):  # the last element of a list first, or indexes would shift
        holder: Any = rest
        for part in path[:-1]:
            holder = holder[part]
        del holder[path[-1]]
    return rest


OptionsT = TypeVar("OptionsT", bound=Options)


def validate_options(
    model: type[OptionsT], table: PluginTable, config: Config, recorder: Recorder = NULL_RECORDER
) -> OptionsT:
    """Return the plugin's options as its class wants them. Raises ConfigError with every mistake in its table.

    ``recorder`` is told later when a file that they name changes and cannot be used.
    """
    try:
        return model.model_validate(table.options, context={**config.source.context(), "recorder": recorder})
    except ValidationError as error:
        mistakes = []
        for complaint in complaints(error, model, table.options, also_known=CORE_KEYS):
            path = ("plugins", table.name, *complaint.path)
            mistakes.append(Mistake(*config.locate(path), dotted_key(path), complaint.message))
        raise ConfigError(_in_order(mistakes, config.source)) from None


def _in_order(mistakes: list[Mistake], source: Source) -> list[Mistake]:
    """The file first, then what is laid over it, each from its first line on."""
    return sorted(mistakes, key=lambda mistake: (mistake.where != source.name, mistake.where, mistake.line))


def default_text(environ: Mapping[str, str]) -> str:
    """What runs when there is no configuration file, as TOML: a trial on loopback that delivers to maildirs.

    Host name and state folder may come from the environment, as they stand again in the plugins' options.
    """
    hostname = environ.get(f"{VARIABLE_PREFIX}HOSTNAME") or own_host_name()
    state_dir = environ.get(f"{VARIABLE_PREFIX}STATE_DIR") or str(_own_state_dir(environ))
    return _DEFAULT.format(
        hostname=_quoted(hostname),
        state_dir=_quoted(state_dir),
        domains=f"[{', '.join(_quoted(domain) for domain in dict.fromkeys(('localhost', hostname)))}]",
        maildir=_quoted(f"{state_dir}/maildir/{{local}}"),
    )


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _own_state_dir(environ: Mapping[str, str]) -> Path:
    """The folder for state of the account that runs this (XDG Base Directory: only an absolute path counts)."""
    base = Path(environ.get("XDG_STATE_HOME", ""))
    if base.is_absolute():
        return base / "gatepost"
    return Path(environ.get("HOME") or Path.home()) / ".local/state/gatepost"


def _lay_files(layers: Layers, path: Path) -> list[Mistake]:
    """Lay the file and its drop-ins, by name; a file with a mistake is left out and the others are still read."""
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
            _lay_text(layers, file.read_text(encoding="utf-8"), str(file))
        except OSError as error:
            mistakes.append(Mistake(str(file), 0, "", f"cannot read the file: {error.strerror}"))
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            mistakes.append(Mistake(str(file), line, "", "this is not UTF-8 text"))
        except ConfigError as error:
            mistakes += error.mistakes
    return mistakes


def _lay_text(layers: Layers, text: str, where: str) -> None:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = re.sub(r"\s*\(at [^()]*\)$", "", str(error))
        message = message.replace(
            r"Illegal character '\n'", "a text ends where its line does, without a quotation mark"
        )
        raise ConfigError([Mistake(where, error_line(error, text), "", f"this is not TOML: {message}")]) from None
    layers.lay(table, where, key_lines(text))


def _lay_environment(layers: Layers, environ: Mapping[str, str]) -> list[Mistake]:
    """Lay ``GATEPOST__TABLE__KEY`` variables, by name."""
    mistakes = []
    for name in sorted(name for name in environ if name.startswith(VARIABLE_PREFIX)):
        keys = name.removeprefix(VARIABLE_PREFIX).lower().split("__")
        if not all(keys):
            mistakes.append(
                Mistake(name, 0, "", "expected keys between double underscores, as in GATEPOST__LOG__LEVEL")
            )
            continue
        table: Any = _variable_value(environ[name])
        for key in reversed(keys):
            table = {key: table}
        layers.lay(table, name, {})
    return mistakes


def _variable_value(text: str) -> object:
    """The text as a value of TOML, or as it stands when it is none."""
    try:
        table = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return table["value"] if list(table) == ["value"] else text
