"""``gatepost plugins new``: create a package for a plugin of your own from the template, without a network."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gatepost.cli.printing import say

if TYPE_CHECKING:
    from gatepost.plugins import Question

PHASES = ("mail", "connect", "rcpt", "message")
LICENSES = ("MIT", "Apache-2.0", "BSD-3-Clause", "none")
FENCED = re.compile(r"^```toml\n(.*?)^```", re.DOTALL | re.MULTILINE)


@click.command("new")
@click.option("--name", help="The plugin's name, as an order names it: lower case, digits and underscores.")
@click.option("--phase", type=click.Choice(PHASES), help="The phase to start with; add others by hand.")
@click.option("--description", help="What it does, in one line.")
@click.option("--author", help="Its author.")
@click.option("--license", type=click.Choice(LICENSES), help="Its licence.")
@click.option(
    "--output",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("."),
    help="The folder in which the package's own folder is created. Default: the current one.",
)
def new(output: Path, **given: str | None) -> None:
    """Create a working package for a plugin of your own: plugin, options, tests, workflows.

    It asks for everything that no option gives. It uses neither network nor git, and needs cookiecutter: pip install
    "gatepost[new]".
    """
    from gatepost.plugins import bake, default_of, objections, questions

    objection = objections()
    answers: dict[str, str] = {}
    for question in questions():
        default = default_of(question, answers)
        answers[question.name] = _answer(question, given[question.name], default, partial(objection, question.name))
    _say_what_is_next(bake(answers, output), answers["name"])


def _answer(question: Question, given: str | None, default: str, objection: Callable[[str], str]) -> str:
    """Return the option's answer, else ask for it. Raises ``click.BadParameter`` if the option is wrong."""

    def checked(answer: str) -> str:
        if wrong := objection(answer):
            raise click.BadParameter(wrong, param_hint=f"--{question.name}")
        return answer

    if given is not None:
        return checked(given)
    if question.choices:
        answer: str = click.prompt(question.text, default, type=click.Choice(question.choices))
    else:
        answer = click.prompt(question.text, default, value_proc=lambda text: checked(text.strip()))
    return answer


def _say_what_is_next(made: Path, name: str) -> None:
    example = FENCED.findall((made / "README.md").read_text(encoding="utf-8"))[0]
    lines = [
        f"Wrote {made}. It works as it is; its tests show what it does:",
        "",
        f"  cd {made}",
        "  python -m pip install --group dev --editable .    (pip 25.1 or later)",
        "  pytest",
        "",
        f"gatepost asks {name} once the order in gatepost.toml names it, before the plugins that deliver:",
        "",
        *(f"  {line}".rstrip() for line in example.splitlines()),
    ]
    for line in lines:
        say(line)
