"""A plugin of one's own, a package of somebody else's, and the rows of the list."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.cli.running import SOUND, Folder, facts

MINE = '''"""Say nothing about anybody.

At length.
"""
from gatepost import Duration, Options, hookimpl


class MineOptions(Options):
    patience: Duration = 3.0
    """How long."""


class Mine:
    Options = MineOptions
    on_error = "pass"

    def __init__(self, options):
        pass

    @hookimpl(ahead=True)
    async def mail(self):
        return None

    @hookimpl
    def connect(self):
        return None
'''


WITH_MINE = (
    SOUND.replace('"recipients", "discard"', '"mine", "recipients", "discard"') + '[plugins.mine]\nuse = "mine.py"\n'
)


def rows(*arguments: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in facts("plugins", *arguments)}


def stranger(folder: Folder, monkeypatch: pytest.MonkeyPatch, *lines: str, package: str = "gatepost-thing") -> None:
    """Install a package of somebody's that offers ``thing``; ``lines`` are of its metadata."""
    facts = folder.path / f"{package.replace('-', '_')}-1.5.dist-info"
    facts.mkdir()
    head = ("Metadata-Version: 2.4", f"Name: {package}", "Version: 1.5")
    (facts / "METADATA").write_text("\n".join((*head, *lines, "")))
    (facts / "entry_points.txt").write_text("[gatepost.plugins]\nthing = gatepost_thing_of_a_stranger:Mine\n")
    (folder.path / "gatepost_thing_of_a_stranger.py").write_text(MINE)
    monkeypatch.syspath_prepend(folder.path)
