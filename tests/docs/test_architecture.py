"""The page on the architecture shows the current imports and the current folder."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from architecture_picture import CORE, PICTURE, draw, layers, reduced  # noqa: E402

PAGE = ROOT / "docs" / "architecture.md"


def test_the_picture_shows_the_current_imports() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(), "draw it again: python docs/architecture_picture.py"


def test_an_arrow_that_others_imply_is_left_out() -> None:
    assert reduced({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_layers_name_every_module_of_the_folder() -> None:
    present = {path.stem for path in CORE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert {name for layer in layers() for name in layer} == present - {"__init__"}


def rows() -> list[tuple[str, str]]:
    """The paths of the page, each with the name that follows it, or ""."""
    page = PAGE.read_text(encoding="utf-8")
    return re.findall(r"`([a-z_/]+\.(?:py|md))`(?: `([A-Za-z_.]+)`)?", page)


def resolved(path: str) -> Path:
    """The file that the page means: below the core, or from the top of the repository."""
    return next(place for place in (CORE / path, ROOT / path) if place.exists() or place == ROOT / path)


@pytest.mark.parametrize(("path", "name"), sorted(set(rows()) - {("doors/tls.py", "")}))
def test_the_page_names_files_and_definitions_that_are_there(path: str, name: str) -> None:
    source = resolved(path).read_text(encoding="utf-8")
    for part in filter(None, name.split(".")):
        assert re.search(rf"^ *(?:async )?(?:def|class) {part}\b|^ *{part}\b.*=", source, re.MULTILINE), (path, part)


def test_names_in_the_text_are_there_too() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name, path in re.findall(r"`([A-Za-z_.]+)` \(`([a-z_/]+\.py)`\)", page):
        source = resolved(path).read_text(encoding="utf-8")
        for part in name.split("."):
            assert re.search(rf"^ *(?:async )?(?:def|class) {part}\b|^ *{part}\b.*=", source, re.MULTILINE), name


def test_the_page_answers_twenty_questions() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## Where is it?")[2]
    assert len(re.findall(r"^\| ", table, re.MULTILINE)) >= 21
