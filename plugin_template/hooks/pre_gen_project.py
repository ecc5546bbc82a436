"""Refuse the answers that would make a package that does not work, each with a sentence.

cookiecutter runs this file before it writes anything; ``gatepost plugins new`` asks ``objection`` at each question. It
imports nothing of gatepost, which need not be installed where cookiecutter is.
"""

import builtins
import keyword
import re
import sys

NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
LONGEST = {"name": 25, "description": 100, "author": 80}
"""Characters: so that no line of the package that holds an answer becomes longer than its linter allows."""

BUILT_IN = ("access", "discard", "dnsbl", "earlytalker", "forward", "greylist", "maildir", "recipients")
"""Two packages that offer one name stop the start of a gate."""
TAKEN = ("builtin", "gatepost", "order", "plugin", "plugins", "testing")
"""What would be read as something of gatepost's own."""
OTHERS = frozenset(
    "Address Annotated Decision Domain Duration Field Message Network Options Session Store StringConstraints".split()
)
"""What stands beside the plugin's class in its module, so that the class may not be called so."""

SPECIAL = re.compile(r"[\"\\{}<>]")
"""What would end a string of TOML or Python, or begin something of a template or of Markdown."""


def objection(question: str, answer: str) -> str:
    """What is wrong with an answer, as a sentence; "" when nothing is."""
    if not answer or answer != answer.strip():
        return f"The {question} may not be empty, nor begin or end with a blank."
    if len(answer) > LONGEST.get(question, 100):
        return f"The {question} is too long: at most {LONGEST[question]} characters."
    if question == "name":
        return objection_to_name(answer)
    if not answer.isprintable():
        return f"The {question} may not hold control characters or line ends."
    if found := SPECIAL.search(answer):
        return f"The {question} may not hold {found[0]!a}: it stands in Python, TOML and Markdown alike."
    return ""


def objection_to_name(name: str) -> str:
    """What is wrong with a plugin's name."""
    if not NAME.fullmatch(name):
        likely = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")
        hint = f', such as "{likely}"' if NAME.fullmatch(likely) else ""
        return f"The name {name!a} is none: lower-case letters and digits, parted by single underscores{hint}."
    if name in BUILT_IN:
        return f'"{name}" is a plugin that comes with gatepost, and two of one name cannot be told apart.'
    if name.startswith("gatepost_"):
        return f'Leave "gatepost_" away: the package will be called gatepost-… by itself ("{name[9:]}").'
    class_name = name.title().replace("_", "")
    if name in TAKEN or class_name in OTHERS or hasattr(builtins, class_name) or keyword.iskeyword(class_name):
        return f'"{name}" is taken: it means something else to gatepost or to Python.'
    return ""


if __name__ == "__main__":
    answers = {
        "name": {{ cookiecutter.name | tojson }},
        "description": {{ cookiecutter.description | tojson }},
        "author": {{ cookiecutter.author | tojson }},
    }
    objections = [objection(question, answer) for question, answer in answers.items()]
    sys.exit("\n".join(filter(None, objections)) or 0)
