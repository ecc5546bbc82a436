"""Facts about distributions are read from metadata as packages write it, in today's form and in the older ones."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from gatepost.plugins.distributions import Imprint, Pin, imprint, pins, unmet


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which Python looks for distributions."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(folder: Path, *lines: str, url: str = "") -> None:
    made = folder / "gatepost_x-1.5.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("\n".join(("Metadata-Version: 2.4", "Name: gatepost-x", "Version: 1.5", *lines, "")))
    if url:
        (made / "direct_url.json").write_text(url)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), Imprint("", "", "")),
        (
            (
                "Author-email: Ann <ann@example.org>",
                "License-Expression: MIT",
                "License: whatever",
                "Project-URL: Issues, https://x.example/issues",
                "Project-URL: Homepage, https://x.example",
            ),
            Imprint("Ann <ann@example.org>", "MIT", "https://x.example"),
        ),
        (
            (
                "Author: Ann",
                "Classifier: License :: OSI Approved :: MIT License",
                "Classifier: Topic :: Communications",
                "Home-page: https://old.example",
                "Project-URL: Issues, https://x.example/issues",
            ),
            Imprint("Ann", "MIT License", "https://old.example"),
        ),
        (
            ("Maintainer: Bob", "License: GPL", "        and more", "Project-URL: Source Code, https://git.example/x"),
            Imprint("Bob", "GPL", "https://git.example/x"),
        ),
        (("Project-URL: Chat, https://chat.example",), Imprint("", "", "https://chat.example")),
    ],
)
def test_the_imprint_is_what_the_metadata_says(folder: Path, lines: tuple[str, ...], said: Imprint) -> None:
    install(folder, *lines)
    assert imprint("gatepost-x") == said


@pytest.mark.parametrize("package", ["", "gatepost-nonesuch"])
def test_a_package_that_is_not_installed_has_no_imprint_and_no_requirements(package: str) -> None:
    assert imprint(package) == Imprint("", "", "")
    assert unmet(package) == ""


def test_pins_begin_with_gatepost_and_have_each_package_once(folder: Path) -> None:
    install(folder)
    found = pins(["pluggy", "gatepost-x", "gatepost", "gatepost-x", ""])
    assert [(pin.package, pin.version) for pin in found] == [
        ("gatepost", version("gatepost")),
        ("gatepost-x", "1.5"),
        ("pluggy", version("pluggy")),
    ]


@pytest.mark.parametrize(
    ("written", "address"),
    [
        (json.dumps({"url": "https://git.example/x", "vcs_info": {}}), "https://git.example/x"),
        ("{}", ""),
        ("no JSON", ""),
    ],
)
def test_a_pin_says_where_it_came_from_when_that_was_no_index(folder: Path, written: str, address: str) -> None:
    install(folder, url=written)
    assert pins(["gatepost-x"])[1] == Pin("gatepost-x", "1.5", address)
