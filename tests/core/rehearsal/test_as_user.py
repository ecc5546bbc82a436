"""``check`` run as root says which files the configured user cannot read, before the first reload fails on them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.cli.running import SOUND, Folder, facts, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can look as somebody else")

TEXT = f'user = "nobody"\n{SOUND}'
CANNOT = "the user nobody cannot use it, so a reload would fail: cannot read"
TRUSTING = """
from pathlib import Path
from gatepost import Options, Secret, hookimpl
class Mine:
    class Options(Options):
        certificate: Path
        word: Secret
    @hookimpl
    def helo(self): ...
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    """An empty folder, which is the current one, and which every account can reach."""
    with tempfile.TemporaryDirectory(prefix="gatepost-") as name:
        os.chmod(name, 0o755)
        monkeypatch.chdir(name)
        monkeypatch.delenv("GATEPOST_CONFIG", raising=False)
        yield Folder(Path(name))


def warnings(folder: Folder) -> list[tuple[str, int, str, str]]:
    """The warnings of a configuration that root finds no mistake in."""
    said = facts("check", "--config", str(folder.config))
    assert said["errors"] == [] and run("check").exit_code == 0
    return [(each["where"].rpartition("/")[2], each["line"], each["key"], each["message"]) for each in said["warnings"]]


def test_nothing_is_said_about_files_that_the_user_can_read(folder: Folder) -> None:
    folder.write(TEXT.replace("domains", 'files = ["list"]\ndomains'), d_10="[limits]\nrecipients = 10\n")
    (folder.path / "list").write_text("bob@example.org\n")
    assert warnings(folder) == []


@pytest.mark.parametrize("name", ["gatepost.toml", "gatepost.d/10.toml"])
def test_a_configuration_file_that_the_user_cannot_read_is_a_warning(folder: Folder, name: str) -> None:
    folder.write(TEXT, d_10="[limits]\nrecipients = 10\n")
    (folder.path / name).chmod(0o600)
    assert warnings(folder) == [(name.rpartition("/")[2], 0, "", f"{CANNOT} the file: Permission denied")]


def test_a_folder_of_drop_ins_that_the_user_cannot_read_is_a_warning(folder: Folder) -> None:
    folder.write(TEXT, d_10="[limits]\nrecipients = 10\n")
    (folder.path / "gatepost.d").chmod(0o700)
    assert warnings(folder) == [("gatepost.d", 0, "", f"{CANNOT} the folder: Permission denied")]


def test_a_list_file_that_the_user_cannot_read_is_a_warning(folder: Folder) -> None:
    folder.write(TEXT.replace("domains", 'files = ["list"]\ndomains'))
    (folder.path / "list").write_text("bob@example.org\n")
    (folder.path / "list").chmod(0o640)
    (warning,) = warnings(folder)
    assert warning[:3] == ("gatepost.toml", 9, "plugins.recipients.files[0]")
    assert warning[3] == f"{CANNOT} {folder.path}/list: Permission denied"


def test_certificates_secrets_and_plugins_that_the_user_cannot_read_are_warnings(folder: Folder) -> None:
    table = '[plugins.mine]\nuse = "mine.py"\ncertificate = "ca.pem"\nword = { file = "word" }\n'
    folder.write(TEXT.replace('order = ["', 'order = ["mine", "') + table, mine=TRUSTING)
    for name in ("ca.pem", "word"):
        (folder.path / name).write_text("x")
    assert warnings(folder) == []
    for name in ("ca.pem", "word"):
        (folder.path / name).chmod(0o600)
    assert {(key, message) for _, _, key, message in warnings(folder)} == {
        ("plugins.mine.certificate", f"{CANNOT} {folder.path}/ca.pem: Permission denied"),
        ("plugins.mine.word", f"{CANNOT} {folder.path}/word: Permission denied"),
    }
    (folder.path / "mine.py").chmod(0o600)
    assert ("gatepost.toml", 11, "plugins.mine.use") in [each[:3] for each in warnings(folder)]


def test_what_a_trial_as_root_left_behind_is_a_warning(folder: Folder) -> None:
    state = folder.path / "state"
    state.mkdir(mode=0o700)
    (state / "journal.db").touch()
    folder.write(TEXT)
    assert [(key, message) for _, _, key, message in warnings(folder)] == [
        ("state_dir", f"the user nobody cannot write {state}: chown -R nobody: {state}"),
    ]
    shutil.chown(state, "nobody")
    assert [(key, message) for _, _, key, message in warnings(folder)] == [
        (
            "journal.path",
            f"the user nobody cannot write {state}/journal.db: chown -R nobody: {state}/journal.db",
        ),
    ]


def test_check_is_root_again_when_it_has_looked(folder: Folder) -> None:
    before = os.getresuid(), os.getresgid(), os.getgroups()
    folder.write(TEXT)
    run("check")
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
