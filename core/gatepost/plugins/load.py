"""Loading: from the plugins that a configuration names to instances, and from those to the gate of each listener.

``discovery`` finds the classes and modules, ``contract`` judges them; here options are validated, objects are made, and
everything that is wrong is collected: each mistake is a sentence with plugin, package and version, and all of them come
at once, before a socket is bound.

The order is the list in the configuration and nothing else: plugins are registered with pluggy in reverse, so that its
list comes out as configured. This module asks no plugin anything: see ``gate``.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pluggy

from gatepost import events
from gatepost.config import Config, PluginTable, validate_options
from gatepost.errors import ConfigError, Mistake, PluginError, place_of
from gatepost.events import Recorder
from gatepost.gate import Gate, Instance, Mode, Score
from gatepost.hookspecs import PHASES, PROJECT, Hookspecs
from gatepost.options import Options
from gatepost.plugins.contract import declaration_of, declared_grants, hooks_of, options_of, problems_of
from gatepost.plugins.discovery import Found, Installed, find_plugin, installed
from gatepost.plugins.services import SERVICES, Services
from gatepost.services.clock import Clock
from gatepost.services.next_hop import NextHops


@dataclass(slots=True)
class Policy:
    """The loaded plugins: their instances, and the gate of each listener."""

    instances: dict[str, Instance]
    gates: dict[str, Gate]
    manager: pluggy.PluginManager
    """Holds all instances once, for startup and shutdown."""
    default: Gate
    """The gate of ``[plugins] order``."""
    deprecations: tuple[Mistake, ...] = ()
    """The deprecated features that plugins use, for ``check``."""
    next_hops: NextHops | None = None
    """The clients of next hops that the plugins have opened: they are closed when the policy ends."""


def load_policy(config: Config, services: Services, recorder: Recorder) -> Policy:
    """Load the policy. Raises ``ConfigError`` with every mistake in it."""
    policy, mistakes = survey_policy(config, services, recorder)
    if mistakes:
        raise ConfigError(mistakes)
    return policy


def survey_policy(config: Config, services: Services, recorder: Recorder) -> tuple[Policy, list[Mistake]]:
    """Return the policy of those plugins that can be loaded, and every mistake in the others."""
    services = replace(services, next_hop=services.next_hop.branch())
    instances, mistakes = survey_plugins(config, services, recorder)
    score = Score(config.score.defer_at, config.score.deny_at)

    def gate(own: Sequence[str] | None) -> Gate:
        loaded = [instances[name] for name in _order(config, own) if name in instances]
        return make_gate(loaded, services.clock, recorder, score)

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
        deprecations.append(config.mistake(("plugins", instance.name), message))
    policy = Policy(
        instances=instances,
        gates={name: gate(listener.plugins) for name, listener in config.listeners.items()},
        manager=register(tuple(instances.values())),
        default=gate(None),
        deprecations=tuple(deprecations),
        next_hops=services.next_hop,
    )
    return policy, mistakes


def survey_plugins(config: Config, services: Services, recorder: Recorder) -> tuple[dict[str, Instance], list[Mistake]]:
    """Return every plugin of every order that can be loaded, by name, and every mistake."""
    offers, instances, mistakes = installed(), dict[str, Instance](), list[Mistake]()
    orders = (None, *(listener.plugins for listener in config.listeners.values()))
    for name in dict.fromkeys(name for own in orders for name in _order(config, own)):
        try:
            instances[name] = _load_plugin(config, name, offers, services, recorder)
        except ConfigError as error:
            mistakes += error.mistakes
    seen: dict[int, str] = {}
    for name, instance in tuple(instances.items()):
        first = seen.setdefault(id(instance.plugin), name)
        if first != name:  # a class makes an object for each table; of a module there is only one
            message = f"it is the same module as {first}; a module can be used once only"
            mistakes.append(config.mistake(("plugins", name, "use"), message))
            del instances[name]
    return instances, sorted(mistakes, key=lambda mistake: (mistake.where, mistake.line))


def read_options(config: Config, services: Services, recorder: Recorder) -> list[Options]:
    """Return the options of all plugins that have valid ones.

    This reads and parses their list files, so that ``load_policy`` finds it done while the result is kept: call it in
    a thread before, where clients are being served.
    """
    offers, read = installed(), list[Options]()
    orders = (None, *(listener.plugins for listener in config.listeners.values()))
    for name in dict.fromkeys(name for own in orders for name in _order(config, own)):
        with suppress(ConfigError):  # ``load_policy`` tells the mistakes
            if model := options_of(find_plugin(config, name, offers).plugin):
                read.append(validate_options(model, config.plugin(name), config, recorder, services.files))
    return read


def _order(config: Config, own: Sequence[str] | None) -> tuple[str, ...]:
    """Return the plugins of a listener, in its own order or that of ``[plugins]``, without those that are off."""
    names = config.order if own is None else own
    return tuple(name for name in names if config.plugin(name).mode != "off")


def _load_plugin(
    config: Config, name: str, offers: Sequence[Installed], services: Services, recorder: Recorder
) -> Instance:
    """Find, check and make the plugin ``name``. Raises ``ConfigError`` with every mistake."""
    found, table = find_plugin(config, name, offers), config.plugin(name)
    path, options, mistakes = ("plugins", name), None, list[Mistake]()
    mistakes += [config.mistake(path, f"{found.origin}: {problem}") for problem in problems_of(found.plugin)]
    can_be_made = not mistakes
    if model := options_of(found.plugin):
        try:
            options = validate_options(model, table, config, recorder, services.files)
        except ConfigError as error:
            mistakes += error.mistakes
            can_be_made = False
    else:
        mistakes += [config.mistake((*path, key), f"{found.origin} takes no options") for key in table.options]
    mistakes += [config.mistake((*path, key), message) for key, message in conflicts(found.plugin, table)]
    if can_be_made:  # also if the table has mistakes, since the constructor may have more to say
        try:
            instance = make_instance(found, table, options, services)
        except PluginError as error:
            mistakes.append(config.mistake(path, f"{found.origin}: {error}"))
    if mistakes or not can_be_made:
        raise ConfigError(mistakes)
    return instance


def conflicts(plugin: Any, table: PluginTable) -> Iterator[tuple[str, str]]:
    """Yield the keys of a table that contradict the plugin's hooks and declarations, each with a sentence."""
    if table.mode == "observe" and (grants := declared_grants(plugin)):
        yield "mode", f"it grants {', '.join(sorted(grants))}, so it cannot be observed: use enforce or off"
    known = {phase for phase, _ in hooks_of(plugin)}
    for phase in sorted(set(table.phases or ()) - known):
        offered = ", ".join(phase for phase in PHASES if phase in known)
        yield "phases", f"it does not take part in {phase!r}, but in {offered}"


