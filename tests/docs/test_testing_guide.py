"""The examples in the testing guide are tests that pass with the plugin shown there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gatepost import testing
from gatepost.testing import Policy
from tests.docs.manual import ROOT, blocks, prose, reference, section
from tests.patience import PROGRAM_PATIENCE

PAGE = (ROOT / "docs/authors/testing.md").read_text(encoding="utf-8")
SETTINGS = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
FILES = dict(re.findall(r"^```\{code-block\} \w+\n:caption: (\S+)\n\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


def test_the_tests_of_the_guide_pass(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=PROGRAM_PATIENCE,
    )
    assert done.returncode == 0, done.stdout
    played = [name for name in FILES if name.startswith("test_") or name.endswith(".smtp")]
    assert played == [name for name in FILES if name != "blocklist.py"]
    assert [name for name in played if f"{name} ." not in done.stdout] == []


@pytest.mark.parametrize("name", testing.__all__)
def test_a_name_of_the_kit_is_documented(name: str) -> None:
    text = section(reference()["testing.md"], name)
    assert blocks(text, "python")
    assert prose(text), f"{name} has no docstring"


NAMED = sorted(
    {
        named
        for page in (ROOT / "docs/authors").rglob("*.md")
        for named in re.findall(r"`(?:await )?gate\.(\w+)\.(\w+)", page.read_text(encoding="utf-8"))
    }
)


@pytest.mark.parametrize(("service", "name"), NAMED)
def test_an_attribute_of_the_kit_in_the_manual_exists(service: str, name: str) -> None:
    assert hasattr(getattr(Policy(), service), name)
