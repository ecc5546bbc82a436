"""From what a test writes, plugin objects or TOML, to the policy that is asked.

TOML goes through the very loader of production: installed plugins, local files, validated options, all mistakes at
once. A class is given the services that its constructor names, as the loader would; an object is taken as it is.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gatepost.config import Config, Layers, PluginTable, Source, complaints, key_lines, load_config
from gatepost.errors import ConfigError, Mistake, PluginError
from gatepost.events import Recorder
from gatepost.gate import Instance, Mode, Score
from gatepost.options import CORE_KEYS, Options, dotted_key
from gatepost.plugins import SERVICES, Services, load_policy, make_gate, phases_of, problems_of, register
from gatepost.plugins import Policy as LoadedPolicy


@dataclass(frozen=True, slots=True)
class Configured:
    """A plugin and what the configuration would say of it. Made by ``instance``."""

    plugin: Any
    name: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    options: Any = None


def instance(plugin: Any, name: str = "", *, options: Options | None = None, **table: Any) -> Configured:
    """A plugin with what stands in its table of the configuration: ``instance(Blocklist, mode="observe")``.

    ``plugin`` is a class, which is given its services by the policy, or a plugin object or module. ``table`` are the
    core's keys (``mode``, ``time_limit``, ``on_error``, ``reject_at``, ``phases``) and, of a class, its own options;
    these can be given ready made as ``options`` instead. Raises ``TypeError`` when an object is given options.
    """
    settings = {key: value for key, value in table.items() if key in CORE_KEYS}
    own = {key: value for key, value in table.items() if key not in CORE_KEYS}
    if not inspect.isclass(plugin) and (own or options is not None):
        raise TypeError(f"{_name_of(plugin)} is made already: give its options to the class, or where it is made")
    return Configured(plugin, name, settings, options if options is not None else own)


def load_text(text: str, folder: Path, services: Services, recorder: Recorder) -> tuple[Config, LoadedPolicy]:
    """The policy of a configuration given as TOML; what is relative in it starts at ``folder``.

    Raises ``ConfigError`` with all mistakes, ``tomllib.TOMLDecodeError`` when this is not TOML.
    """
    layers = Layers()
    layers.lay(tomllib.loads(text), "the test's policy", key_lines(text))
    source = Source(folder, {}, "the test's policy", layers.places)
    try:
        config = Config.model_validate(layers.merged, context=source.context())
    except ValidationError as error:
        wrong = complaints(error, Config, layers.merged)
        mistakes = [Mistake(*source.locate(each.path), dotted_key(each.path), each.message) for each in wrong]
        raise ConfigError(sorted(mistakes, key=lambda mistake: mistake.line)) from None
    return config, load_policy(config, services, recorder)


def load_file(path: Path, services: Services, recorder: Recorder) -> tuple[Config, LoadedPolicy]:
    """The policy of a configuration file, with its drop-ins but without the environment. Raises ``ConfigError``."""
    config = load_config(path, {})
    return config, load_policy(config, services, recorder)


def load_objects(plugins: Iterable[Any], services: Services, recorder: Recorder, score: Score | None) -> LoadedPolicy:
    """The policy that asks these plugins in this order. Raises ``PluginError`` for one that cannot be asked."""
    instances: dict[str, Instance] = {}
    for plugin in plugins:
        given = plugin if isinstance(plugin, Configured) else Configured(plugin)
        made = _instance(given, _free_name(given, instances), services)
        instances[made.name] = made
    return policy_of(tuple(instances.values()), services, recorder, score)


def policy_of(
    instances: Sequence[Instance], services: Services, recorder: Recorder, score: Score | None
) -> LoadedPolicy:
    """A policy with one gate over ``instances``."""
    gate = make_gate(instances, services.clock, recorder, score=score)
    return LoadedPolicy({each.name: each for each in instances}, {}, register(gate.instances), gate)


def _instance(given: Configured, name: str, services: Services) -> Instance:
    plugin = given.plugin
    offered = plugin if inspect.isclass(plugin) or inspect.ismodule(plugin) else type(plugin)
    if problems := list(problems_of(offered)):
        raise PluginError(f"{name}: " + "; ".join(problems))
    if inspect.isclass(plugin):
        plugin = _made(plugin, name, given.options, services)
    table = PluginTable.model_validate({"name": name, "use": name, **given.settings})
    grants = getattr(plugin, "grants", ())
    declared: str = getattr(plugin, "on_error", "defer")
    return Instance(
        name=name,
        plugin=plugin,
        mode=Mode(table.mode),
        time_limit=table.time_limit,
        on_error=table.on_error or declared,
        reject_at=table.reject_at,
        phases=phases_of(plugin, table.phases),
        grants=frozenset((grants,) if isinstance(grants, str) else grants),
        skip_trusted=bool(getattr(plugin, "skip_trusted", False)),
        longest_wait=float(getattr(plugin, "longest_wait", 0.0)),
    )


def _made(plugin: type, name: str, options: Any, services: Services) -> Any:
    """An object of a plugin class, with the services that its constructor names."""
    model = getattr(plugin, "Options", None)
    if model is None and options:
        raise PluginError(f"{name} takes no options, so not {', '.join(options)}")
    if model is not None and not isinstance(options, Options):
        options = model.model_validate(options or {})
    wanted = () if plugin.__init__ is object.__init__ else inspect.signature(plugin).parameters  # type: ignore[misc]
    if unknown := [each for each in wanted if each not in SERVICES]:
        raise PluginError(f"{name}: its constructor asks for {unknown[0]!r}; there are {', '.join(SERVICES)}")
    return plugin(**{each: services.get(each, name, options) for each in wanted})


def _free_name(given: Configured, taken: Iterable[str]) -> str:
    """The instance's name: the one given, else the plugin's in lower case, with a number if that is taken."""
    name = given.name or _name_of(given.plugin)
    if name not in taken:
        return name
    if given.name:
        raise PluginError(f"two plugins of this policy are called {name}")
    return next(free for number in range(2, 1000) if (free := f"{name}{number}") not in taken)


def _name_of(plugin: Any) -> str:
    if inspect.ismodule(plugin):
        return plugin.__name__.rpartition(".")[2]
    return (plugin if inspect.isclass(plugin) else type(plugin)).__name__.lower()
