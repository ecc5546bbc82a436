"""Plugins: found through entry points, configured from TOML, ordered, checked, and loaded into gates.

Only what an order names is imported. Every mistake is one sentence with plugin, package and version; all of them come
at once and before a socket is bound. Order is the list in the configuration and nothing else: plugins are registered
with pluggy in reverse, so that its list comes out as configured.

This module asks no plugin anything: see ``gate``.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pluggy

from gatepost import events
from gatepost.config import Config, validate_options
from gatepost.errors import ConfigError, Mistake
from gatepost.events import Recorder
from gatepost.gate import Gate, Instance, Mode, Score
from gatepost.hookspecs import PHASES, PROJECT, Hookspecs
from gatepost.options import Options
from gatepost.plugins.contract import _grants, hooks_of, phases_of, problems_of
from gatepost.plugins.discovery import _Finder
from gatepost.plugins.services import SERVICES, Services
from gatepost.services.clock import Clock


@dataclass(slots=True)
class Policy:
    """All that is loaded: the plugin instances, and the gate of each listener."""

    instances: dict[str, Instance]
    gates: dict[str, Gate]
    manager: pluggy.PluginManager
    """Holds all instances once, for startup and shutdown."""
    default: Gate
    """The gate of ``[plugins] order``."""
    deprecations: tuple[Mistake, ...] = ()
    """What plugins still do and will not be able to do: a sentence each, for ``check``."""


@dataclass(slots=True)
class _Loader(_Finder):
    """Makes an instance of each configured plugin, with its options and services."""

    services: Services = field(kw_only=True)
    recorder: Recorder = field(kw_only=True)

    def instance(self, name: str) -> Instance | None:
        """The configured plugin ``name``, or None after a complaint."""
        table = self.config.plugin(name)
        found = self.find(name)
        if found is None:
            return None
        plugin, origin = found
        before = len(self.mistakes)
        options = self._options(name, plugin, origin)
        if len(self.mistakes) == before:
            for problem in problems_of(plugin):
                self.complain(name, f"{origin}: {problem}")
        self._check_table(name, plugin)
        made = self._construct(name, plugin, origin, options) if len(self.mistakes) == before else None
        if made is None:
            return None
        try:
            return _instance(name, made, table, origin)
        except Exception as error:  # a declaration may be a property, which runs the plugin's code
            self.complain(name, f"{origin}: what it declares cannot be read: {type(error).__name__}: {error}")
            return None

    def _options(self, name: str, plugin: Any, origin: str) -> Options | None:
        table, model = self.config.plugin(name), getattr(plugin, "Options", None)
        if model is None:
            for key in table.options:
                self.complain(name, f"{origin} takes no options", key)
            return None
        if not (inspect.isclass(model) and issubclass(model, Options)):
            self.complain(name, f"{origin}: its Options is no gatepost.Options")
            return None
        try:
            return validate_options(model, table, self.config, self.recorder)
        except ConfigError as error:
            self.mistakes += error.mistakes
            return None

    def _construct(self, name: str, plugin: Any, origin: str, options: Options | None) -> Any:
        """The plugin object: an instance of the class with the services that its constructor names, or the module."""
        if not inspect.isclass(plugin):
            return plugin
        wanted = [] if plugin.__init__ is object.__init__ else list(inspect.signature(plugin).parameters)
        if unknown := [parameter for parameter in wanted if parameter not in SERVICES]:
            self.complain(name, f"{origin}: its constructor asks for {unknown[0]!r}; there are {', '.join(SERVICES)}")
            return None
        try:
            return plugin(**{parameter: self.services.get(parameter, name, options) for parameter in wanted})
        except BaseException as error:
            self.complain(name, f"{origin}: its constructor failed: {type(error).__name__}: {error}")
            return None

    def _check_table(self, name: str, plugin: Any) -> None:
        """What the configuration says of a plugin that does not go together with what it declares."""
        table, grants = self.config.plugin(name), _grants(plugin)
        if table.mode == "observe" and grants:
            listed = ", ".join(sorted(grants))
            self.complain(name, f"it grants {listed}, so it cannot be observed: use enforce or off", "mode")
        known = {phase for phase, _ in hooks_of(plugin)}
        for phase in sorted(set(table.phases or ()) - known):
            offered = ", ".join(phase for phase in PHASES if phase in known)
            self.complain(name, f"it does not take part in {phase!r}, but in {offered}", "phases")


def load_policy(config: Config, services: Services, recorder: Recorder) -> Policy:
    """Load the policy. Raises ``ConfigError`` with every mistake in it."""
    instances, mistakes = survey_plugins(config, services, recorder)
    if mistakes:
        raise ConfigError(mistakes)
    orders = {name: _order(config, listener.plugins) for name, listener in config.listeners.items()}
    default_order = _order(config, None)
    score = Score(config.score.defer_at, config.score.deny_at)

    def gate(order: Sequence[str]) -> Gate:
        chosen = [instances[name] for name in order]
        return make_gate(chosen, services.clock, recorder, score)

    deprecations = []
    for instance, sentence in deprecated(tuple(instances.values())):
        recorder.event(
            events.DEPRECATED,
            plugin=instance.name,
            package=instance.package,
            version=instance.version,
            reason=sentence,
        )
        message = f"{instance.package} {instance.version}".strip() + f": {sentence}"
        place = config.locate(("plugins", instance.name))
        deprecations.append(Mistake(*place, f"plugins.{instance.name}", message))
    return Policy(
        instances=instances,
        gates={name: gate(order) for name, order in orders.items()},
        manager=register(tuple(instances.values())),
        default=gate(default_order),
        deprecations=tuple(deprecations),
    )


def survey_plugins(config: Config, services: Services, recorder: Recorder) -> tuple[dict[str, Instance], list[Mistake]]:
    """Every plugin of every order that can be loaded, by name, and every mistake there is."""
    loader = _Loader(config, services=services, recorder=recorder)
    orders = (None, *(listener.plugins for listener in config.listeners.values()))
    named = dict.fromkeys(name for own in orders for name in _order(config, own))
    instances = {name: made for name in named if (made := loader.instance(name)) is not None}
    _complain_of_twins(loader, instances)
    return instances, sorted(loader.mistakes, key=lambda mistake: (mistake.where, mistake.line))


def make_gate(
    instances: Sequence[Instance],
    clock: Clock,
    recorder: Recorder,
    score: Score | None = None,
) -> Gate:
    """A gate over ``instances``, in that order, without those that are off."""
    if score == Score():
        score = None
    instances = [instance for instance in instances if instance.mode is not Mode.OFF]
    return Gate(register(instances), instances, clock=clock, recorder=recorder, score=score)


def register(instances: Sequence[Instance]) -> pluggy.PluginManager:
    """A pluggy manager that holds ``instances``, last one first, so that its list comes out in their order."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hookspecs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # ``deprecated`` tells them once, with the plugin's name
        for instance in reversed(instances):
            manager.register(instance.plugin, name=instance.name)
    manager.check_pending()
    return manager


