"""``gatepost plugins`` shows what there is and who is asked, and changes the order without touching a person's file."""

from __future__ import annotations

import tomllib
from importlib.metadata import EntryPoint, version
from typing import Any

import pytest

from gatepost.config import load_config
from gatepost.plugins.discovery import GROUP
from tests.core.cli.running import SOUND, Folder, facts, run

MINE = '''"""Say nothing about anybody.

At length.
"""
from gatepost import Duration, Options, hookimpl


class MineOptions(Options):
    patience: Duration = 3.0
    """How long."""


class Mine:
    Options = MineOptions
    on_error = "pass"

    def __init__(self, options):
        pass

    @hookimpl(ahead=True)
    async def mail(self):
        return None

    @hookimpl
    def connect(self):
        return None
'''
WITH_MINE = (
    SOUND.replace('"recipients", "discard"', '"mine", "recipients", "discard"') + '[plugins.mine]\nuse = "mine.py"\n'
)


def rows(*arguments: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in facts("plugins", *arguments)}


def stranger(folder: Folder, monkeypatch: pytest.MonkeyPatch, *lines: str, package: str = "gatepost-thing") -> None:
    """Install a package of somebody's that offers ``thing``; ``lines`` are of its metadata."""
    facts = folder.path / f"{package.replace('-', '_')}-1.5.dist-info"
    facts.mkdir()
    head = ("Metadata-Version: 2.4", f"Name: {package}", "Version: 1.5")
    (facts / "METADATA").write_text("\n".join((*head, *lines, "")))
    (facts / "entry_points.txt").write_text("[gatepost.plugins]\nthing = gatepost_thing_of_a_stranger:Mine\n")
    (folder.path / "gatepost_thing_of_a_stranger.py").write_text(MINE)
    monkeypatch.syspath_prepend(folder.path)


# The list


def test_the_list_has_the_configured_ones_in_order_then_the_others(folder: Folder) -> None:
    path = folder.write(WITH_MINE, mine=MINE)
    found = rows("--config", path)
    assert list(found)[:3] == ["mine", "recipients", "discard"]
    assert [found[name]["place"] for name in ("mine", "recipients", "discard", "greylist")] == ["1", "2", "3", ""]
    assert found["mine"]["package"] == "mine.py" and found["mine"]["phases"] == ["connect", "mail"]
    assert found["discard"]["package"] == "gatepost" and found["discard"]["version"]
    assert found["greylist"]["phases"]
    assert "greylist" in run("plugins", "--config", path).stdout


def test_one_with_a_table_that_no_order_names_is_as_if_only_installed(folder: Folder) -> None:
    found = rows("--config", folder.write(SOUND + '[plugins.later]\nuse = "greylist"\ndelay = "1m"\n'))
    assert (found["later"]["place"], found["later"]["mode"]) == ("", "")
    assert found["later"]["package"] == "gatepost" and "rcpt" in found["later"]["phases"]


def test_the_list_says_who_is_off_observed_or_asked_by_one_listener_only(folder: Folder) -> None:
    text = SOUND.replace("[plugins]", '[listen.b]\nbind = ["127.0.0.1:2526"]\nplugins = ["greylist"]\n[plugins]')
    path = folder.write(
        text + '[plugins.greylist]\nmode = "observe"\nphases = ["rcpt"]\n[plugins.discard]\nmode = "off"\n'
    )
    found = rows("--config", path)
    assert (found["greylist"]["place"], found["greylist"]["mode"]) == ("b 1", "observe")
    assert found["greylist"]["phases"] == ["rcpt"]
    assert (found["discard"]["place"], found["discard"]["mode"], found["discard"]["problem"]) == ("2", "off", "")


