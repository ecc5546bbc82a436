"""``gatepost check`` names all mistakes in a file at once, each with its line, and ``serve`` does not start with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.gate import run

FIVE_MISTAKES = """\
hostname = "mx.example.org"
grace = "half a minute"

[listen.smtp]
bind = ["127.0.0.1:99999"]

[limits]
max_sise = "25MiB"

[plugins]
order = ["earlytalkr", "recipients", "discard"]

[plugins.recipients]
domain = ["example.test"]
"""
MISTAKES = {2: "half a minute", 5: "99999", 8: "max_size", 11: "earlytalker", 14: "domains"}
"""Words that the message about each wrong line must contain."""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "wrong.toml"
    path.write_text(FIVE_MISTAKES)
    return path


def test_all_five_mistakes_are_named_with_their_lines(config: Path) -> None:
    done = run("check", "--config", str(config), folder=config.parent)
    assert done.returncode == 78
    said = done.stdout.splitlines()
    for line, what in MISTAKES.items():
        assert [text for text in said if f"{config}:{line}: " in text and what in text], f"line {line}: {said}"
    assert "5 errors" in said[-1] and "Traceback" not in done.stderr


def test_serve_does_not_start_with_it(config: Path) -> None:
    done = run("serve", "--config", str(config), folder=config.parent)
    assert done.returncode == 78
    assert f"{config}:2: " in done.stderr and "Traceback" not in done.stderr


def test_a_file_without_mistakes_passes(config: Path) -> None:
    right = FIVE_MISTAKES.replace("half a minute", "30s").replace("99999", "2525").replace("max_sise", "max_size")
    config.write_text(right.replace("earlytalkr", "earlytalker").replace("domain =", "domains ="))
    done = run("check", "--config", str(config), folder=config.parent)
    assert done.returncode == 0, done.stdout + done.stderr
