"""The template for plugin packages: its folder, its questions, and how a package is made from it.

The template is part of the wheel; in a checkout it is a folder at the top. cookiecutter, which comes with the extra
``gatepost[new]``, is imported only when it is needed. Nothing here touches the network, git or the home folder.

This module does not know the content of a package: see ``plugin_template``.
"""

from __future__ import annotations

import importlib
import json
import runpy
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatepost.errors import GatepostError

MISSING = 'packages are made with cookiecutter, which is not installed: pip install "gatepost[new]"'


@dataclass(frozen=True, slots=True)
class Question:
    """One question of the template."""

    name: str
    text: str
    default: str
    """A Jinja template if it depends on earlier answers."""
    choices: tuple[str, ...] = ()
    """The allowed answers; () allows any."""


def folder() -> Path:
    """Return the folder of the template. Raises ``GatepostError`` if it is not installed."""
    package = Path(__file__).parents[1]  # core/gatepost in a checkout, gatepost in a wheel
    for place in (package / "_plugin_template", package.parents[1] / "plugin_template"):
        if (place / "cookiecutter.json").is_file():
            return place
    raise GatepostError("the template for plugin packages is not part of this installation")


def questions() -> tuple[Question, ...]:
    """Return the questions of the template, in its order. Raises ``GatepostError`` if it is not installed."""
    variables = json.loads((folder() / "cookiecutter.json").read_text(encoding="utf-8"))
    texts, found = variables["__prompts__"], []
    for name, default in variables.items():
        if not name.startswith("_"):  # the others are settings of cookiecutter
            choices = () if isinstance(default, str) else tuple(default)
            found.append(Question(name, texts[name], choices[0] if choices else default, choices))
    return tuple(found)


def objections() -> Callable[[str, str], str]:
    """Return the template's own check of answers: from a question's name and an answer to an objection, or ""."""
    objection: Callable[[str, str], str] = runpy.run_path(str(folder() / "hooks" / "pre_gen_project.py"))["objection"]
    return objection


def default_of(question: Question, answers: Mapping[str, str]) -> str:
    """Return the default of a question, given the earlier answers. Raises ``GatepostError`` without cookiecutter."""
    environment = _cookiecutter("environment").StrictEnvironment()
    return str(environment.from_string(question.default).render(cookiecutter=answers))


def bake(answers: Mapping[str, str], output: Path) -> Path:
    """Write a package into a new folder in ``output``, and return that folder. The answers must be checked before.

    Raises ``GatepostError`` if cookiecutter is missing, or the folder exists already or cannot be written.
    """
    main, exceptions = _cookiecutter("main"), _cookiecutter("exceptions")
    with tempfile.TemporaryDirectory() as private:  # otherwise cookiecutter keeps the answers in the home folder
        settings = Path(private, "settings.yaml")
        settings.write_text(json.dumps({"cookiecutters_dir": private, "replay_dir": private}), encoding="utf-8")
        try:
            made = main.cookiecutter(
                str(folder()),
                no_input=True,
                extra_context=dict(answers),
                output_dir=str(output),
                config_file=str(settings),
                accept_hooks=False,  # they check the answers, which the caller has done
            )
        except exceptions.OutputDirExistsException as error:
            raise GatepostError(f"there is a package in {output} already, and it stays as it is") from error
        except OSError as error:
            raise GatepostError(f"cannot write into {output}: {error.strerror or error}") from error
    return output / Path(made).name


def _cookiecutter(module: str) -> Any:
    try:
        return importlib.import_module(f"cookiecutter.{module}")
    except ModuleNotFoundError as error:
        raise GatepostError(MISSING) from error
