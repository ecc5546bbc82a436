"""``gatepost reload`` tells the running server to read its configuration again, if that has no mistake."""

from __future__ import annotations

from tests.core.cli.running import SOUND, Folder, run


def test_without_a_server_it_says_so(folder: Folder) -> None:
    result = run("reload", "--config", folder.write())
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"no gatepost is running with the state folder {folder.path}/state" in result.stderr


def test_a_mistake_is_shown_and_the_server_left_alone(folder: Folder) -> None:
    result = run("reload", "--config", folder.write(SOUND.replace("hostname", "hostnam")))
    assert result.exit_code == 78
    assert "hostnam" in result.stderr
