"""Facts about installed distributions: their authors, the gatepost that they need, and how to install them again.

They come from the metadata (the core metadata of packaging.python.org: PEP 566 and 639; PEP 610 for the origin).
Nothing of a distribution is imported, and this module does not know what a plugin is.
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
    """Return the versions of gatepost that ``package`` requires, such as ``>=0.4``, if ours is not among them, else "".

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
    """Yield what a distribution requires on this machine, without extras; nothing if it is not installed."""
    try:
        written = metadata.requires(package) or ()
    except (metadata.PackageNotFoundError, ValueError):
        return
    for line in written:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # the installer reports it
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


class Imprint(NamedTuple):
    """Author, licence and home page of a distribution; "" for what it does not state."""

    author: str
    licence: str
    home: str


def imprint(package: str) -> Imprint:
    """Return the imprint of an installed distribution; an empty one if it is not installed."""
    try:
        stated = metadata.metadata(package)
    except (metadata.PackageNotFoundError, ValueError):
        return Imprint("", "", "")
    # A person with an address is in the second field, with the name: "Ada <ada@example.org>".
    people = [*stated.get_all("Author", ()), *stated.get_all("Author-email", ())]
    people = people or [*stated.get_all("Maintainer", ()), *stated.get_all("Maintainer-email", ())]
    return Imprint(", ".join(people), _licence(stated), _home(stated))


def _licence(stated: metadata.PackageMetadata) -> str:
    """Return the SPDX expression of PEP 639, else the older classifiers, else the first line of the older free text."""
    if expression := stated.get_all("License-Expression"):
        return str(expression[0])
    if named := [each for each in stated.get_all("Classifier", ()) if each.startswith("License ::")]:
        return ", ".join(each.rpartition(" :: ")[2] for each in named)
    return next(iter("\n".join(stated.get_all("License", ())).splitlines()), "")


_HOMES = ("homepage", "home", "repository", "source", "sourcecode", "github", "documentation")
"""Labels of the URLs that may be a project's home page, the best first, normalized as the metadata's rules say."""


def _home(stated: metadata.PackageMetadata) -> str:
    pairs = [each.partition(",") for each in stated.get_all("Project-URL", ())]
    labelled = {"".join(filter(str.isalnum, label)).lower(): url.strip() for label, _, url in pairs}
    old = next(iter(stated.get_all("Home-page", ())), "")
    return next((labelled[label] for label in _HOMES if label in labelled), old) or next(iter(labelled.values()), "")


class Pin(NamedTuple):
    """A distribution with its installed version."""

    package: str
    version: str
    came_from: str
    """The URL that it was installed from, or "" if that was a package index."""


def pins(packages: Iterable[str]) -> list[Pin]:
    """Return gatepost and ``packages``, each once: gatepost first, the others by name. All must be installed."""
    found = [Pin(each, metadata.version(each), _came_from(each)) for each in {US, *packages} - {""}]
    return sorted(found, key=lambda pin: (pin.package != US, pin.package))


def _came_from(package: str) -> str:
    """Return the ``url`` of PEP 610."""
    try:
        return str(json.loads(metadata.distribution(package).read_text("direct_url.json") or "{}").get("url", ""))
    except ValueError:
        return ""
