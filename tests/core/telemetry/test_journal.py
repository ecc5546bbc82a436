"""The journal keeps the last refusals and messages, and is read while it is written."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gatepost.errors import StoreError
from gatepost.rulings import Ruling
from gatepost.telemetry.journal import Journal, find_records
from tests.core.telemetry.records import refusal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """An open journal that keeps a hundred records."""
    journal = Journal(path, 100)
    journal.open()
    yield journal
    journal.close()


def test_a_record_is_found_by_its_id(journal: Journal, path: Path) -> None:
    record = refusal()
    journal.put(refusal())
    journal.put(record)
    journal.close()
    assert find_records(path, record.id) == [record.facts()]


def test_every_record_is_found_whose_id_begins_so(journal: Journal, path: Path) -> None:
    for identifier in ("3k9q0zf7aa", "3k9q0zf7ab", "3k9q0zf7bb", "3k9q1zzzzz"):
        journal.put(refusal(id=identifier))
    journal.close()
    assert [facts["id"] for facts in find_records(path, "3k9q0zf7")] == ["3k9q0zf7aa", "3k9q0zf7ab", "3k9q0zf7bb"]
    assert [facts["id"] for facts in find_records(path, "3k9q0zf7b")] == ["3k9q0zf7bb"]
    assert find_records(path, "4") == []


def test_refusals_and_messages_are_kept_and_session_ends_are_not(journal: Journal, path: Path) -> None:
    for event in ("refused", "accepted", "disconnected"):
        journal.put(refusal(event=event))
    journal.close()
    assert sorted(facts["event"] for facts in find_records(path, "")) == ["accepted", "refused"]


def test_it_is_read_while_it_is_open_for_writing(path: Path) -> None:
    first, second = Journal(path, 100), Journal(path, 100)
    first.open()
    first.put(refusal())
    first.close()
    second.open()
    assert len(find_records(path, "")) == 1
    second.close()


def test_the_oldest_go(path: Path) -> None:
    records = [refusal() for _ in range(250)]
    for part in (records[:120], records[120:]):
        journal = Journal(path, 100)
        journal.open()
        for record in part:
            journal.put(record)
        journal.close()
    kept = [facts["id"] for facts in find_records(path, "", most=1000)]
    assert kept == [record.id for record in records[-len(kept) :]]
    assert 100 <= len(kept) <= 105


def test_a_record_of_a_thousand_rulings_is_cut(journal: Journal, path: Path) -> None:
    rulings = tuple(Ruling(f"phase{number}") for number in range(1000))
    journal.put(refusal(rulings=rulings))
    journal.close()
    (facts,) = find_records(path, "")
    phases = [ruling["phase"] for ruling in facts["rulings"]]
    assert phases == [f"phase{number}" for number in (*range(5), *range(965, 1000))]


def test_what_a_client_says_can_be_kept_whatever_it_is(journal: Journal, path: Path) -> None:
    journal.put(refusal(helo="\udcff\x00\u202e"))
    journal.close()
    assert find_records(path, "")[0]["helo"] == "\\udcff\x00\u202e"


def test_a_full_disk_is_called_so(path: Path) -> None:
    losses: list[str] = []
    journal = Journal(path, 100, losses.append)
    journal.open()
    assert journal._connection is not None
    journal._connection.execute("PRAGMA max_page_count = 1")  # of those that the file has already, none is taken away
    journal.put(refusal(helo=secrets.token_hex(20_000)))
    journal.close()
    assert losses == ["database or disk is full"]


def test_what_cannot_be_written_is_lost_and_said_once(path: Path) -> None:
    losses: list[str] = []
    journal = Journal(path, 100, losses.append)
    journal.open()
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE records")
    other.close()
    journal.put(refusal())
    journal.put(refusal())
    journal.close()
    assert journal.lost == 2
    assert losses == ["no such table: records"]


def test_a_journal_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"journal .* cannot be used"):
        Journal(tmp_path / "nowhere" / "journal.db", 100).open()


def test_a_file_of_another_kind_or_version_is_not_touched(path: Path) -> None:
    path.write_text("this is no journal, and somebody may want it")
    with pytest.raises(StoreError, match="not a database"):
        Journal(path, 100).open()
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 7")
    other.close()
    with pytest.raises(StoreError, match="another version"):
        Journal(path, 100).open()


def test_a_journal_that_is_not_there_cannot_be_read(path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        find_records(path, "3k9q0zf7aa")
    assert not path.exists()


def test_only_its_owner_reads_it(journal: Journal, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_before_it_is_open_nothing_is_kept_and_nothing_raised(path: Path) -> None:
    journal = Journal(path, 100)
    journal.put(refusal())
    journal.close()
    assert not path.exists()
