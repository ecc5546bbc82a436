"""A folder of installed packages with plugins, a configuration, and the result of loading it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

import pytest

from gatepost import NextHops
from gatepost import config as configuration
from gatepost.errors import ConfigError
from gatepost.plugins.load import Policy as Loaded
from gatepost.plugins.load import load_policy
from gatepost.plugins.services import Services
from tests.policy import Events, Policy

HEAD = "from __future__ import annotations\nfrom gatepost import *\nfrom gatepost import hookimpl, deny\n"
GOOD = """
class Plugin:
    @hookimpl
    def mail(self, sender: Address) -> Decision | None:
        return deny("no")
"""


class Packages:
    """A folder of installed packages, a configuration, and what loading it says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.toml = folder / "gatepost.toml"
        self.events = Events()

    def install(
        self,
        plugin: str,
        body: str = GOOD,
        *,
        package: str = "",
        version: str = "1.0",
        target: str = "",
        requires: Iterable[str] = (),
    ) -> None:
        """Install a package that offers ``plugin`` as ``module:Plugin`` of ``body``."""
        package = package or f"gatepost-{plugin}"
        module = package.replace("-", "_") + "_module"
        (self.folder / f"{module}.py").write_text(HEAD + textwrap.dedent(body))
        facts = self.folder / f"{package.replace('-', '_')}-{version}.dist-info"
        facts.mkdir()
        required = "".join(f"Requires-Dist: {each}\n" for each in requires)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n{required}")
        target = target or f"{module}:Plugin"
        (facts / "entry_points.txt").write_text(f"[gatepost.plugins]\n{plugin} = {target.format(module=module)}\n")

    def file(self, name: str, body: str) -> None:
        """Write a plugin of one's own beside the configuration."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEAD + textwrap.dedent(body))

    def load(self, toml: str) -> Loaded:
        self.toml.write_text(textwrap.dedent(toml))
        policy = Policy()
        services = Services(
            dns=policy.dns,
            store=policy.store,
            clock=policy.clock,
            next_hop=NextHops(policy.clock, "mx.example.org"),
            log=lambda name: name,  # type: ignore[arg-type, return-value]
        )
        return load_policy(configuration.load_config(self.toml, {}), services, self.events)

    def mistakes(self, toml: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(toml)
        return [
            f"{Path(mistake.where).name}:{mistake.line}: {mistake.key}: {mistake.message}"
            for mistake in caught.value.mistakes
        ]


LISTEN = '[listen.smtp]\nbind = ["127.0.0.1:2525"]\n'
ONE = f'{LISTEN}[plugins]\norder = ["thing"]\n'


def body(hook: str, declarations: str = "") -> str:
    return f"class Plugin:\n    {declarations or 'pass'}\n    {hook}\n"
