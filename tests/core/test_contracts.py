"""The contracts on imports (pyproject.toml): they hold, and they would notice the arrows that must not be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint_imports(root: Path) -> tuple[int, str]:
    """The exit status and the report of import-linter for the sources under ``root``."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]
    paths = os.pathsep.join(str(root / folder) for folder in ("core", "plugins_builtin"))
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_the_contracts_hold() -> None:
    status, report = lint_imports(ROOT)
    assert status == 0, report


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("services/clock.py", "gatepost.session"),
        ("telemetry/log.py", "gatepost.doors"),
        ("decisions.py", "gatepost.session"),
        ("gate/slow_path.py", "gatepost.replies"),
        ("message/message.py", "gatepost.session"),
        ("doors/smtp.py", "gatepost.plugins"),
        ("conversation/conversation.py", "gatepost.plugins"),
        ("rulings.py", "gatepost.message"),
        ("session.py", "aiosmtpd"),
    ],
)
def test_an_arrow_that_points_up_breaks_a_contract(tmp_path: Path, module: str, imported: str) -> None:
    for folder in ("core", "plugins_builtin"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "core" / "gatepost" / module
    path.write_text(f"{path.read_text()}\n\ndef _hidden() -> None:\n    import {imported}\n")
    status, report = lint_imports(tmp_path)
    assert status != 0
    assert "BROKEN" in report
