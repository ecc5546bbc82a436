"""From what a test writes, plugin objects or TOML, to the policy that is asked.

TOML takes the whole way of production: installed plugins, local files, validated options, all mistakes at once. Classes
and objects take it from the point where the plugin has been found: the same contract, the same maker.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatepost.config import Config, PluginTable, load_config, parse_config
from gatepost.errors import PluginError
from gatepost.events import Recorder
from gatepost.gate import Instance, Score
from gatepost.options import CORE_KEYS, Options
from gatepost.plugins import (
    Found,
    Services,
    conflicts,
    load_policy,
    make_gate,
    make_instance,
    options_of,
    problems_of,
    register,
)
from gatepost.plugins import Policy as LoadedPolicy


@dataclass(frozen=True, slots=True)
class Configured:
    """A plugin and what the configuration would say about it. Made by ``instance``."""

    plugin: Any
    name: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    options: Any = None


def instance(plugin: Any, name: str = "", *, options: Options | None = None, **table: Any) -> Configured:
    """Return a plugin with the keys of its table in the configuration: ``instance(Blocklist, mode="observe")``.

    ``plugin`` is a class, which is given its services by the policy, or a plugin object or module. ``table`` are the
    core's keys (``mode``, ``time_limit``, ``on_error``, ``reject_at``, ``phases``) and, for a class, its own options,
    which can be passed as an ``options`` object instead. Raises ``TypeError`` if an object is given options.
    """
    settings = {key: value for key, value in table.items() if key in CORE_KEYS}
    own = {key: value for key, value in table.items() if key not in CORE_KEYS}
    if not inspect.isclass(plugin) and (own or options is not None):
        raise TypeError(f"{_name_of(plugin)} is made already: give its options to the class, or where it is made")
    return Configured(plugin, name, settings, options if options is not None else own)


def load_text(text: str, folder: Path, services: Services, recorder: Recorder) -> tuple[Config, LoadedPolicy]:
    """Return the policy of a configuration given as TOML; relative paths in it start at ``folder``.

    Raises ``ConfigError`` with all mistakes.
    """
    config = parse_config(text, folder, "the test's policy")
    return config, load_policy(config, services, recorder)


def load_file(path: Path, services: Services, recorder: Recorder) -> tuple[Config, LoadedPolicy]:
    """Return the policy of a configuration file, with its drop-ins but without the environment.

    Raises ``ConfigError`` with all mistakes.
    """
    config = load_config(path, {})
    return config, load_policy(config, services, recorder)


def load_objects(plugins: Iterable[Any], services: Services, recorder: Recorder, score: Score | None) -> LoadedPolicy:
    """Return the policy that asks these plugins in this order. Raises ``PluginError`` for one that cannot be asked."""
    instances: dict[str, Instance] = {}
    for plugin in plugins:
        given = plugin if isinstance(plugin, Configured) else Configured(plugin)
        made = _instance(given, _free_name(given, instances), services)
        instances[made.name] = made
    return policy_of(tuple(instances.values()), services, recorder, score)


def policy_of(
    instances: Sequence[Instance], services: Services, recorder: Recorder, score: Score | None
) -> LoadedPolicy:
    """Return a policy with one gate over ``instances``."""
    gate = make_gate(instances, services.clock, recorder, score=score)
    return LoadedPolicy({each.name: each for each in instances}, {}, register(gate.instances), gate)


def _instance(given: Configured, name: str, services: Services) -> Instance:
    offered = given.plugin if inspect.isclass(given.plugin) or inspect.ismodule(given.plugin) else type(given.plugin)
    # The same checks as in ``plugins.load``. They come at once here too, but without the places of a file.
    table = PluginTable.model_validate({"name": name, "use": name, **given.settings})
    problems = [*problems_of(offered), *(f"{key}: {message}" for key, message in conflicts(offered, table))]
    model, options = options_of(offered), given.options
    if model is None and options:
        problems.append(f"it takes no options, so not {', '.join(options)}")
    if problems:
        raise PluginError(f"{name}: " + "; ".join(problems))
    if model is not None and inspect.isclass(given.plugin) and not isinstance(options, Options):
        options = model.model_validate(options or {})  # as Python has them: a duration may be a number of seconds
    try:
        return make_instance(Found(given.plugin), table, options, services)
    except PluginError as error:
        raise PluginError(f"{name}: {error}") from error


def _free_name(given: Configured, taken: Iterable[str]) -> str:
    """Return the given name of the instance, else the plugin's in lower case, with a number if that is taken."""
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
