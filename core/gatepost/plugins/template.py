"""The template for plugin packages: where it is, what it asks, and how it is baked.

It lies in the wheel, and in a checkout at its top. cookiecutter bakes it; that comes with the extra ``gatepost[new]``
and is imported where it is needed. Nothing here touches the network, git or the home folder.

What stands in a package is the template's own affair: see ``plugin_template``.
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

MISSING = 'a package is made with cookiecutter: pip install "gatepost[new]"'


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that the template asks."""

    name: str
    text: str
    default: str
    """Where it depends on the answers before it, as Jinja writes it."""
    choices: tuple[str, ...] = ()
    """The answers that may be given; none means any."""


def folder() -> Path:
    """The template. Raises ``GatepostError`` where it was not installed."""
    package = Path(__file__).parents[1]
    for place in (package / "_plugin_template", package.parents[1] / "plugin_template"):
        if (place / "cookiecutter.json").is_file():
            return place
    raise GatepostError("the template for plugin packages is not part of this installation")


def questions() -> tuple[Question, ...]:
    """What the template asks, in its order. Raises ``GatepostError`` where it was not installed."""
    asked = json.loads((folder() / "cookiecutter.json").read_text(encoding="utf-8"))
    texts = asked["__prompts__"]
    return tuple(_question(name, texts[name], default) for name, default in asked.items() if not name.startswith("_"))


def _question(name: str, text: str, default: str | list[str]) -> Question:
    if isinstance(default, str):
        return Question(name, text, default)
    return Question(name, text, default[0], tuple(default))


def objections() -> Callable[[str, str], str]:
    """The template's own judge of answers: given the name of a question and an answer, what is wrong with it, or ""."""
    judge: Callable[[str, str], str] = runpy.run_path(str(folder() / "hooks" / "pre_gen_project.py"))["objection"]
    return judge


def default_of(question: Question, answers: Mapping[str, str]) -> str:
    """The default of a question after the ``answers`` before it. Raises ``GatepostError`` without cookiecutter."""
    environment = _cookiecutter("environment").StrictEnvironment()
    return str(environment.from_string(question.default).render(cookiecutter=answers))


def bake(answers: Mapping[str, str], output: Path) -> Path:
    """Write a package into a new folder in ``output``, and return that folder. The answers are good ones.

    Raises ``GatepostError`` when cookiecutter is missing, the folder is there already, or it cannot be written.
    """
    main, exceptions = _cookiecutter("main"), _cookiecutter("exceptions")
    with tempfile.TemporaryDirectory() as private:  # else it keeps the answers in the home folder
        settings = Path(private, "settings.yaml")
        settings.write_text(json.dumps({"cookiecutters_dir": private, "replay_dir": private}), encoding="utf-8")
        try:
            made = main.cookiecutter(
                str(folder()),
                no_input=True,
                extra_context=dict(answers),
                output_dir=str(output),
                config_file=str(settings),
                accept_hooks=False,  # they judge the answers, which the caller has done
            )
        except exceptions.OutputDirExistsException as error:
            raise GatepostError(f"there is a package in {output} already, which is left alone") from error
        except OSError as error:
            raise GatepostError(f"cannot write into {output}: {error.strerror or error}") from error
    return output / Path(made).name


def _cookiecutter(module: str) -> Any:
    try:
        return importlib.import_module(f"cookiecutter.{module}")
    except ModuleNotFoundError as error:
        raise GatepostError(MISSING) from error
