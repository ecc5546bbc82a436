"""What installed distributions say of themselves: who made them, which gatepost they need, how to get them again.

It is read from their metadata (the core metadata of packaging.python.org: PEP 566 and 639; PEP 610 for where they came
from). Nothing of a distribution is imported, and nothing here knows what a plugin is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import NamedTuple

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

US = "gatepost"


def unmet(package: str) -> str:
    """The versions of gatepost that ``package`` requires, such as ``>=0.4``, when this is none of them; else "".

    A pre-release counts as the release that it leads to.
    """
    ours = metadata.version(US)
    for requirement in _requirements(package):
        wanted = requirement.specifier
        if requirement.name.lower() == US and not any(
            wanted.contains(version, prereleases=True) for version in (ours, Version(ours).base_version)
        ):
            return ",".join(sorted(map(str, wanted), reverse=True))  # the lower bound first
    return ""


def _requirements(package: str) -> Iterator[Requirement]:
    """What a distribution requires here and without extras. One that is not installed requires nothing."""
    try:
        written = metadata.requires(package) or ()
    except (metadata.PackageNotFoundError, ValueError):
        return
    for line in written:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # the installer's affair
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


class Imprint(NamedTuple):
    """Who answers for a distribution. "" where it does not say."""

    author: str
    licence: str
    home: str


def imprint(package: str) -> Imprint:
    """The imprint of an installed distribution; an empty one when there is none of that name."""
    try:
        said = metadata.metadata(package)
    except (metadata.PackageNotFoundError, ValueError):
        return Imprint("", "", "")
    people = [*said.get_all("Author", ()), *said.get_all("Author-email", ())]
    people = people or [*said.get_all("Maintainer", ()), *said.get_all("Maintainer-email", ())]
    return Imprint(", ".join(people), _licence(said), _home(said))


def _licence(said: metadata.PackageMetadata) -> str:
    """The SPDX expression of PEP 639, else the older classifiers, else the first line of the older free text."""
    if expression := said.get_all("License-Expression"):
        return str(expression[0])
    if named := [each for each in said.get_all("Classifier", ()) if each.startswith("License ::")]:
        return ", ".join(each.rpartition(" :: ")[2] for each in named)
    return next(iter(str("\n".join(said.get_all("License", ()))).splitlines()), "")


_HOMES = ("homepage", "home", "repository", "source", "sourcecode", "github", "documentation")
"""Labels of a project's addresses that lead to its home, the best first; as normalized by the metadata's rules."""


def _home(said: metadata.PackageMetadata) -> str:
    pairs = [each.partition(",") for each in said.get_all("Project-URL", ())]
    labelled = {"".join(filter(str.isalnum, label)).lower(): url.strip() for label, _, url in pairs}
    old = next(iter(said.get_all("Home-page", ())), "")
    return next((labelled[label] for label in _HOMES if label in labelled), old) or next(iter(labelled.values()), "")


class Pin(NamedTuple):
    """A distribution in the version that is installed."""

    package: str
    version: str
    came_from: str
    """The address it was installed from when that was not an index, else ""."""


def pins(packages: Iterable[str]) -> list[Pin]:
    """gatepost and ``packages``, each once: gatepost first, then by name. What is not installed is left out."""
    found = [Pin(each, metadata.version(each), _came_from(each)) for each in {US, *packages} - {""}]
    return sorted(found, key=lambda pin: (pin.package != US, pin.package))


def _came_from(package: str) -> str:
    """The ``url`` of PEP 610."""
    try:
        return str(json.loads(metadata.distribution(package).read_text("direct_url.json") or "{}").get("url", ""))
    except ValueError:
        return ""
