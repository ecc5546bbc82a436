"""A watched file is reread when it changes, and keeps its last good content."""

import gc
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from gatepost.options import ListFiles, WatchedFile
from gatepost.testing.recording import GateEvents
from tests.core.options.examples import refusal


class Watched:
    """A watched file, its clock, and what was logged about it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.time = 0.0
        path.write_text("one\n")
        self.events = GateEvents()
        self.file = WatchedFile(path, monotonic=lambda: self.time, recorder=self.events)

    def write(self, text: str) -> None:
        """Change the file and let the time pass after which it is looked at again."""
        self.path.write_text(text)
        self.path.touch()
        os.utime(self.path, ns=(0, int(self.time + 1) * 10**9))
        self.time += 1.0


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "list")


def test_lines_come_without_comments_and_blanks(watched: Watched) -> None:
    watched.write("# head\n\n  a@example.com  # the boss\n\tb#c@example.com\n#x\n")
    assert watched.file.lines() == ("a@example.com", "b#c@example.com")


def test_a_changed_file_is_reread(watched: Watched) -> None:
    assert watched.file.text() == "one\n"
    watched.write("two\n")
    assert watched.file.text() == "two\n"


def test_a_file_is_looked_at_once_a_second_at_most(watched: Watched) -> None:
    watched.path.write_text("changed\n")
    watched.time = 0.9
    assert watched.file.text() == "one\n"
    watched.time = 1.0
    assert watched.file.text() == "changed\n"


def test_a_replaced_file_of_the_same_size_and_time_is_reread(watched: Watched, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("two\n")
    times = watched.path.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.rename(watched.path)
    watched.time = 1.0
    assert watched.file.text() == "two\n"


def test_a_file_that_goes_away_leaves_its_last_content_and_one_warning(watched: Watched) -> None:
    watched.path.unlink()
    for _ in range(3):
        watched.time += 1.0
        assert watched.file.lines() == ("one",)
    assert watched.file.problem == f"cannot read {watched.path}: No such file or directory"
    assert watched.events.named("file_unusable") == [{"path": str(watched.path), "error": watched.file.problem}]
    watched.write("back\n")
    assert watched.file.lines() == ("back",)
    assert watched.file.problem is None


def test_the_last_content_of_a_file_that_is_no_longer_text_stays_in_use(watched: Watched) -> None:
    watched.path.write_bytes(b"\xff\xfe\n")
    watched.time = 1.0
    assert watched.file.text() == "one\n"
    assert watched.file.problem == f"cannot read {watched.path}: it is not UTF-8 text"


def test_parsed_content_is_kept_until_the_file_changes(watched: Watched) -> None:
    seen = []

    def parse(text: str) -> int:
        seen.append(text)
        return len(text)

    assert [watched.file.parsed(parse), watched.file.parsed(parse)] == [4, 4]
    watched.write("three\n")
    assert watched.file.parsed(parse) == 6
    assert seen == ["one\n", "three\n"]


def test_content_that_does_not_parse_leaves_the_last_good_result(watched: Watched) -> None:
    def parse(text: str) -> str:
        if "bad" in text:
            raise ValueError("line 1 is bad")
        return text

    assert watched.file.parsed(parse) == "one\n"
    watched.write("bad\n")
    assert [watched.file.parsed(parse), watched.file.parsed(parse)] == ["one\n", "one\n"]
    assert watched.file.problem == f"{watched.path}: line 1 is bad"
    assert len(watched.events.named("file_unusable")) == 1
    watched.write("good\n")
    assert watched.file.parsed(parse) == "good\n"
    assert watched.file.problem is None


def test_content_that_never_parsed_raises(watched: Watched) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        watched.file.parsed(int)


def test_a_missing_file_is_a_mistake_and_a_relative_path_is_beside_the_configuration(tmp_path: Path) -> None:
    context = {"folder": tmp_path}
    assert refusal(WatchedFile, "list", context) == f"cannot read {tmp_path}/list: No such file or directory"
    (tmp_path / "list").write_text("a\n")
    assert TypeAdapter(WatchedFile).validate_python("list", context=context).lines() == ("a",)


def test_a_folder_or_a_pipe_is_no_list_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        assert refusal(WatchedFile, str(path)) == f"cannot read {path}: it is not a regular file"
    assert refusal(WatchedFile, 5) == "expected the path of a file, as text"


# The list files of a server


class Listed:
    """A list file of a server, as ``recipients`` uses it, and what was logged about it."""

    def __init__(self, path: Path, count: int = 20) -> None:
        self.path = path
        self.events = GateEvents()
        self.files = ListFiles()
        self.parsed: list[str] = []
        self.parse: Callable[[str], list[str]] = self._parse  # one object, like a function
        self.writes = 0
        self.write(count)
        self.file = self.open()

    def open(self) -> WatchedFile:
        """The file as the options of one more policy have it."""
        file = self.files.open(self.path, self.events)
        file.parsed(self.parse, vouches=True)
        return file

    def _parse(self, text: str) -> list[str]:
        if "bad" in text:
            raise ValueError("line 1: bad")
        self.parsed.append(text)
        return text.split()

    def write(self, content: int | str) -> None:
        """Change the file: to so many entries, or to a text."""
        self.writes += 1
        self.path.write_text(content if isinstance(content, str) else "entry\n" * content)
        os.utime(self.path, ns=(0, self.writes * 10**9))

    @property
    def entries(self) -> int:
        """The number of entries in use."""
        return len(self.file.parsed(self.parse, vouches=True))


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    return Listed(tmp_path / "list")


def test_a_change_is_believed_when_two_looks_agree(listed: Listed) -> None:
    listed.write(30)
    assert listed.entries == 20
    listed.files.look()
    assert listed.entries == 20
    listed.files.look()
    assert listed.entries == 30


def test_a_file_that_is_being_written_is_not_read_in_halves(listed: Listed) -> None:
    for half in (15, 18, 25, 40):
        listed.write(half)
        listed.files.look()
        assert listed.entries == 20
    listed.files.look()
    assert (listed.entries, len(listed.parsed)) == (40, 2)


def test_a_file_that_changes_while_it_is_read_is_looked_at_once_more(
    listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed.write(25)
    listed.files.look()
    read = Path.read_text

    def written_meanwhile(path: Path, **how: str) -> str:
        text = read(path, **how)
        monkeypatch.undo()
        listed.write(30)
        return text

    monkeypatch.setattr(Path, "read_text", written_meanwhile)
    listed.files.look()
    assert listed.entries == 20
    listed.files.look()
    listed.files.look()
    assert listed.entries == 30


def test_a_look_parses_and_who_uses_the_list_does_not(listed: Listed) -> None:
    listed.write(30)
    listed.files.look()
    listed.files.look()
    assert len(listed.parsed) == 2
    for _ in range(3):
        assert listed.entries == 30
    assert len(listed.parsed) == 2


def test_a_file_is_reported_missing_when_two_looks_agree(listed: Listed) -> None:
    listed.path.unlink()
    listed.files.look()
    assert listed.file.problem is None
    for _ in range(3):
        listed.files.look()
    assert listed.file.problem == f"cannot read {listed.path}: No such file or directory"
    assert len(listed.events.named("file_unusable")) == 1
    assert listed.entries == 20


@pytest.mark.parametrize("error", [ValueError("bad"), TypeError("bad")])
def test_a_file_that_cannot_be_parsed_keeps_others_from_nothing(
    listed: Listed, tmp_path: Path, error: Exception
) -> None:
    def failing(text: str) -> str:
        if text != "1":
            raise error
        return text

    (tmp_path / "other").write_text("1")
    other = listed.files.open(tmp_path / "other", listed.events)
    other.parsed(failing)
    (tmp_path / "other").write_text("22")
    listed.write(30)
    listed.files.look()
    listed.files.look()
    assert (listed.entries, other.parsed(failing)) == (30, "1")
    assert "bad" in str(other.problem)


@pytest.mark.parametrize(
    ("before", "after", "believed"),
    [(20, 10, True), (20, 9, False), (20, 0, False), (11, 1, True), (11, 0, False), (10, 0, True), (1000, 500, True)],
)
def test_a_list_that_vouches_and_loses_more_than_half_and_more_than_ten_entries_at_once_is_not_believed(
    tmp_path: Path, before: int, after: int, believed: bool
) -> None:
    listed = Listed(tmp_path / "list", before)
    listed.write(after)
    for _ in range(4):
        listed.files.look()
    assert listed.entries == (after if believed else before)
    shrunk = {"path": str(listed.path), "entries": before, "found": after}
    advice = {"advice": "gatepost reload --accept-shrunk, if that is meant"}
    assert listed.events.named("list_shrunk") == ([] if believed else [shrunk | advice])
    assert (listed.file.problem is None) is believed


def test_a_shrunk_list_is_believed_once_that_is_accepted_and_only_then(listed: Listed) -> None:
    listed.write(2)
    listed.files.look(at_once=True)
    listed.files.look(at_once=True)
    assert listed.entries == 20
    listed.files.look(at_once=True, accept_shrunk=True)
    assert (listed.entries, listed.file.problem) == (2, None)
    listed.write(40)
    listed.files.look(at_once=True)
    listed.write(3)
    listed.files.look(at_once=True)
    assert listed.entries == 40


def test_a_shrunk_list_that_grows_again_is_believed(listed: Listed) -> None:
    listed.write(2)
    listed.files.look(at_once=True)
    listed.write(19)
    listed.files.look(at_once=True)
    assert (listed.entries, listed.file.problem) == (19, None)


def test_a_list_that_vouches_for_nothing_may_lose_all(listed: Listed, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("x " * 100)
    other = listed.files.open(tmp_path / "other", listed.events)
    assert len(other.parsed(str.split)) == 100
    (tmp_path / "other").write_text("x")
    listed.files.look(at_once=True)
    assert other.parsed(str.split) == ["x"]


def test_the_next_policy_has_the_content_in_use_without_parsing_it_again(listed: Listed) -> None:
    first = listed.file.parsed(listed.parse)
    assert listed.open().parsed(listed.parse) is first
    listed.write(2)
    listed.files.look(at_once=True)
    listed.file = listed.open()  # a reload is no way for a list to lose its entries unnoticed
    assert listed.entries == 20
    listed.files.look(at_once=True, accept_shrunk=True)
    assert listed.entries == 2


def test_the_files_of_a_policy_that_is_gone_are_forgotten(listed: Listed) -> None:
    listed.open()
    gc.collect()
    assert len(listed.files) == 1
    del listed.file
    gc.collect()
    assert len(listed.files) == 0