def make_instance(found: Found, table: PluginTable, options: Options | None, services: Services) -> Instance:
    """Make the object of a plugin without problems, and read what it declares. Raises ``PluginError``.

    A class is given the services that its constructor names; a module or an object is taken as it is.
    """
    made = found.plugin
    if inspect.isclass(made):
        wanted = () if made.__init__ is object.__init__ else tuple(inspect.signature(made).parameters)
        if unknown := [parameter for parameter in wanted if parameter not in SERVICES]:
            raise PluginError(f"its constructor asks for {unknown[0]!r}; there are {', '.join(SERVICES)}")
        try:
            made = made(**{parameter: services.get(parameter, table.name, options) for parameter in wanted})
        except BaseException as error:  # the constructor may raise anything, such as SystemExit
            place = place_of(error, made)
            where = f" ({place})" if place else ""
            raise PluginError(f"its constructor failed: {type(error).__name__}: {error}{where}") from error
    declaration = declaration_of(made)
    phases = declaration.phases
    if table.phases is not None:
        phases = frozenset(table.phases) if phases is None else phases.intersection(table.phases)
    return Instance(
        name=table.name,
        plugin=made,
        declaration=declaration,
        mode=Mode(table.mode),
        time_limit=table.time_limit if "time_limit" in table.model_fields_set else declaration.time_limit,
        on_error=table.on_error or declaration.on_error,
        reject_at=table.reject_at,
        phases=phases,
        package=found.package,
        version=found.version,
    )


def make_gate(instances: Sequence[Instance], clock: Clock, recorder: Recorder, score: Score | None = None) -> Gate:
    """Return a gate over ``instances``, in that order, without those that are off."""
    if score == Score():  # without a limit there is no score, and ``session.scored`` must say so
        score = None
    instances = [instance for instance in instances if instance.mode is not Mode.OFF]
    return Gate(register(instances), instances, clock=clock, recorder=recorder, score=score)


def register(instances: Sequence[Instance]) -> pluggy.PluginManager:
    """Return a pluggy manager that holds ``instances``.

    pluggy calls the plugin that was registered last first, so they are registered in reverse order.
    """
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hookspecs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # ``deprecated`` reports them once, with the plugin's name
        for instance in reversed(instances):
            manager.register(instance.plugin, name=instance.name)
    manager.check_pending()
    return manager


def deprecated(instances: Sequence[Instance]) -> Iterator[tuple[Instance, str]]:
    """Yield a sentence for every phase and argument that an instance takes and that will be removed.

    These are marked in ``Hookspecs``, with pluggy's ``warn_on_impl`` and ``warn_on_impl_args``.
    """
    # pluggy warns when a plugin is registered, so a manager of its own tells which plugin a warning is about.
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(Hookspecs)
    for instance in instances:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DeprecationWarning)
            manager.register(instance.plugin, name=instance.name)
        yield from ((instance, str(each.message)) for each in caught if issubclass(each.category, DeprecationWarning))
