"""Running the command line in the tests' own process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from gatepost.cli import main

LISTEN = '[listen.smtp]\nbind = ["127.0.0.1:2525"]\n'
SOUND = (
    f'hostname = "mx.example.org"\nstate_dir = "state"\n{LISTEN}'
    '[plugins]\norder = ["recipients", "discard"]\n[plugins.recipients]\ndomains = ["example.org"]\n'
)
"""A configuration without a mistake."""


def run(*arguments: str, **how: Any) -> Result:
    """Run ``gatepost`` with these arguments. An exception that is no exit of its own is raised."""
    result = CliRunner().invoke(main, arguments, catch_exceptions=False, **how)
    assert "Traceback" not in result.output
    return result


def facts(*arguments: str, **how: Any) -> Any:
    """Return the output of ``gatepost … --json``."""
    return json.loads(run(*arguments, "--json", **how).stdout)


class Folder:
    """A folder with a configuration and the files beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "gatepost.toml"

    def write(self, text: str = SOUND, **files: str) -> str:
        """Write gatepost.toml, and ``NAME.py`` or ``gatepost.d/NAME.toml`` beside it; gives the path of the first."""
        self.config.write_text(text)
        for name, content in files.items():
            if name.startswith("d_"):
                (self.path / "gatepost.d").mkdir(exist_ok=True)
                (self.path / "gatepost.d" / f"{name.removeprefix('d_')}.toml").write_text(content)
            else:
                (self.path / f"{name}.py").write_text(content)
        return str(self.config)
