"""All valid answers give a complete package; answers that would break it are refused with a sentence."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from cookiecutter.exceptions import FailedHookException

from gatepost.cli.plugins import new
from gatepost.plugins.template import questions
from tests.template.baking import COMBINATIONS, LICENSES, PHASES, ROOT, TEMPLATE, WORKFLOWS, bake, files_of, names_in

LONGEST = {"name": "a" * 25, "description": "W" * 100, "author": "W" * 80}
SHORTEST = {"name": "a", "description": "x", "author": "y"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Return a package for every combination of phase and licence."""
    folder = tmp_path_factory.mktemp("baked")
    return {
        (phase, licence): bake(folder / phase / licence, name="no_spam", phase=phase, license=licence)
        for phase, licence in COMBINATIONS
    }


# The package


@pytest.mark.parametrize(("phase", "licence"), COMBINATIONS)
def test_every_combination_has_the_same_files(baked: dict[tuple[str, str], Path], phase: str, licence: str) -> None:
    expected = {
        ".github/dependabot.yml",
        ".github/workflows/ci.yml",
        ".github/workflows/publish.yml",
        ".gitignore",
        "CHANGELOG.md",
        "README.md",
        "pyproject.toml",
        "src/gatepost_no_spam/__init__.py",
        "src/gatepost_no_spam/py.typed",
        "tests/refused.smtp",
        "tests/test_no_spam.py",
    }
    if licence != "none":
        expected.add("LICENSE")
    package = baked[phase, licence]
    assert package.name == "gatepost-no-spam"
    assert set(files_of(package)) == expected


@pytest.mark.parametrize(("phase", "licence"), COMBINATIONS)
def test_no_markup_of_the_template_is_left(baked: dict[tuple[str, str], Path], phase: str, licence: str) -> None:
    for name, text in files_of(baked[phase, licence]).items():
        if not name.startswith(WORKFLOWS.as_posix()):
            assert not [mark for mark in ("{{", "{%", "{#", "}}", "cookiecutter") if mark in text], name
        if name != "src/gatepost_no_spam/py.typed":
            assert text.endswith("\n") and not text.endswith("\n\n"), name


def test_the_workflows_are_copied_unchanged(baked: dict[tuple[str, str], Path]) -> None:
    package = baked[COMBINATIONS[0]]
    (source,) = TEMPLATE.glob("*__package*")
    assert files_of(package / WORKFLOWS) == files_of(source / WORKFLOWS)
    assert "${{ matrix.python }}" in (package / WORKFLOWS / "ci.yml").read_text()


@pytest.mark.parametrize("licence", LICENSES)
def test_the_licence_has_its_spdx_name_and_its_text(baked: dict[tuple[str, str], Path], licence: str) -> None:
    files = files_of(baked["mail", licence])
    project = tomllib.loads(files["pyproject.toml"])["project"]
    if licence == "none":
        assert "license" not in project and "license-files" not in project
        assert "all rights are reserved" in files["README.md"]
        return
    assert (project["license"], project["license-files"]) == (licence, ["LICENSE"])
    assert licence.split("-")[0] in files["LICENSE"]
    assert licence == "Apache-2.0" or "the gatepost-no-spam developers" in files["LICENSE"]


