"""The page on the architecture shows the current imports and the current folder."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from architecture_picture import CORE, PICTURE, draw, layers, reduced  # noqa: E402


def test_the_picture_shows_the_current_imports() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(), "draw it again: python docs/architecture_picture.py"


def test_an_arrow_that_others_imply_is_left_out() -> None:
    assert reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_layers_name_every_module_of_the_folder() -> None:
    present = {path.stem for path in CORE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {name for layer in layers() for name in layer} == present - {"__init__"}
