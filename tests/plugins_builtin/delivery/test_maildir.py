"""maildir: whole files in the right folder, and nothing half there whatever fails on the way."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gatepost import Message, accept, hookimpl
from gatepost.testing import MESSAGE, Policy, TestClock, instance
from gatepost_builtin.delivery import maildir
from gatepost_builtin.delivery.maildir import Maildir

BODY = MESSAGE.replace(b"\r\n", b"\n")


def policy_of(path: Path | str, *others: Any, spool: Path | None = None) -> Policy:
    """A policy that asks ``others`` and delivers to ``path``."""
    return Policy(*others, instance(Maildir, "maildir", path=str(path)), spool=spool)


async def send(policy: Policy, *recipients: str, sender: str = "a@example.com", content: bytes = MESSAGE) -> Any:
    """One transaction; the last reply."""
    client = await policy.connect()
    await client.ehlo()
    assert (await client.mail(sender)).code == 250
    for recipient in recipients:
        assert (await client.rcpt(recipient)).code == 250
    return await client.data(content)


def files_in(folder: Path) -> list[Path]:
    """All files below ``folder``, whole or not."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def only_file(folder: Path) -> Path:
    (path,) = files_in(folder)
    return path


# A message in a maildir


async def test_a_message_lies_in_new_and_the_reply_names_its_file(tmp_path: Path) -> None:
    reply = await send(policy_of(tmp_path), "bob@example.org")
    path = only_file(tmp_path)
    assert path.parent == tmp_path / "new"
    assert reply.code == 250
    assert reply.text.endswith(path.name)


async def test_it_begins_with_return_path_and_delivered_to(tmp_path: Path) -> None:
    await send(policy_of(tmp_path), "bob@example.org")
    lines = only_file(tmp_path).read_bytes().splitlines()
    assert lines[:2] == [b"Return-Path: <a@example.com>", b"Delivered-To: bob@example.org"]
    assert lines[2].startswith(b"Received: ")


async def test_the_null_reverse_path_is_written_as_such(tmp_path: Path) -> None:
    await send(policy_of(tmp_path), "bob@example.org", sender="")
    assert only_file(tmp_path).read_bytes().startswith(b"Return-Path: <>\nDelivered-To: ")


async def test_a_quoted_local_part_stays_quoted_in_the_headers(tmp_path: Path) -> None:
    await send(policy_of(tmp_path), '"b o b"@example.org', sender='"a a"@example.com')
    lines = only_file(tmp_path).read_bytes().splitlines()
    assert lines[:2] == [b'Return-Path: <"a a"@example.com>', b'Delivered-To: "b o b"@example.org']


async def test_line_ends_are_lf_and_the_rest_is_as_it_came(tmp_path: Path) -> None:
    content = b"Subject: x\r\n\r\n.dot\r\nFrom here\r\nbare\nbare\rend\r\n\r\n"
    await send(policy_of(tmp_path), "bob@example.org", content=content)
    written = only_file(tmp_path).read_bytes()
    assert b"\r" not in written
    assert written.endswith(b"Subject: x\n\n.dot\nFrom here\nbare\nbare\nend\n\n")


@pytest.mark.parametrize("shift", [0, 1, 2])
async def test_a_large_message_is_whole_wherever_its_blocks_end(tmp_path: Path, shift: int) -> None:
    content = b"Subject: " + b"x" * shift + b"\r\n\r\n" + b"a\r\n" * 600_000
    (tmp_path / "spool").mkdir()
    reply = await send(policy_of(tmp_path / "mail", spool=tmp_path / "spool"), "bob@example.org", content=content)
    assert reply.code == 250
    assert only_file(tmp_path / "mail").read_bytes().endswith(content.replace(b"\r\n", b"\n"))


async def test_header_edits_are_in_the_file(tmp_path: Path) -> None:
    class Editing:
        @hookimpl
        def message(self, message: Message) -> None:
            message.remove("Subject")
            message.prepend("X-Checked", "yes")

    await send(policy_of(tmp_path, Editing()), "bob@example.org")
    written = only_file(tmp_path).read_bytes()
    assert b"\nX-Checked: yes\n" in written
    assert b"Subject:" not in written


