"""Refuse answers that would make a package that does not work, and explain each refusal in a sentence.

cookiecutter runs this file before it writes anything; ``gatepost plugins new`` calls ``objection`` for each answer. This
file imports nothing from gatepost, which need not be installed where cookiecutter is.
"""

import builtins
import keyword
import re
import sys

NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
LONGEST = {"name": 25, "description": 100, "author": 80}
"""Most characters of an answer, so that no line of the package that contains it is longer than its linter allows."""

BUILT_IN = ("access", "discard", "dnsbl", "earlytalker", "forward", "greylist", "maildir", "recipients")
"""Names of the built-in plugins: gatepost does not start if two packages offer the same name."""
TAKEN = ("builtin", "gatepost", "order", "plugin", "plugins", "testing")
"""Names that would look like a part of gatepost."""
OTHERS = frozenset(
    "Address Annotated Decision Domain Duration Field Message Network Options Session Store StringConstraints".split()
)
"""Names that the plugin's module uses beside its class, so the class must not have one of them."""

SPECIAL = re.compile(r"[\"\\{}<>]")
"""Characters that would end a string in TOML or Python, or have a meaning in a template or in Markdown."""


def objection(question: str, answer: str) -> str:
    """Return a sentence about the mistake in an answer; "" if there is none."""
    if not answer or answer != answer.strip():
        return f"The {question} must not be empty, and must not begin or end with a space."
    if len(answer) > LONGEST.get(question, 100):
        return f"The {question} is too long: at most {LONGEST[question]} characters."
    if question == "name":
        return objection_to_name(answer)
    if not answer.isprintable():
        return f"The {question} must not contain control characters or line ends."
    if found := SPECIAL.search(answer):
        return f"The {question} must not contain {found[0]!a}: it is written into Python, TOML and Markdown files."
    return ""


def objection_to_name(name: str) -> str:
    """Return a sentence about the mistake in a plugin's name; "" if there is none."""
    if not NAME.fullmatch(name):
        likely = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")
        hint = f', such as "{likely}"' if NAME.fullmatch(likely) else ""
        return f"The name {name!a} is not valid: use lower-case letters and digits, with single underscores between{hint}."
    if name in BUILT_IN:
        return f'"{name}" is a plugin that comes with gatepost, and names must be unique.'
    if name.startswith("gatepost_"):
        return f'Leave out "gatepost_": the package will be called gatepost-… anyway ("{name[9:]}").'
    class_name = name.title().replace("_", "")
    if name in TAKEN or class_name in OTHERS or hasattr(builtins, class_name) or keyword.iskeyword(class_name):
        return f'"{name}" is taken: it has another meaning in gatepost or Python.'
    return ""


if __name__ == "__main__":
    answers = {
        "name": {{ cookiecutter.name | tojson }},
        "description": {{ cookiecutter.description | tojson }},
        "author": {{ cookiecutter.author | tojson }},
    }
    objections = [objection(question, answer) for question, answer in answers.items()]
    sys.exit("\n".join(filter(None, objections)) or 0)