@pytest.mark.parametrize("phase", PHASES)
def test_the_package_offers_its_plugin_to_this_gatepost(baked: dict[tuple[str, str], Path], phase: str) -> None:
    project = tomllib.loads((baked[phase, "MIT"] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"] == {"gatepost.plugins": {"no_spam": "gatepost_no_spam:NoSpam"}}
    major, minor, _ = PROJECT["version"].split(".")
    assert project["dependencies"][0] == f"gatepost>={major}.{minor},<{int(major) + 1}"
    names = names_in((baked[phase, "MIT"] / "src/gatepost_no_spam/__init__.py").read_text())
    assert ("Field" in names) == ("pydantic>=2.11" in project["dependencies"])


def test_every_combination_passes_ruff_with_the_shortest_and_the_longest_answers(
    baked: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    for phase in PHASES:
        bake(tmp_path / "longest" / phase, phase=phase, **LONGEST)
        bake(tmp_path / "shortest" / phase, phase=phase, **SHORTEST)
    for folder in (baked[COMBINATIONS[0]].parents[2], tmp_path):
        for command in (["check"], ["format", "--check", "--diff"]):
            done = subprocess.run(
                [sys.executable, "-m", "ruff", *command, "--no-cache", str(folder)], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stdout + done.stderr


def test_answers_may_hold_any_language_and_apostrophes(tmp_path: Path) -> None:
    files = files_of(bake(tmp_path, name="x", description="Weist ab, wen's stört – 拒否", author="Zoë O'Neil"))
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert (project["description"], project["authors"]) == ("Weist ab, wen's stört – 拒否", [{"name": "Zoë O'Neil"}])
    assert files["src/gatepost_x/__init__.py"].startswith('"""Weist ab, wen\'s stört – 拒否.\n')


# Refused answers


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ({"name": "No MX"}, "The name 'No MX' is not valid: use lower-case letters and digits"),
        ({"name": "no-mx"}, 'such as "no_mx".'),
        ({"name": "9lives"}, 'such as "lives".'),
        ({"name": "no__mx"}, 'such as "no_mx".'),
        ({"name": "../../x"}, 'such as "x".'),
        ({"name": "schön"}, "The name 'sch\\xf6n' is not valid"),
        ({"name": ""}, "The name must not be empty"),
        ({"name": "a" * 26}, "The name is too long: at most 25 characters."),
        ({"name": "dnsbl"}, '"dnsbl" is a plugin that comes with gatepost'),
        ({"name": "gatepost_x"}, 'Leave out "gatepost_"'),
        ({"name": "session"}, '"session" is taken'),
        ({"name": "none"}, '"none" is taken'),
        ({"name": "value_error"}, '"value_error" is taken'),
        ({"description": ""}, "The description must not be empty"),
        ({"description": "a\nb"}, "The description must not contain control characters or line ends."),
        ({"description": 'say "no"'}, "The description must not contain '\"'"),
        ({"description": "W" * 101}, "The description is too long: at most 100 characters."),
        ({"author": "Zoë <zoe@example.org>"}, "The author must not contain '<'"),
        ({"author": " me"}, "must not begin or end with a space."),
    ],
)
def test_a_bad_answer_is_refused_with_a_sentence_and_nothing_is_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], answers: dict[str, str], sentence: str
) -> None:
    with pytest.raises(FailedHookException):
        bake(tmp_path / "out", **answers)
    assert sentence in capfd.readouterr().err
    assert not list((tmp_path / "out").rglob("*.py*"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_names_that_gatepost_or_the_plugin_itself_uses_are_refused(baked: dict[tuple[str, str], Path]) -> None:
    judge = runpy.run_path(str(TEMPLATE / "hooks/pre_gen_project.py"))
    assert judge["BUILT_IN"] == tuple(sorted(PROJECT["entry-points"]["gatepost.plugins"]))
    for phase in PHASES:
        beside = names_in((baked[phase, "MIT"] / "src/gatepost_no_spam/__init__.py").read_text())
        assert {name for name in beside if name.istitle() or name == "StringConstraints"} <= judge["OTHERS"]


# The template in gatepost


def test_the_command_has_an_option_for_every_question() -> None:
    assert (new.PHASES, new.LICENSES) == (PHASES, LICENSES)
    assert {option.name for option in new.new.params} == {question.name for question in questions()} | {"output"}


def test_the_wheel_holds_the_template(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    prefix = "gatepost/_plugin_template/"
    with zipfile.ZipFile(wheel) as archive:
        held = {name.removeprefix(prefix) for name in archive.namelist() if name.startswith(prefix)}
    assert held == set(files_of(TEMPLATE))
