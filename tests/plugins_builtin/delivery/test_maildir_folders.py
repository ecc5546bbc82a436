"""What lies in a maildir already: files that a crash has left, and links that lead elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.plugins_builtin.delivery.test_maildir import files_in, policy_of, send

HOUR = 3600.0
LEFT_OVER = "1700000000.M5P77Q1.mx.example.org"


def leave(folder: Path, name: str, hours: float) -> Path:
    """Leave a file in ``tmp`` that is so old."""
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    path = folder / "tmp" / name
    path.write_text("half a mess")
    then = path.stat().st_mtime - hours * HOUR
    os.utime(path, (then, then))
    return path


async def test_its_own_tmp_files_older_than_36_hours_are_swept(tmp_path: Path) -> None:
    old = leave(tmp_path, LEFT_OVER, 36.1)
    kept = [
        leave(tmp_path, "1700000000.M5P77Q2.mx.example.org", 35.9),
        leave(tmp_path, "1700000000.P77.of-another-program", 1000),
        leave(tmp_path, "1700000000.M5P77Q3", 1000),
    ]
    assert (await send(policy_of(tmp_path), "bob@example.org")).code == 250
    assert not old.exists()
    assert [path for path in files_in(tmp_path) if path.parent.name == "tmp"] == sorted(kept)


async def test_a_maildir_is_swept_at_most_once_an_hour(tmp_path: Path) -> None:
    policy = policy_of(tmp_path)
    await send(policy, "bob@example.org")
    left = leave(tmp_path, LEFT_OVER, 40)
    await policy.clock.advance(0.9 * HOUR)
    await send(policy, "bob@example.org")
    assert left.exists()
    await policy.clock.advance(0.2 * HOUR)
    await send(policy, "bob@example.org")
    assert not left.exists()


async def test_a_link_among_the_left_over_files_is_removed_and_not_followed(tmp_path: Path) -> None:
    target = leave(tmp_path / "elsewhere", "precious", 1000)
    (tmp_path / "box" / "tmp").mkdir(parents=True)
    link = tmp_path / "box" / "tmp" / LEFT_OVER
    link.symlink_to(target)
    os.utime(link, (1, 1), follow_symlinks=False)
    assert (await send(policy_of(tmp_path / "box"), "bob@example.org")).code == 250
    assert not link.is_symlink() and target.exists()


@pytest.mark.parametrize("part", ["tmp", "new", "cur"])
async def test_a_symlinked_new_is_not_followed(tmp_path: Path, part: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / part).symlink_to(tmp_path / "elsewhere")
    policy = policy_of(tmp_path / "box")
    reply = await send(policy, "bob@example.org")
    assert (reply.code, reply.status) == (451, "4.3.0")
    assert files_in(tmp_path) == []


async def test_a_link_that_takes_the_place_of_new_meanwhile_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    box = tmp_path / "box"
    policy = policy_of(box)
    assert (await send(policy, "bob@example.org")).code == 250
    (first,) = files_in(box)
    fsync = os.fsync

    def swap(descriptor: int) -> None:
        fsync(descriptor)
        if not (box / "new").is_symlink():  # the file is written, the rename comes next
            (box / "new").rename(box / "old")
            (box / "new").symlink_to(tmp_path / "elsewhere")

    monkeypatch.setattr(os, "fsync", swap)
    assert (await send(policy, "bob@example.org")).code == 451
    assert files_in(tmp_path) == [box / "old" / first.name]


async def test_a_maildir_that_is_itself_a_link_is_in_order(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "box").symlink_to(tmp_path / "disk")
    assert (await send(policy_of(tmp_path / "box"), "bob@example.org")).code == 250
    assert [path.parent for path in files_in(tmp_path / "disk")] == [tmp_path / "disk" / "new"]
