"""What a configuration was read from, laid one layer over the other: a file, drop-ins, the environment.

Tables merge deeply; everything else (a list too) replaces what a lower layer said. Each key keeps the place it was
written at. This module does not know which keys there are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from gatepost.config.toml_lines import KeyPath


class Place(NamedTuple):
    """Where something was written: a file or an environment variable, and the line (0: unknown)."""

    where: str
    line: int


@dataclass(frozen=True, slots=True)
class Source:
    """What a configuration was read from: for relative paths, secrets, and messages with lines."""

    folder: Path = field(default_factory=Path.cwd)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    name: str = "configuration"
    places: Mapping[KeyPath, Place] = field(default_factory=dict, repr=False)
    tables: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """All that was written, laid together."""

    def locate(self, path: KeyPath) -> Place:
        """The place of a key, or of the nearest table around it that was written."""
        for depth in range(len(path), 0, -1):
            if path[:depth] in self.places:
                return self.places[path[:depth]]
        return Place(self.name, 0)

    def context(self) -> dict[str, Any]:
        """What the kinds of value in ``options.kinds`` want to know."""
        return {"folder": self.folder, "environ": self.environ, "source": self}


class Layers:
    """The merged tables and the place of each key."""

    def __init__(self) -> None:
        self.merged: dict[str, Any] = {}
        self.places: dict[KeyPath, Place] = {}

    def lay(self, table: Mapping[str, Any], where: str, lines: Mapping[KeyPath, int]) -> None:
        """Lay a table over what is there; ``lines`` has the line of each key, as far as there are lines."""
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
                self._forget(here, key in below)
                self.places[here] = Place(where, lines.get(here, 0))
            if isinstance(value, dict):
                if not isinstance(below.get(key), dict):
                    below[key] = {}
                self._merge(below[key], value, here, where, lines)
            else:
                below[key] = value
                self._place_parts(value, here, where, lines)

    def _place_parts(self, value: object, path: KeyPath, where: str, lines: Mapping[KeyPath, int]) -> None:
        """Note where the elements of a list stand, and what is in them."""
        if not isinstance(value, dict | list):
            return
        parts = enumerate(value) if isinstance(value, list) else value.items()
        for key, part in parts:
            here = (*path, key)
            self.places[here] = Place(where, lines.get(here, 0))
            self._place_parts(part, here, where, lines)

    def _forget(self, path: KeyPath, is_known: bool) -> None:
        if is_known:
            for place in [place for place in self.places if place[: len(path)] == path]:
                del self.places[place]
