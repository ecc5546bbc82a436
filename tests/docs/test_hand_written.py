"""What people wrote in the manual by hand holds: configurations load, commands and their options exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from gatepost.config import default_text
from tests.docs.manual import HAND_WRITTEN, ROOT, blocks, commands, mistakes_in

CONFIGURATIONS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in HAND_WRITTEN
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "toml"), 1)
    if "project" not in tomllib.loads(block)  # that is a pyproject.toml
]
COMMANDS = dict(commands())
COMMAND_LINES = [
    pytest.param(line, id=f"{page.name}: {line}")
    for page in HAND_WRITTEN
    for line in re.findall(r"^\$ .*?(gatepost .*?)(?:\s+#.*)?$", page.read_text(encoding="utf-8"), re.MULTILINE)
]
MENTIONED = sorted(
    {name for page in HAND_WRITTEN for name in re.findall(r"`(gatepost [a-z]+)", page.read_text(encoding="utf-8"))}
)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_configuration_in_the_manual_is_right(configuration: str, tmp_path: Path) -> None:
    assert mistakes_in(configuration, tmp_path) == []


@pytest.mark.parametrize("file", sorted((ROOT / "docs/examples").glob("*.toml")), ids=lambda file: file.name)
def test_an_example_file_is_right(file: Path, tmp_path: Path) -> None:
    assert mistakes_in(file.read_text(encoding="utf-8"), tmp_path) == []


def test_a_wrong_configuration_would_be_found(tmp_path: Path) -> None:
    assert mistakes_in('[plugins.earlytalker]\ndelay = "soon"\n', tmp_path)
    assert mistakes_in("[limits]\nidel = 1\n", tmp_path)
    assert mistakes_in("[plugins.forward]\n", tmp_path)


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_line_in_the_manual_can_be_typed(line: str) -> None:
    words = shlex.split(line)
    path = max((path for path in COMMANDS if words[: path.count(" ") + 1] == path.split()), key=len)
    assert path != "gatepost"
    known = {name for option in COMMANDS[path].params for name in option.opts}
    assert [word for word in words if word.startswith("-") and word not in known] == []


@pytest.mark.parametrize("path", MENTIONED)
def test_a_command_that_the_manual_mentions_exists(path: str) -> None:
    assert path in COMMANDS


def test_the_quick_start_describes_the_embedded_default() -> None:
    text = (ROOT / "docs/quick-start.md").read_text(encoding="utf-8")
    embedded = tomllib.loads(default_text({"HOME": "/home/a"}))
    assert embedded["listen"]["smtp"]["bind"] == ["127.0.0.1:2525"]
    assert "127.0.0.1:2525" in text
    assert embedded["plugins"]["order"] == ["earlytalker", "recipients", "maildir"]
    assert "`earlytalker` with a delay of three seconds" in text
    assert embedded["plugins"]["earlytalker"]["delay"] == "3s"
