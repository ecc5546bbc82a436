"""``gatepost plugins`` lists installed and configured plugins, also broken ones, and their order."""

from __future__ import annotations

from importlib.metadata import EntryPoint, version

import pytest

from gatepost.plugins.discovery import GROUP
from tests.core.cli.plugins.mine import MINE, WITH_MINE, rows, stranger
from tests.core.cli.running import SOUND, Folder, facts, run


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
