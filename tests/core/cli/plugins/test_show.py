"""``gatepost plugins show`` prints the page of a plugin, or the reason why there is none."""

from __future__ import annotations

import pytest

from tests.core.cli.plugins.mine import MINE, WITH_MINE, rows, stranger
from tests.core.cli.running import Folder, facts, run


def test_the_page_of_a_plugin_has_documentation_options_and_phases(folder: Folder) -> None:
    path = folder.write(WITH_MINE, mine=MINE)
    page = facts("plugins", "show", "mine", "--config", path)
    assert page["doc"].startswith("Say nothing about anybody.")
    assert page["options"] == [{"name": "patience", "type": "duration", "default": '"3s"', "doc": "How long."}]
    assert [(phase["phase"], phase["how"]) for phase in page["phases"]] == [("connect", "plain"), ("mail", "ahead")]
    assert page["on_error"] == "pass"
    printed = run("plugins", "show", "mine", "--config", path).stdout
    assert "At length." in printed and "Fires when a client has connected" in printed


def test_the_page_of_an_installed_plugin_needs_no_configuration(folder: Folder) -> None:
    page = facts("plugins", "show", "discard")
    assert page["grants"] == "delivery" and "for trials" in page["doc"]


def test_a_plugin_that_is_not_there_has_no_page(folder: Folder) -> None:
    result = run("plugins", "show", "nonesuch")
    assert result.exit_code == 1
    assert "no plugin nonesuch" in result.stderr


def test_the_page_says_who_made_the_package_and_under_which_licence(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger(folder, monkeypatch, "Author-email: Ann <a@example.org>", "License-Expression: MIT")
    page = facts("plugins", "show", "thing")
    assert (page["author"], page["licence"], page["home"]) == ("Ann <a@example.org>", "MIT", "")
    printed = run("plugins", "show", "thing").stdout
    assert printed.startswith(
        "thing (gatepost-thing 1.5)\nauthor: Ann <a@example.org>\nlicence: MIT\nhome: not stated\n"
    )


def test_a_local_file_has_no_imprint(folder: Folder) -> None:
    page = facts("plugins", "show", "mine", "--config", folder.write(WITH_MINE, mine=MINE))
    assert (page["author"], page["licence"], page["home"]) == ("", "", "")


def test_the_page_needs_no_right_options(folder: Folder) -> None:
    path = folder.write(WITH_MINE + "patience = 5\n", mine=MINE)
    assert facts("plugins", "show", "mine", "--config", path)["options"][0]["name"] == "patience"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("Requires-Dist: gatepost>=99",), "thing of gatepost-thing 1.5 is made for gatepost >=99, and this is"),
        ((), "thing is offered by two packages, gatepost-other 1.5 and gatepost-thing 1.5; uninstall one"),
    ],
)
def test_a_plugin_that_would_not_be_loaded_has_a_sentence_in_place_of_a_page(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, lines: tuple[str, ...], words: str
) -> None:
    stranger(folder, monkeypatch, *lines)
    if not lines:
        stranger(folder, monkeypatch, package="gatepost-other")
    result = run("plugins", "show", "thing")
    assert result.exit_code == 1
    assert words in result.stderr
    assert "thing" in rows()