async def test_the_maildir_and_its_parents_are_made_for_their_owner_only(tmp_path: Path) -> None:
    await send(policy_of(tmp_path / "mail" / "{domain}" / "{local}"), "bob@example.org")
    box = tmp_path / "mail" / "example.org" / "bob"
    for folder in (box / "tmp", box / "new", box / "cur", box, box.parent, box.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(only_file(box).stat().st_mode) == 0o600


async def test_what_is_made_is_made_safe_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[Path] = []
    sync_folder = maildir.sync_folder
    monkeypatch.setattr(maildir, "sync_folder", lambda folder: (synced.append(folder), sync_folder(folder)))
    policy = policy_of(tmp_path / "mail" / "{local}")
    box = tmp_path / "mail" / "bob"
    await send(policy, "bob@example.org")
    assert set(synced) == {tmp_path, box.parent, box, box / "new", box / "tmp"}
    synced.clear()
    await send(policy, "bob@example.org")
    assert synced == [box / "new", box / "tmp"]


async def test_file_names_are_unique_though_the_clock_stands_still(tmp_path: Path) -> None:
    policy = policy_of(tmp_path)
    policy.plugin("maildir").clock = TestClock(start=1_800_000_000.25)
    for _ in range(5):
        assert (await send(policy, "bob@example.org")).code == 250
    assert len(files_in(tmp_path / "new")) == 5
    for path in files_in(tmp_path):
        time, process, host = path.name.split(".", 2)
        assert time == "1800000000"
        assert process.startswith(f"M250000P{os.getpid()}Q")
        assert host
        assert ":" not in path.name


async def test_two_instances_write_different_names_into_one_maildir(tmp_path: Path) -> None:
    for _ in range(2):
        assert (await send(policy_of(tmp_path), "bob@example.org")).code == 250
    assert len(files_in(tmp_path)) == 2


async def test_a_host_name_with_odd_characters_makes_no_odd_file_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "../a:b")
    assert (await send(policy_of(tmp_path), "bob@example.org")).code == 250
    assert only_file(tmp_path).parent == tmp_path / "new"
    assert only_file(tmp_path).name.endswith(".%2E.%2Fa%3Ab")


# Several recipients


async def test_each_recipient_has_a_file_in_its_own_maildir(tmp_path: Path) -> None:
    reply = await send(policy_of(tmp_path / "{local}"), "bob@example.org", "alice@example.org")
    assert reply.code == 250
    for name in ("bob", "alice"):
        written = only_file(tmp_path / name).read_bytes()
        assert written.count(b"Delivered-To: ") == 1
        assert f"Delivered-To: {name}@example.org\n".encode() in written


async def test_recipients_of_one_maildir_share_a_file_that_names_them_all(tmp_path: Path) -> None:
    reply = await send(policy_of(tmp_path), "bob@example.org", "alice@example.org")
    assert reply.code == 250
    assert only_file(tmp_path).read_bytes().splitlines()[1:3] == [
        b"Delivered-To: bob@example.org",
        b"Delivered-To: alice@example.org",
    ]


async def test_capital_letters_lead_to_the_same_maildir(tmp_path: Path) -> None:
    await send(policy_of(tmp_path / "{local}"), "Bob@example.org", "bob@example.org")
    assert only_file(tmp_path / "bob").read_bytes().count(b"Delivered-To: ") == 2


async def test_the_bare_postmaster_is_the_one_of_this_host(tmp_path: Path) -> None:
    policy = policy_of(tmp_path / "{domain}" / "{local}")
    assert (await send(policy, "postmaster")).code == 250
    assert b"Delivered-To: postmaster\n" in only_file(tmp_path / "mx.example.org" / "postmaster").read_bytes()


async def test_only_those_who_still_wait_get_the_message(tmp_path: Path) -> None:
    class TakingAlice:
        grants = "delivery"

        @hookimpl
        def queue(self, envelope: Any) -> Any:
            return {each: accept("taken elsewhere") for each in envelope.pending if each.local == "alice"}

    reply = await send(policy_of(tmp_path / "{local}", TakingAlice()), "alice@example.org", "bob@example.org")
    assert reply.code == 250
    assert [path.relative_to(tmp_path).parts[0] for path in files_in(tmp_path)] == ["bob"]


# What fails on the way

RECIPIENTS = ("one@example.org", "two@example.org", "three@example.org")


