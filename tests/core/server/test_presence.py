"""A server is found by the lock in its state folder, and gets no signal that is not meant for it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from gatepost.errors import GatepostError
from gatepost.server.presence import Presence, ask_to_reload

NOBODY = "no gatepost is running with the state folder"


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that would have been sent."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *arguments: sent.append(arguments))
    return sent


def test_a_server_is_told_to_reload(tmp_path: Path, signals: list[tuple[int, int]]) -> None:
    presence = Presence(tmp_path)
    presence.begin()
    assert ask_to_reload(tmp_path) == os.getpid()
    assert signals == [(os.getpid(), signal.SIGHUP)]
    assert not presence.take_acceptance()
    presence.end()


def test_nobody_gets_a_signal_when_no_server_runs(tmp_path: Path, signals: list[tuple[int, int]]) -> None:
    with pytest.raises(GatepostError, match=NOBODY):
        ask_to_reload(tmp_path)
    presence = Presence(tmp_path)
    presence.begin()
    presence.end()
    assert (tmp_path / "server.pid").read_text() == f"{os.getpid()}\n"  # somebody else may have that id by now
    with pytest.raises(GatepostError, match=NOBODY):
        ask_to_reload(tmp_path, accept_shrunk=True)
    assert signals == []
    assert not (tmp_path / "accept-shrunk").exists()


def test_a_second_server_leaves_the_first_its_place(tmp_path: Path, signals: list[tuple[int, int]]) -> None:
    first, second = Presence(tmp_path), Presence(tmp_path)
    first.begin()
    second.begin()
    second.end()
    assert ask_to_reload(tmp_path) == os.getpid()
    first.end()


def test_the_acceptance_of_shrunk_lists_is_taken_once(tmp_path: Path, signals: list[tuple[int, int]]) -> None:
    presence = Presence(tmp_path)
    presence.begin()
    ask_to_reload(tmp_path, accept_shrunk=True)
    assert (tmp_path / "accept-shrunk").stat().st_mode & 0o777 == 0o600
    assert [presence.take_acceptance(), presence.take_acceptance()] == [True, False]
    presence.end()


@pytest.mark.parametrize("content", ["1\n", "", "\u00fc", "999999999"])
def test_an_acceptance_that_was_meant_for_another_process_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "accept-shrunk").write_text(content)
    assert not Presence(tmp_path).take_acceptance()
    assert not (tmp_path / "accept-shrunk").exists() or not content.isascii()


def test_a_server_that_starts_forgets_what_was_said_to_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "accept-shrunk").write_text(f"{os.getpid()}\n")
    presence = Presence(tmp_path)
    presence.begin()
    assert not presence.take_acceptance()
    presence.end()


def test_a_signal_that_cannot_be_sent_leaves_no_acceptance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int, sent: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    presence = Presence(tmp_path)
    presence.begin()
    monkeypatch.setattr(os, "kill", refuse)
    with pytest.raises(GatepostError, match="cannot tell gatepost to reload: Operation not permitted"):
        ask_to_reload(tmp_path, accept_shrunk=True)
    assert not presence.take_acceptance()
    presence.end()


def test_a_link_in_the_place_of_the_acceptance_is_not_followed(tmp_path: Path, signals: list[tuple[int, int]]) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "accept-shrunk").symlink_to(tmp_path / "precious")
    presence = Presence(tmp_path)
    presence._folder = tmp_path / "elsewhere"  # nothing is taken away first
    presence._folder.mkdir()
    presence.begin()
    (tmp_path / "elsewhere/server.pid").rename(tmp_path / "server.pid")
    ask_to_reload(tmp_path, accept_shrunk=True)
    assert (tmp_path / "precious").read_text() == "kept"
    presence.end()