def test_the_list_works_with_every_plugin_broken(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = [EntryPoint("discard", "nowhere:Discard", GROUP), EntryPoint("x", "nowhere:X", GROUP)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: broken)
    path = folder.write()
    result = run("plugins", "--config", path)
    assert result.exit_code == 0
    found = rows("--config", path)
    assert "gatepost check" in found["discard"]["problem"]
    assert "cannot be imported: ModuleNotFoundError" in found["x"]["problem"]
    assert "gatepost check names them" in result.stderr


def test_the_list_works_with_a_broken_configuration(folder: Folder) -> None:
    path = folder.write("this is no TOML")
    result = run("plugins", "--config", path)
    assert result.exit_code == 0
    assert "discard" in result.stdout and "gatepost check names them" in result.stderr


def test_the_order_shown_is_that_of_each_phase_and_listener(folder: Folder) -> None:
    text = WITH_MINE.replace(
        "[plugins]", '[listen.b]\nbind = ["127.0.0.1:2526"]\nplugins = ["discard", "mine"]\n[plugins]'
    )
    path = folder.write(text, mine=MINE)
    shown = facts("plugins", "--order", "--config", path)
    assert shown == {
        "smtp": {
            "startup": ["discard"],
            "connect": ["mine"],
            "mail": ["mine"],
            "rcpt": ["recipients"],
            "queue": ["discard"],
        },
        "b": {"startup": ["discard"], "connect": ["mine"], "mail": ["mine"], "queue": ["discard"]},
    }
    assert "rcpt     recipients" in run("plugins", "--order", "--config", path).stdout


# The page


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


# requirements


def test_requirements_are_gatepost_and_the_packages_with_plugins_as_they_are(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger(folder, monkeypatch)
    lines = [line.partition("  # from ")[0] for line in run("plugins", "--requirements").stdout.splitlines()]
    assert lines == [f"gatepost=={version('gatepost')}", "gatepost-thing==1.5"]
    assert facts("plugins", "--requirements")[1] == {"package": "gatepost-thing", "version": "1.5", "came_from": ""}


def test_requirements_and_order_do_not_go_together() -> None:
    assert run("plugins", "--requirements", "--order").exit_code == 2


# enable and disable


def order(folder: Folder) -> tuple[str, ...]:
    return load_config(folder.config, {}).order


def test_enabling_writes_the_whole_order_beside_a_person_s_file(folder: Folder) -> None:
    path = folder.write("# a comment of mine\n" + SOUND)
    assert run("plugins", "enable", "greylist", "--config", path).exit_code == 0
    assert order(folder) == ("recipients", "greylist", "discard")
    assert folder.config.read_text() == "# a comment of mine\n" + SOUND
    text = (folder.path / "gatepost.d/50-order.toml").read_text()
    assert text.startswith("# Written by") and tomllib.loads(text) == {"plugins": {"order": list(order(folder))}}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("greylist", "--after", "discard"), ("recipients", "discard", "greylist")),
        (("greylist", "--before", "recipients"), ("greylist", "recipients", "discard")),
        (("recipients", "--after", "discard"), ("discard", "recipients")),
        (("maildir",), ("recipients", "discard", "maildir")),
        (("recipients",), ("recipients", "discard")),
    ],
)
def test_a_plugin_goes_where_it_is_told_or_where_it_makes_sense(
    folder: Folder, arguments: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    path = folder.write(SOUND + f'[plugins.maildir]\npath = "{folder.path}/mail/{{local}}"\n')
    assert run("plugins", "enable", *arguments, "--config", path).exit_code == 0
    assert order(folder) == expected


def test_an_order_that_cannot_be_meant_is_written_and_remarked_upon(folder: Folder) -> None:
    result = run("plugins", "disable", "recipients", "--config", folder.write())
    assert result.exit_code == 0 and order(folder) == ("discard",)
    assert "error: plugins.order: nobody vouches for recipients" in result.stdout
    assert "warning: plugins.recipients: no order names it" in result.stdout


def test_disabling_takes_a_plugin_out_again(folder: Folder) -> None:
    path = folder.write()
    run("plugins", "enable", "greylist", "--config", path)
    assert run("plugins", "disable", "recipients", "--config", path).exit_code == 0
    assert order(folder) == ("greylist", "discard")
    assert sorted(each.name for each in (folder.path / "gatepost.d").iterdir()) == ["50-order.toml"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("enable", "dnsbl"), 78, "plugins.dnsbl.zones: a required key is missing"),
        (("enable", "nonesuch"), 78, "no installed package offers a plugin 'nonesuch'"),
        (("enable", "greylist", "--after", "nonesuch"), 1, "nonesuch is not in the order"),
        (("enable", "greylist", "--after", "recipients", "--before", "discard"), 2, "do not go together"),
        (("enable", "earlytalker"), 1, "is switched off"),
        (("disable", "greylist"), 1, "greylist is not in the order"),
    ],
)
def test_what_would_be_wrong_is_not_written(
    folder: Folder, arguments: tuple[str, ...], status: int, words: str
) -> None:
    path = folder.write(SOUND + '[plugins.earlytalker]\nmode = "off"\n')
    result = run("plugins", *arguments, "--config", path)
    assert result.exit_code == status
    assert words in result.stderr
    assert not (folder.path / "gatepost.d").exists()


def test_a_mistake_that_enabling_would_make_is_said_of_the_file_it_would_be_in(folder: Folder) -> None:
    result = run("plugins", "enable", "nonesuch", "--config", folder.write())
    assert f"{folder.path}/gatepost.d/50-order.toml" in result.stderr
    assert "GATEPOST__" not in result.stderr


def test_without_a_file_there_is_nothing_to_put_it_beside(folder: Folder) -> None:
    result = run("plugins", "enable", "greylist")
    assert result.exit_code == 1
    assert "gatepost init" in result.stderr


def test_a_drop_in_that_counts_more_is_named(folder: Folder) -> None:
    path = folder.write(d_90="[plugins]\norder = ['recipients', 'discard']\n")
    result = run("plugins", "enable", "greylist", "--config", path)
    assert result.exit_code == 1
    assert "90.toml, which counts more" in result.stderr


def test_the_environment_that_counts_more_is_named(folder: Folder) -> None:
    environment = {"GATEPOST__PLUGINS__ORDER": '["recipients", "discard"]'}
    result = run("plugins", "enable", "greylist", "--config", folder.write(), env=environment)
    assert result.exit_code == 1
    assert "GATEPOST__PLUGINS__ORDER, which counts more" in result.stderr


def test_a_drop_in_of_that_name_by_somebody_else_is_left_alone(folder: Folder) -> None:
    mine = "# my own\n[plugins]\norder = ['recipients', 'discard']\n"
    path = folder.write(**{"d_50-order": mine})
    result = run("plugins", "enable", "greylist", "--config", path)
    assert result.exit_code == 1
    assert "not a file of ours" in result.stderr
    assert (folder.path / "gatepost.d/50-order.toml").read_text() == mine


def test_listeners_with_an_order_of_their_own_are_named(folder: Folder) -> None:
    text = SOUND.replace("[plugins]", '[listen.b]\nbind = ["127.0.0.1:2526"]\nplugins = ["discard"]\n[plugins]')
    assert "stay as they are: b" in run("plugins", "enable", "greylist", "--config", folder.write(text)).stdout
