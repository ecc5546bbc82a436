"""The pages of the manual and their parts, for the tests that compare the manual with the code."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gatepost.cli import main
from gatepost.config import Config, load_config, validate_options
from gatepost.errors import ConfigError
from gatepost.plugins.discovery import installed

ROOT = Path(__file__).parents[2]
HAND_WRITTEN = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/authors").rglob("*.md")),
    *sorted((ROOT / "docs/development").rglob("*.md")),
]


def reference() -> dict[str, str]:
    """Return the generated pages by their names."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        pages: dict[str, str] = importlib.import_module("reference_pages").pages()
    return pages


def commands(context: click.Context | None = None) -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its path, parents first."""
    context = context or click.Context(main, info_name="gatepost")
    yield context.command_path, context.command
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            yield from commands(click.Context(command, info_name=name, parent=context))


def section(page: str, heading: str) -> str:
    """Return the text between a heading and the next one."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"there is no {heading}"
    return found[1]


def prose(text: str) -> str:
    """Return the text without blocks of code."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL).strip()


def blocks(text: str, language: str) -> list[str]:
    """Return the blocks of code in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def mistakes_in(example: str, folder: Path) -> list[str]:
    """Return the mistakes in a configuration and its plugins' options. Files that it names need not exist."""
    file = folder / "gatepost.toml"
    file.write_text(example, encoding="utf-8")
    try:
        config = load_config(file, {})
    except ConfigError as error:
        return [str(mistake) for mistake in error.mistakes]
    written = config.plugins.__pydantic_extra__ or {}
    return [mistake for name in written for mistake in _mistakes_of_plugin(config, name)]


def _mistakes_of_plugin(config: Config, name: str) -> list[str]:
    table = config.plugin(name)
    if table.use.endswith(".py"):
        return []
    offer = next((offer for offer in installed() if offer.name == table.use), None)
    model = getattr(offer.load(), "Options", None) if offer else None
    if model is None:
        return [f"{table.use} is no plugin with options"]
    try:
        validate_options(model, table, config)
    except ConfigError as error:
        return [str(mistake) for mistake in error.mistakes if "No such file" not in mistake.message]
    return []