def deprecated(instances: Sequence[Instance]) -> Iterator[tuple[Instance, str]]:
    """Every phase and argument that an instance takes and that will go away, as a sentence.

    These are marked in ``Hookspecs``, with pluggy's ``warn_on_impl`` and ``warn_on_impl_args``.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hookspecs)
    for instance in instances:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DeprecationWarning)
            manager.register(instance.plugin, name=instance.name)
        yield from ((instance, str(each.message)) for each in caught if issubclass(each.category, DeprecationWarning))


def _order(config: Config, own: Sequence[str] | None) -> tuple[str, ...]:
    names = config.order if own is None else own
    return tuple(name for name in names if config.plugin(name).mode != "off")


def _complain_of_twins(loader: _Loader, instances: Mapping[str, Instance]) -> None:
    """A module is one plugin, so it can be configured once only."""
    seen: dict[int, str] = {}
    for name, instance in instances.items():
        first = seen.setdefault(id(instance.plugin), name)
        if first != name:
            loader.complain(name, f"it is the same module as {first}; a module can be used once only", "use")


def _instance(name: str, plugin: Any, table: Any, origin: str) -> Instance:
    package, _, version = (origin, "", "") if origin.endswith(".py") else origin.rpartition(" ")
    return Instance(
        name=name,
        plugin=plugin,
        mode=Mode(table.mode),
        time_limit=table.time_limit,
        on_error=table.on_error or getattr(plugin, "on_error", "defer"),
        reject_at=table.reject_at,
        phases=phases_of(plugin, table.phases),
        grants=_grants(plugin),
        skip_trusted=bool(getattr(plugin, "skip_trusted", False)),
        longest_wait=float(getattr(plugin, "longest_wait", 0.0)),
        package=package or origin,
        version=version if package else "",
    )
