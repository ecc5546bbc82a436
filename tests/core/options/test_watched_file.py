"""A watched file is reread when it changes, and keeps its last good content."""

import os
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from gatepost.options import (
    WatchedFile,
)
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
