"""The hand-written pages of the manual are true: configurations load, and commands and their options exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gatepost import Address
from gatepost.cli import main
from gatepost.config import default_text
from gatepost.plugins.contract import problems_of
from tests.bench.works import FULL, NAMES, work
from tests.docs.manual import HAND_WRITTEN, ROOT, blocks, commands, mistakes_in

CONFIGURATIONS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in HAND_WRITTEN
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "toml"), 1)
    if "project" not in tomllib.loads(block)  # these are pyproject.toml
]
COMMANDS = dict(commands())
COMMAND_LINES = sorted(
    {
        line
        for page in HAND_WRITTEN
        for pattern in (r"^\$ .*?(gatepost .*?)(?:\s+#.*)?$", r"`(gatepost [^`]+)`")
        for line in re.findall(pattern, page.read_text(encoding="utf-8"), re.MULTILINE)
    }
)


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_configuration_in_the_manual_is_valid(configuration: str, tmp_path: Path) -> None:
    assert mistakes_in(configuration, tmp_path) == []


@pytest.mark.parametrize("file", sorted((ROOT / "docs/examples").glob("*.toml")), ids=lambda file: file.name)
def test_an_example_file_is_valid(file: Path, tmp_path: Path) -> None:
    assert mistakes_in(file.read_text(encoding="utf-8"), tmp_path) == []


def test_a_wrong_configuration_is_found(tmp_path: Path) -> None:
    assert mistakes_in('[plugins.earlytalker]\ndelay = "soon"\n', tmp_path)
    assert mistakes_in("[limits]\nidel = 1\n", tmp_path)
    assert mistakes_in("[plugins.forward]\n", tmp_path)


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_line_in_the_manual_can_be_typed(line: str) -> None:
    words = shlex.split(line)
    path = max((path for path in COMMANDS if words[: path.count(" ") + 1] == path.split()), key=len)
    assert path != "gatepost" or words[1:] == ["--version"]
    known = {name for option in COMMANDS[path].params for name in option.opts}
    assert [word for word in words if word.startswith("-") and word not in known] == []


def test_the_quick_start_describes_the_embedded_default() -> None:
    text = (ROOT / "docs/quick-start.md").read_text(encoding="utf-8")
    embedded = tomllib.loads(default_text({"HOME": "/home/a"}))
    assert embedded["listen"]["smtp"]["bind"] == ["127.0.0.1:2525"]
    assert "127.0.0.1:2525" in text
    assert embedded["plugins"]["order"] == ["earlytalker", "recipients", "maildir"]
    assert "`earlytalker` with a delay of three seconds" in text
    assert embedded["plugins"]["earlytalker"]["delay"] == "3s"


def test_the_plugin_in_the_readme_works() -> None:
    (source,) = blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")
    names: dict[str, Any] = {}
    exec(compile(source, "README.md", "exec", dont_inherit=True), names)
    plugin = names["Blocklist"](names["BlocklistOptions"](domains=["example.com"]))
    assert list(problems_of(names["Blocklist"])) == []
    assert plugin.mail(None, Address.parse("a@example.com")).permanent
    assert plugin.mail(None, Address.parse("a@example.net")) is None


def test_the_command_in_the_readme_tries_the_plugin(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tmp_path / "blocklist.py").write_text(*blocks(readme, "python"))
    (tmp_path / "gatepost.toml").write_text(blocks(readme, "toml")[0])
    (line,) = re.findall(r"`gatepost (try [^`]+)`", readme)
    result = CliRunner().invoke(main, [*line.split(), "--config", str(tmp_path / "gatepost.toml")])
    assert result.exit_code == 1
    assert "shop.example is not welcome here" in result.stdout


def test_every_row_of_the_benchmark_is_explained() -> None:
    page = (ROOT / "docs/development/performance.md").read_text(encoding="utf-8")
    explained = {name for cell in re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE) for name in cell.split(", ")}
    rows = {row.name for name in NAMES for row in work(name).rows(FULL)}
    assert {part for row in rows for part in row.split(", ")} - explained == {"one by one", "ten at once"}
