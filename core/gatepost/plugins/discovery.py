"""Discovery: plugins of installed distributions, through entry points, and local files.

Only plugins that an order names are imported.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatepost.config import Config
from gatepost.errors import Mistake
from gatepost.hookspecs import HOOKS_VERSION
from gatepost.plugins.contract import hooks_of
from gatepost.plugins.distributions import unmet

GROUP = "gatepost.plugins"


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


def find_plugins(config: Config, names: Iterable[str]) -> tuple[dict[str, tuple[Any, str]], list[Mistake]]:
    """The class or module of each plugin and where it comes from, as far as it can be had; and the mistakes.

    A name is that of an instance in the configuration, or of an installed plugin. Nothing is made of it.
    """
    finder = _Finder(config)
    return {name: found for name in names if (found := finder.find(name)) is not None}, finder.mistakes


def _made_for_newer(plugin: Any) -> str:
    """A sentence when a plugin declares a later ``hooks_version`` than ours, else ""."""
    wanted = getattr(plugin, "hooks_version", HOOKS_VERSION)
    if isinstance(wanted, int) and wanted <= HOOKS_VERSION:
        return ""
    return f"it is made for hooks version {wanted}, and this gatepost has {HOOKS_VERSION}: a newer one is needed"
