"""Bake the template as ``cookiecutter gh:…/gatepost --directory plugin_template`` does.

cookiecutter stores its answers in the home folder unless its settings name another one; here this is a test's folder.
"""

from __future__ import annotations

import ast
import itertools
import json
from pathlib import Path

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "plugin_template"
WORKFLOWS = Path(".github/workflows")
ASKED = json.loads((TEMPLATE / "cookiecutter.json").read_text())
PHASES: tuple[str, ...] = tuple(ASKED["phase"])
LICENSES: tuple[str, ...] = tuple(ASKED["license"])
COMBINATIONS = tuple(itertools.product(PHASES, LICENSES))


def bake(folder: Path, **answers: str) -> Path:
    """Return the package that these answers give; other answers are the defaults."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "settings.yaml"
    settings.write_text(json.dumps({"cookiecutters_dir": str(folder), "replay_dir": str(folder / "replay")}))
    made = cookiecutter(
        str(ROOT),
        directory=TEMPLATE.name,
        no_input=True,
        extra_context=answers,
        output_dir=str(folder),
        config_file=str(settings),
    )
    return Path(made)


def files_of(package: Path) -> dict[str, str]:
    """Return the contents of all files of a package by their paths in it."""
    found = (path for path in sorted(package.rglob("*")) if path.is_file())
    return {path.relative_to(package).as_posix(): path.read_text() for path in found}


def names_in(source: str) -> set[str]:
    """Return the names that a module's imports and assignments bind at its top level."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names
