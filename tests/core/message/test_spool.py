"""Small messages stay in memory, large ones go to the disk, and all that was taken is given back."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.errors import SpoolError
from gatepost.message.message import Message
from gatepost.message.spool import Content, Spool
from gatepost.replies import (
    NO_ROOM,
)
from tests.core.message.feeding import feed, reader_of


def test_a_small_message_stays_in_memory_and_a_big_one_goes_to_a_file_without_a_name(tmp_path: Path) -> None:
    spool = Spool(tmp_path, memory=1000)
    content = spool.content()
    content.write(b"x" * 1000)
    assert spool.in_memory == 1000
    content.write(b"y" * 500)
    assert spool.in_memory == 0
    assert list(tmp_path.iterdir()) == []
    assert content.read(990, 20) == b"x" * 10 + b"y" * 10
    content.close()
    content.close()
    assert spool.in_memory == 0


def test_when_the_budget_is_spent_even_a_small_message_goes_to_a_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path, memory=1000, budget=1500)
    contents = [spool.content() for _ in range(5)]
    for content in contents:
        content.write(b"x" * 900)
    assert spool.in_memory <= 1500
    assert not spool.has_room()
    assert all(content.read(0, 1000) == b"x" * 900 for content in contents)
    for content in contents:
        content.close()
    assert spool.in_memory == 0
    assert spool.has_room()


def test_readers_of_one_content_do_not_disturb_each_other(tmp_path: Path) -> None:
    content = Spool(tmp_path, memory=10).content()
    content.write(b"0123456789abcdef")
    message = Message(content, header_size=0)
    with contextlib.closing(content), message.open() as one, message.open() as two:
        assert one.read(4) == b"0123"
        two.seek(10)
        assert (one.read(4), two.read(4)) == (b"4567", b"abcd")


@given(st.lists(st.integers(min_value=0, max_value=400), max_size=6), st.booleans(), st.booleans())
def test_what_the_spool_lent_comes_back(
    tmp_path_factory: Any, sizes: list[int], close_twice: bool, refuse: bool
) -> None:
    spool = Spool(tmp_path_factory.getbasetemp(), memory=300)
    for size in sizes:
        reader = reader_of(spool, max_size=200 if refuse else 10_000)
        feed(reader, b"x" * size + b"\r\n.\r\n")
        message = reader.message()
        reader.discard()
        if close_twice:
            message.close()
    assert spool.in_memory == 0


def test_a_disk_that_is_nearly_full_or_gone_has_no_room(tmp_path: Path) -> None:
    assert Spool(tmp_path, min_free=1).has_room()
    assert not Spool(tmp_path, min_free=1 << 62).has_room()
    assert not Spool(tmp_path / "gone", min_free=1).has_room()


def test_a_disk_that_cannot_be_written_is_452_at_the_end_and_costs_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "gone", memory=10)
    reader = reader_of(spool)
    assert feed(reader, b"Subject: x\r\n\r\n" + b"x" * 100 + b"\r\n.\r\n", [5, 30]) == b""
    assert reader.reply is NO_ROOM
    assert spool.in_memory == 0


class ShortWriter(io.FileIO):
    """A file that takes at most 1,000 octets at a time, as a disk may."""

    def write(self, block: Any) -> int:
        return super().write(memoryview(block)[:1000])


def test_a_short_write_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **how: ShortWriter(tmp_path / "file", "w+"))
    content = Spool(tmp_path, memory=5000).content()
    octets = bytes(range(256)) * 100
    for start in range(0, len(octets), 4999):
        content.write(octets[start : start + 4999])
    assert content.read(0, 30_000) == octets
    assert Message(content, header_size=0).size == 25_600
    content.close()


def test_a_disk_that_fails_in_the_midst_raises_spool_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = Content(Spool(tmp_path, memory=10))
    content.write(b"x" * 100)

    def fail(*arguments: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.pread", fail)
    with pytest.raises(SpoolError, match="cannot read"):
        content.read(0, 10)
    content.close()


def test_octets_that_others_keep_count_against_the_budget() -> None:
    spool = Spool(None, memory=10, budget=100)
    assert spool.take(90)
    assert spool.has_room()
    assert not spool.take(11)
    assert spool.in_memory == 90
    assert spool.take(10)
    assert not spool.has_room()
    spool.give_back(100)
    assert spool.in_memory == 0
