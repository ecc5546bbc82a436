"""``gatepost plugins new`` asks for what no option says, bakes like cookiecutter, and names the next steps."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gatepost.plugins import template
from tests.core.cli.running import Folder, run
from tests.template.baking import bake, files_of

OPTIONS = {"phase": "rcpt", "description": "Be slow", "author": "Zoë", "license": "Apache-2.0"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Return an empty current folder, beside an empty home folder."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Folder(tmp_path / "here")


def options(**answers: str) -> list[str]:
    return [part for name, answer in answers.items() for part in (f"--{name}", answer)]


def test_with_all_options_it_asks_nothing_and_bakes_what_cookiecutter_bakes(folder: Folder, tmp_path: Path) -> None:
    result = run("plugins", "new", *options(name="slow_down", **OPTIONS), input="")
    assert result.exit_code == 0, result.output
    assert files_of(folder.path / "gatepost-slow-down") == files_of(bake(tmp_path / "b", name="slow_down", **OPTIONS))


def test_it_names_the_next_steps(folder: Folder) -> None:
    lines = run("plugins", "new", *options(name="slow_down", **OPTIONS)).stdout.splitlines()
    assert "  cd gatepost-slow-down" in lines and "  pytest" in lines
    assert '  order = ["slow_down", "recipients", "forward"]' in lines
    assert "  [plugins.slow_down]" in lines and "  limit = 100" in lines


def test_it_needs_no_git_and_leaves_nothing_in_the_home_folder(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert run("plugins", "new", *options(name="x", **OPTIONS)).exit_code == 0
    assert sorted(path.name for path in folder.path.iterdir()) == ["gatepost-x"]
    assert list((tmp_path / "home").iterdir()) == []


def test_a_question_without_an_option_is_asked_with_a_default_that_fits_earlier_answers(folder: Folder) -> None:
    result = run("plugins", "new", "--license", "none", input="no_dice\nconnect\n\n\n")
    assert result.exit_code == 0, result.output
    files = files_of(folder.path / "gatepost-no-dice")
    project = files["pyproject.toml"]
    assert 'description = "Refuse clients whose address has no name that resolves back to it"' in project
    assert 'authors = [{ name = "the gatepost-no-dice developers" }]' in project
    assert "LICENSE" not in files


def test_a_bad_answer_is_asked_for_again(folder: Folder) -> None:
    result = run("plugins", "new", *options(**OPTIONS), input="No Dice\nno_dice\n")
    assert result.exit_code == 0, result.output
    assert "The name 'No Dice' is not valid" in result.output and 'such as "no_dice"' in result.output
    assert (folder.path / "gatepost-no-dice").is_dir()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"name": "dnsbl"}, '--name: "dnsbl" is a plugin that comes with gatepost'),
        ({"name": "x", "description": "{{ 1 }}"}, "--description: The description must not contain '{'"),
        ({"name": "x", "phase": "quit"}, "'quit' is not one of"),
    ],
)
def test_a_bad_option_is_a_wrong_command_line(folder: Folder, wrong: dict[str, str], sentence: str) -> None:
    result = run("plugins", "new", *options(**OPTIONS | wrong))
    assert result.exit_code == 2
    assert sentence in result.output
    assert list(folder.path.iterdir()) == []


def test_the_package_goes_into_the_output_folder_and_never_over_an_existing_one(folder: Folder, tmp_path: Path) -> None:
    command = ("plugins", "new", "--output", str(tmp_path / "new" / "place"), *options(name="x", **OPTIONS))
    assert run(*command).exit_code == 0
    package = tmp_path / "new" / "place" / "gatepost-x"
    (package / "README.md").write_text("mine")
    result = run(*command)
    assert result.exit_code == 1
    assert "there is a package in" in result.output
    assert files_of(package)["README.md"] == "mine"


def test_an_output_folder_that_cannot_be_written_is_reported_in_one_sentence(folder: Folder) -> None:
    (folder.path / "file").write_text("")
    result = run("plugins", "new", "--output", "file/inside", *options(name="x", **OPTIONS))
    assert result.exit_code == 1
    assert result.output.startswith("Error: cannot write into file/inside: ")


def test_without_cookiecutter_it_says_how_to_install_it(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("environment", "exceptions", "main"):
        monkeypatch.setitem(sys.modules, f"cookiecutter.{module}", None)
    result = run("plugins", "new", *options(name="x", **OPTIONS))
    assert (result.exit_code, result.output) == (1, f"Error: {template.MISSING}\n")
    assert 'pip install "gatepost[new]"' in template.MISSING
    assert list(folder.path.iterdir()) == []
