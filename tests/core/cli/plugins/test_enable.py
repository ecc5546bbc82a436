"""``gatepost plugins enable`` and ``disable`` change the order and no file that a person wrote."""

from __future__ import annotations

import tomllib

import pytest

from gatepost.config import load_config
from tests.core.cli.running import SOUND, Folder, run


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
    assert "error: plugins.order: no plugin vouches for recipients" in result.stdout
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
def test_an_order_that_would_be_wrong_is_not_written(
    folder: Folder, arguments: tuple[str, ...], status: int, words: str
) -> None:
    path = folder.write(SOUND + '[plugins.earlytalker]\nmode = "off"\n')
    result = run("plugins", *arguments, "--config", path)
    assert result.exit_code == status
    assert words in result.stderr
    assert not (folder.path / "gatepost.d").exists()


def test_a_mistake_that_enabling_would_make_is_reported_in_the_file_of_the_order(folder: Folder) -> None:
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
    assert "90.toml, which overrides" in result.stderr


def test_the_environment_that_counts_more_is_named(folder: Folder) -> None:
    environment = {"GATEPOST__PLUGINS__ORDER": '["recipients", "discard"]'}
    result = run("plugins", "enable", "greylist", "--config", folder.write(), env=environment)
    assert result.exit_code == 1
    assert "GATEPOST__PLUGINS__ORDER, which overrides" in result.stderr


def test_a_drop_in_of_that_name_by_somebody_else_is_left_alone(folder: Folder) -> None:
    mine = "# my own\n[plugins]\norder = ['recipients', 'discard']\n"
    path = folder.write(**{"d_50-order": mine})
    result = run("plugins", "enable", "greylist", "--config", path)
    assert result.exit_code == 1
    assert "was not written by this command" in result.stderr
    assert (folder.path / "gatepost.d/50-order.toml").read_text() == mine


def test_listeners_with_an_order_of_their_own_are_named(folder: Folder) -> None:
    text = SOUND.replace("[plugins]", '[listen.b]\nbind = ["127.0.0.1:2526"]\nplugins = ["discard"]\n[plugins]')
    assert "stay as they are: b" in run("plugins", "enable", "greylist", "--config", folder.write(text)).stdout
