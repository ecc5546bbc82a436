"""A commit is checked as ``scripts/test`` does it, which notices when a change leaves tests out by mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
SCRIPT = (ROOT / "scripts/test").read_text()


def test_a_commit_runs_steps_of_the_script() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    entries = [hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]]
    assert len(entries) == 4
    assert [entry for entry in entries if f"\nstep {entry}\n" not in SCRIPT] == []


@pytest.mark.parametrize(("workers", "kept", "status"), [(0, 2, 0), (2, 3, 1)])
def test_a_run_of_fewer_tests_than_before_fails(tmp_path: Path, workers: int, kept: int, status: int) -> None:
    (tmp_path / "test_two.py").write_text("import pytest\ndef test_one(): pass\ndef test_two(): pytest.skip()\n")
    (tmp_path / "kept").write_text(f"{kept}\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", f"-n{workers}"]
    done = subprocess.run(
        [*command, f"--at-least={tmp_path / 'kept'}", str(tmp_path / "test_two.py")],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert (f"2 tests ran, and {tmp_path / 'kept'} wants 3 or more" in done.stdout) is bool(status)


def test_an_example_that_fails_is_kept_also_where_ci_is_set() -> None:
    program = (
        "from hypothesis import settings\nfrom tests.properties import register_profiles\nregister_profiles()\n"
        "print(settings().database.path, settings().print_blob)\n"
        "settings.load_profile('long')\nprint(settings().database.path, settings().print_blob)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "CI": "true"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [f"{ROOT}/.hypothesis/examples True"] * 2
