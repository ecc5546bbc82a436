"""The layers of a configuration, one over the other: a file, drop-ins, the environment.

Tables merge deeply; every other value, also a list, replaces that of a lower layer. Each key keeps the place where it
was written. This module does not know the keys.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gatepost.config.toml_lines import KeyPath


class Place(NamedTuple):
    """The place of a key or value: a file or an environment variable, and the line (0: unknown)."""

    where: str
    line: int


@dataclass(frozen=True, slots=True)
class Source:
    """The origin of a configuration: for relative paths, secrets, and messages with lines."""

    folder: Path = field(default_factory=Path.cwd)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    name: str = "configuration"
    places: Mapping[KeyPath, Place] = field(default_factory=dict, repr=False)
    tables: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """All layers, merged."""
    replaced: Mapping[KeyPath, Sequence[Place]] = field(default_factory=dict, repr=False)
    """The places of values that a later layer replaces with another one, so that they have no effect."""
    is_complete: bool = True
    """False if a part could not be read, so that a key that is missing may stand there."""

    def locate(self, path: KeyPath) -> Place:
        """Return the place of a key, or of the nearest table around it that was written."""
        for depth in range(len(path), 0, -1):
            if path[:depth] in self.places:
                return self.places[path[:depth]]
        return Place(self.name, 0)

    def context(self) -> dict[str, Any]:
        """Return pydantic's validation context, as the kinds of value in ``options.kinds`` need it."""
        return {"folder": self.folder, "environ": self.environ, "source": self}


class Layers:
    """The merged layers: their tables, and the place of each key."""

    def __init__(self) -> None:
        self.merged: dict[str, Any] = {}
        self.places: dict[KeyPath, Place] = {}
        self.replaced: dict[KeyPath, list[Place]] = {}

    def add(self, table: Mapping[str, Any], where: str, lines: Mapping[KeyPath, int]) -> None:
        """Add a layer over the others. ``lines`` has the line of each key; it is empty for a source without lines."""
        self._merge(self.merged, table, (), where, lines)

    def _merge(
        self,
        below: dict[str, Any],
        table: Mapping[str, Any],
        path: KeyPath,
        where: str,
        lines: Mapping[KeyPath, int],
    ) -> None:
        for key, value in table.items():
            here = (*path, key)
            if not (isinstance(value, dict) and isinstance(below.get(key), dict)):
                if key in below:  # replaced, so the places inside it are gone too
                    if below[key] != value:
                        self.replaced.setdefault(here, []).append(self.places[here])
                    for place in [place for place in self.places if place[: len(here)] == here]:
                        del self.places[place]
                self.places[here] = Place(where, lines.get(here, 0))
            if isinstance(value, dict):
                if not isinstance(below.get(key), dict):
                    below[key] = {}
                self._merge(below[key], value, here, where, lines)
            else:
                below[key] = value
                self._place_parts(value, here, where, lines)

    def _place_parts(self, value: object, path: KeyPath, where: str, lines: Mapping[KeyPath, int]) -> None:
        """Note the place of each element of a list, and of everything inside it."""
        if not isinstance(value, dict | list):
            return
        parts = enumerate(value) if isinstance(value, list) else value.items()
        for key, part in parts:
            here = (*path, key)
            self.places[here] = Place(where, lines.get(here, 0))
            self._place_parts(part, here, where, lines)
