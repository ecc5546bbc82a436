"""Plugins: found through entry points, configured from TOML, ordered, checked, and loaded into gates.

Only what an order names is imported. Every mistake is one sentence with plugin, package and version; all of them come
at once and before a socket is bound. Order is the list in the configuration and nothing else: plugins are registered
with pluggy in reverse, so that its list comes out as configured.

This module asks no plugin anything: see ``gate``.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pluggy

from gatepost.config import Config, validate_options
from gatepost.distributions import unmet
from gatepost.errors import ConfigError, Mistake, PluginError
from gatepost.events import Recorder
from gatepost.gate.chain import arguments_of
from gatepost.gate.gate import Gate
from gatepost.gate.instance import GRANTS, Instance, Mode
from gatepost.gate.score import Score
from gatepost.hookspecs import ALL_RUN, HOOKS_VERSION, PHASES, PROJECT, Hookspecs
from gatepost.options import Options
from gatepost.services.clock import Clock
from gatepost.services.dns.resolver import Resolver
from gatepost.services.host import Log
from gatepost.services.next_hop.service import NextHops
from gatepost.services.store.store import Backend

GROUP = "gatepost.plugins"
_MARK = f"{PROJECT}_impl"


@dataclass(frozen=True, slots=True)
class Services:
    """What a plugin may ask for in its constructor, besides ``options`` and ``name``."""

    dns: Resolver
    store: Backend
    clock: Clock
    next_hop: NextHops
    log: Callable[[str], Log]

    def get(self, wanted: str, name: str, options: Options | None) -> Any:
        """The service called ``wanted``, for the plugin instance ``name``. Raises ``KeyError`` when there is none."""
        offered: dict[str, Callable[[], Any]] = {
            "options": lambda: options,
            "name": lambda: name,
            "dns": lambda: self.dns,
            "store": lambda: self.store.namespace(name),
            "clock": lambda: self.clock,
            "next_hop": lambda: self.next_hop,
            "log": lambda: self.log(name),
        }
        return offered[wanted]()


SERVICES = ("options", "dns", "store", "clock", "next_hop", "log", "name")


@dataclass(frozen=True, slots=True)
class Installed:
    """A plugin that some distribution offers. Nothing of it is imported to know this."""

    name: str
    target: str
    """``module:Class``, as the entry point says."""
    package: str
    version: str

    @property
    def origin(self) -> str:
        """Package and version, for messages."""
        return f"{self.package} {self.version}".strip()

    def load(self) -> Any:
        """Import it. Raises whatever the plugin's module raises."""
        return importlib.metadata.EntryPoint(self.name, self.target, GROUP).load()


