"""The fixture of the tests of the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.core.config.examples import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes gatepost.toml and drop-ins by name, and gives the path of the first."""

    def write(text: str, **drop_ins: str) -> Path:
        path = tmp_path / "gatepost.toml"
        path.write_text(text)
        for name, content in drop_ins.items():
            (tmp_path / "gatepost.d").mkdir(exist_ok=True)
            (tmp_path / "gatepost.d" / f"{name}.toml").write_text(content)
        return path

    return write