class Faults:
    """Makes the n-th call of functions of ``os`` fail, and counts."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.patch = patch
        self.calls = 0

    def at(self, number: int, *names: str, code: int = errno.EIO) -> None:
        """Let the ``number``-th call (from 1) of any of ``names`` fail; 0: none."""
        for name in names:
            self.patch.setattr(maildir.os, name, self._failing(getattr(os, name), number, code))

    def _failing(self, function: Callable[..., Any], number: int, code: int) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls == number:
                raise OSError(code, os.strerror(code))
            return function(*arguments, **named)

        return call


@pytest.fixture
def faults() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield Faults(patch)


def whole(path: Path) -> bool:
    return path.read_bytes().endswith(BODY)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_when_a_file_cannot_be_made_none_appears(tmp_path: Path, faults: Faults, number: int) -> None:
    policy = policy_of(tmp_path / "{local}")
    assert (await send(policy, *RECIPIENTS)).code == 250
    before = files_in(tmp_path)
    faults.at(number, "open")
    reply = await send(policy, *RECIPIENTS)
    assert (reply.code, reply.status) == (451, "4.3.0")
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("room", [0, 1000, 400_000, 1_000_000])
async def test_when_the_disk_is_full_in_the_middle_none_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    class SmallDisk(io.FileIO):
        def write(self, block: Any) -> int:
            nonlocal room
            if len(block) > room:
                raise OSError(errno.ENOSPC, "No space left on device")
            room -= len(block)
            return super().write(block)

    monkeypatch.setattr(maildir.os, "fdopen", lambda number, mode: io.BufferedWriter(SmallDisk(number, "wb")))
    content = b"Subject: x\r\n\r\n" + b"a\r\n" * 180_000
    reply = await send(policy_of(tmp_path / "{local}"), *RECIPIENTS, content=content)
    assert (reply.code, reply.status) == (452, "4.3.1")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_when_a_file_cannot_be_made_safe_none_appears(tmp_path: Path, faults: Faults, number: int) -> None:
    policy = policy_of(tmp_path / "{local}")
    assert (await send(policy, *RECIPIENTS)).code == 250
    before = files_in(tmp_path)
    faults.at(number, "fsync")
    assert (await send(policy, *RECIPIENTS)).code == 451
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_when_a_rename_fails_just_that_recipient_is_asked_for_again(
    tmp_path: Path, faults: Faults, number: int
) -> None:
    policy = policy_of(tmp_path / "{local}")
    faults.at(number, "rename")
    assert (await send(policy, *RECIPIENTS)).code == 451
    names = [recipient.partition("@")[0] for recipient in RECIPIENTS]
    missing = names.pop(number - 1)
    assert {path.relative_to(tmp_path).parts[:2] for path in files_in(tmp_path)} == {(name, "new") for name in names}
    assert (await send(policy, *RECIPIENTS)).code == 250
    assert sorted(path.relative_to(tmp_path).parts[0] for path in files_in(tmp_path)) == sorted([*names, missing])
    assert all(whole(path) for path in files_in(tmp_path))


@pytest.mark.parametrize("number", range(4, 10))
async def test_when_a_folder_cannot_be_made_safe_its_file_is_taken_back(
    tmp_path: Path, faults: Faults, number: int
) -> None:
    policy = policy_of(tmp_path / "{local}")
    assert (await send(policy, *RECIPIENTS)).code == 250
    faults.at(number, "fsync")
    assert (await send(policy, *RECIPIENTS, content=b"Subject: second\r\n\r\n" + BODY)).code == 451
    failed = RECIPIENTS[(number - 4) // 2].partition("@")[0]
    counts = {name.partition("@")[0]: len(files_in(tmp_path / name.partition("@")[0])) for name in RECIPIENTS}
    assert counts == {name: 1 if name == failed else 2 for name in counts}


async def test_wherever_it_fails_each_recipient_gets_it_once_with_one_retry(
    tmp_path: Path,
) -> None:
    """Every call in turn: what is there is whole, and the retry brings the rest and nothing twice."""
    number = 0
    while True:
        number += 1
        box = tmp_path / str(number)
        policy = policy_of(box / "{local}")
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch)
            faults.at(number, "open", "fsync", "rename", "mkdir")
            first = await send(policy, *RECIPIENTS)
        assert all(path.parent.name == "new" and whole(path) for path in files_in(box))
        if faults.calls < number:
            break
        assert first.code == 451
        assert (await send(policy, *RECIPIENTS)).code == 250
        assert [path.relative_to(box).parts[:2] for path in files_in(box)] == [
            (name, "new") for name in ("one", "three", "two")
        ]
    assert number > 20


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        (errno.ENOSPC, (452, "4.3.1")),
        (errno.EDQUOT, (452, "4.3.1")),
        (errno.EIO, (451, "4.3.0")),
        (errno.EACCES, (451, "4.3.0")),
        (errno.EROFS, (451, "4.3.0")),
    ],
)
async def test_a_full_disk_is_452_and_every_other_fault_451(
    tmp_path: Path, faults: Faults, code: int, reply: tuple[int, str]
) -> None:
    policy = policy_of(tmp_path)
    assert (await send(policy, "bob@example.org")).code == 250
    faults.at(1, "fsync", code=code)
    answer = await send(policy, "bob@example.org")
    assert (answer.code, answer.status) == reply
    assert os.strerror(code) not in answer.text
    assert [(line.name, line.facts) for line in policy.log] == [
        ("delivery_failed", {"error": f"[Errno {code}] {os.strerror(code)}"})
    ]


async def test_a_file_in_the_way_of_a_maildir_is_a_fault_of_ours(tmp_path: Path) -> None:
    (tmp_path / "bob").write_text("not a folder")
    reply = await send(policy_of(tmp_path / "{local}"), "alice@example.org", "bob@example.org")
    assert reply.code == 451
    assert files_in(tmp_path) == [tmp_path / "bob"]


async def test_a_spool_that_cannot_be_read_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"Subject: x\r\n\r\n" + b"a\r\n" * 200_000
    (tmp_path / "spool").mkdir()
    policy = policy_of(tmp_path / "mail", spool=tmp_path / "spool")

    def broken(*arguments: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("gatepost.message.spool.os.pread", broken)
    reply = await send(policy, "bob@example.org", content=content)
    assert (reply.code, reply.status) == (451, "4.3.0")
    assert files_in(tmp_path) == []


def test_what_it_may_do_is_declared() -> None:
    assert Maildir.grants == "delivery"
    assert Maildir.takes_everything
