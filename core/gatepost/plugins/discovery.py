"""Discovery: the classes and modules that configured plugins mean, from installed distributions or local files.

Distributions offer plugins through entry points. Only a plugin whose name is asked for is imported, and no object is
made of it: see ``load``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatepost.config import Config
from gatepost.errors import ConfigError, Mistake
from gatepost.plugins.contract import did_you_mean, hooks_of, needs_newer
from gatepost.plugins.distributions import unmet

GROUP = "gatepost.plugins"


@dataclass(frozen=True, slots=True)
class Installed:
    """A plugin that a distribution offers. Nothing of it is imported to know this."""

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


@dataclass(frozen=True, slots=True)
class Found:
    """The class or module of a configured plugin, and where it comes from."""

    plugin: Any
    package: str = ""
    """The distribution, or the path of a local file."""
    version: str = ""
    """"" for a local file."""

    @property
    def origin(self) -> str:
        """Package and version, or the path, for messages."""
        return f"{self.package} {self.version}".strip()


def installed() -> tuple[Installed, ...]:
    """Return all plugins that installed distributions offer, by name."""
    found = {
        Installed(
            point.name, point.value, point.dist.name if point.dist else "", point.dist.version if point.dist else ""
        )
        for point in importlib.metadata.entry_points(group=GROUP)
    }
    return tuple(sorted(found, key=lambda offer: (offer.name, offer.package)))


def find_plugins(config: Config, names: Iterable[str]) -> tuple[dict[str, Found], list[Mistake]]:
    """Return each plugin that can be imported, by name, and the mistakes of the others.

    A name is that of a table of the configuration, or of an installed plugin.
    """
    offers, found, mistakes = installed(), dict[str, Found](), list[Mistake]()
    for name in names:
        try:
            found[name] = find_plugin(config, name, offers)
        except ConfigError as error:
            mistakes += error.mistakes
    return found, mistakes


def find_plugin(config: Config, name: str, offers: Sequence[Installed]) -> Found:
    """Return the class or module of the plugin ``name``. Raises ``ConfigError`` if it cannot be used here."""
    use = config.plugin(name).use
    found = _in_file(config, name, config.folder / use) if use.endswith(".py") else _among(offers, config, name, use)
    if newer := needs_newer(found.plugin):
        # Nothing else is reported, because it may be right in the version of the hooks that the plugin was made for.
        raise _mistake(config, name, f"{found.origin}: {newer}")
    return found


def _among(offers: Sequence[Installed], config: Config, name: str, use: str) -> Found:
    """Import the plugin that an installed package offers under the name ``use``."""
    fitting = [offer for offer in offers if offer.name == use]
    if not fitting:
        hint = did_you_mean(use, [offer.name for offer in offers])
        raise _mistake(config, name, f"no installed package offers a plugin {use!r}{hint}")
    if len(fitting) > 1:
        packages = " and ".join(offer.origin for offer in fitting)
        raise _mistake(config, name, f"{use} is offered by two packages, {packages}; uninstall one")
    (offer,) = fitting
    if wanted := unmet(offer.package):
        ours = importlib.metadata.version("gatepost")
        raise _mistake(config, name, f"{use} of {offer.origin} is made for gatepost {wanted}, and this is {ours}")
    try:
        return Found(offer.load(), offer.package, offer.version)
    except BaseException as error:  # the code of a module may end in anything, such as SystemExit
        message = f"{use} of {offer.origin} cannot be imported: {type(error).__name__}: {error}"
        raise _mistake(config, name, message) from error


def _in_file(config: Config, name: str, path: Path) -> Found:
    """Import a local file: its class with hooks, or the module itself if no class has any."""
    spec = importlib.util.spec_from_file_location(f"gatepost_local_{name}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise _mistake(config, name, f"{path} is not a Python file that can be read", "use")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pydantic resolve annotations there
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        message = f"{path} cannot be imported: {type(error).__name__}: {error}"
        raise _mistake(config, name, message, "use") from error
    own = [value for value in vars(module).values() if inspect.isclass(value) and value.__module__ == module.__name__]
    hooked = [value for value in own if any(True for _ in hooks_of(value))]
    # A class that another one is made from is not meant to be asked itself.
    plugins = [value for value in hooked if not any(value in other.__mro__[1:] for other in hooked)]
    if len(plugins) > 1:
        names = ", ".join(plugin.__name__ for plugin in plugins)
        raise _mistake(config, name, f"{path} holds several plugins: {names}", "use")
    return Found(plugins[0] if plugins else module, str(path))


def _mistake(config: Config, name: str, message: str, *keys: str) -> ConfigError:
    """Return the error about the table of the plugin ``name``, or about a key in it."""
    return ConfigError([config.mistake(("plugins", name, *keys), message)])