def installed() -> tuple[Installed, ...]:
    """All plugins that installed distributions offer, by name."""
    found = {
        Installed(
            point.name, point.value, point.dist.name if point.dist else "", point.dist.version if point.dist else ""
        )
        for point in importlib.metadata.entry_points(group=GROUP)
    }
    return tuple(sorted(found, key=lambda offer: (offer.name, offer.package)))


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
class _Finder:
    """Finds the class or module of each configured plugin, and complains of those that cannot be had."""

    config: Config
    offers: tuple[Installed, ...] = field(default_factory=installed)
    mistakes: list[Mistake] = field(default_factory=list)

    def complain(self, name: str, message: str, *keys: str) -> None:
        place = self.config.locate(("plugins", name, *keys))
        self.mistakes.append(Mistake(place.where, place.line, ".".join(("plugins", name, *keys)), message))

    def find(self, name: str) -> tuple[Any, str] | None:
        """The class or module of the plugin ``name`` and where it comes from, or None after a complaint."""
        use = self.config.plugin(name).use
        found = self._find_file(name, self.config.folder / use) if use.endswith(".py") else self._find_offer(name, use)
        if found is not None and (newer := _made_for_newer(found[0])):
            self.complain(name, f"{found[1]}: {newer}")
            return None
        return found

    def _find_offer(self, name: str, use: str) -> tuple[Any, str] | None:
        offers = [offer for offer in self.offers if offer.name == use]
        if len(offers) == 1:
            return self._import(name, offers[0])
        if offers:
            packages = " and ".join(offer.origin for offer in offers)
            self.complain(name, f"{use} is offered by two packages, {packages}; uninstall one")
        else:
            near = difflib.get_close_matches(use, [offer.name for offer in self.offers], 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            self.complain(name, f"no installed package offers a plugin {use!r}{hint}")
        return None

    def _import(self, name: str, offer: Installed) -> tuple[Any, str] | None:
        if wanted := unmet(offer.package):
            ours = importlib.metadata.version("gatepost")
            self.complain(name, f"{offer.name} of {offer.origin} is made for gatepost {wanted}, and this is {ours}")
            return None
        try:
            return offer.load(), offer.origin
        except BaseException as error:
            self.complain(name, f"{offer.name} of {offer.origin} cannot be imported: {type(error).__name__}: {error}")
            return None

    def _find_file(self, name: str, path: Path) -> tuple[Any, str] | None:
        spec = importlib.util.spec_from_file_location(f"gatepost_local_{name}", path)
        if spec is None or spec.loader is None or not path.is_file():
            self.complain(name, f"{path} is no Python file that can be read", "use")
            return None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses and pydantic look up what annotations mean
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            self.complain(name, f"{path} cannot be imported: {type(error).__name__}: {error}", "use")
            return None
        classes = [
            value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__
        ]
        plugins = [value for value in classes if any(True for _ in hooks_of(value))]
        if len(plugins) > 1:
            self.complain(name, f"{path} holds several plugins: {', '.join(each.__name__ for each in plugins)}", "use")
            return None
        return (plugins[0] if plugins else module), str(path)


@dataclass(slots=True)
class _Loader(_Finder):
    """Makes an instance of each configured plugin, with its options and services."""

    services: Services = field(kw_only=True)

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
            return validate_options(model, table, self.config)
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


def load(config: Config, services: Services, recorder: Recorder) -> Policy:
    """Load the policy. Raises ``ConfigError`` with every mistake in it."""
    instances, mistakes = survey(config, services)
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
        whose = {"plugin": instance.name, "package": instance.package, "version": instance.version}
        recorder.event("deprecated", "warning", **whose, reason=sentence)
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


def find(config: Config, names: Iterable[str]) -> tuple[dict[str, tuple[Any, str]], list[Mistake]]:
    """The class or module of each plugin and where it comes from, as far as it can be had; and the mistakes.

    A name is that of an instance in the configuration, or of an installed plugin. Nothing is made of it.
    """
    finder = _Finder(config)
    return {name: found for name in names if (found := finder.find(name)) is not None}, finder.mistakes


def survey(config: Config, services: Services) -> tuple[dict[str, Instance], list[Mistake]]:
    """Every plugin of every order that can be loaded, by name, and every mistake there is."""
    loader = _Loader(config, services=services)
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


def _grants(plugin: Any) -> frozenset[str]:
    """What a plugin declares as ``grants``: one name or several. Of what is neither, ``problems_of`` complains."""
    declared = getattr(plugin, "grants", ())
    names = (declared,) if isinstance(declared, str) else declared
    named = isinstance(names, Collection) and all(isinstance(name, str) for name in names)
    return frozenset(names) if named else frozenset()


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


def phases_of(plugin: Any, configured: Collection[str] | None) -> frozenset[str] | None:
    """The phases in which a plugin object takes part, as it declares and as is configured; None: all it implements.

    Raises ``PluginError`` when it declares what is no phase.
    """
    declared = getattr(plugin, "phases", None)
    if declared is None:
        return None if configured is None else frozenset(configured)
    phases = frozenset(declared)
    if unknown := sorted(phases.difference(PHASES)):
        raise PluginError(f"its phases names {unknown[0]!r}, which is no phase")
    return phases if configured is None else phases.intersection(configured)


def hooks_of(plugin: Any) -> Iterator[tuple[str, Any]]:
    """The phases that a class, an object or a module implements, with their functions. Runs no property."""
    for name in dir(plugin):
        static = inspect.getattr_static(plugin, name, None)
        function = static.__func__ if isinstance(static, staticmethod | classmethod) else static
        marks = getattr(function, _MARK, None) if isinstance(function, types.FunctionType) else None
        if marks is not None:
            yield marks.get("specname") or name, function


def _made_for_newer(plugin: Any) -> str:
    """A sentence when a plugin declares a later ``hooks_version`` than ours, else ""."""
    wanted = getattr(plugin, "hooks_version", HOOKS_VERSION)
    if isinstance(wanted, int) and wanted <= HOOKS_VERSION:
        return ""
    return f"it is made for hooks version {wanted}, and this gatepost has {HOOKS_VERSION}: a newer one is needed"


def problems_of(plugin: Any) -> Iterator[str]:
    """What is wrong with a plugin's hooks and declarations, a sentence each."""
    hooks = tuple(hooks_of(plugin))
    if not hooks:
        yield "it implements no phase; its hooks are those marked with @hookimpl"
    for phase, function in hooks:
        marks = getattr(function, _MARK)
        if phase not in PHASES:
            if not marks["optionalhook"]:
                near = difflib.get_close_matches(phase, PHASES, 1)
                yield f"it implements {phase!r}, which is no phase" + (f"; did you mean {near[0]}?" if near else "")
            continue
        yield from _problems_of_hook(phase, function, marks, takes_self=inspect.isclass(plugin))
    yield from _problems_of_declarations(plugin)


def _problems_of_hook(phase: str, function: Any, marks: Mapping[str, Any], takes_self: bool) -> Iterator[str]:
    for refused in ("wrapper", "hookwrapper", "tryfirst", "trylast"):
        if marks[refused]:
            yield f"its {phase} is marked {refused}, which would break the order that the configuration states"
    known = arguments_of(phase)
    for number, parameter in enumerate(inspect.signature(function).parameters.values()):
        if number == 0 and takes_self:
            continue
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            yield f"its {phase} takes {parameter}, but a hook takes plain arguments only"
        elif parameter.name not in known:
            yield f"its {phase} asks for {parameter.name!r}, but {phase} has {', '.join(known)}"
    yield from _problems_of_kind(phase, inspect.iscoroutinefunction(function), marks)


def _problems_of_kind(phase: str, is_async: bool, marks: Mapping[str, Any]) -> Iterator[str]:
    if marks.get("ahead") and not is_async:
        yield f"its {phase} is marked ahead=True, which is for an async def"
    if marks.get("ahead") and (phase == "queue" or phase in ALL_RUN):
        yield f"its {phase} is marked ahead=True, which is for a look-up that may be asked in vain"
    if marks.get("blocking") and is_async:
        yield f"its {phase} is marked blocking=True, which is for a plain def"
    if phase == "ruled" and (is_async or marks.get("blocking")):
        yield "its ruled must be a plain def: nobody waits for it"


def _problems_of_declarations(plugin: Any) -> Iterator[str]:
    grants = _grants(plugin)
    if not grants and bool(getattr(plugin, "grants", None)):
        yield f"its grants is neither a name nor several; there are {', '.join(GRANTS)}"
    for grant in sorted(grants):
        if grant not in GRANTS:
            yield f"it declares the grant {grant!r}; there are {', '.join(GRANTS)}"
    if getattr(plugin, "on_error", "defer") not in ("defer", "pass"):
        yield 'its on_error is neither "defer" nor "pass"'
