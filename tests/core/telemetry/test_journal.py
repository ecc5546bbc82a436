"""The journal keeps the last refusals and messages, and is read while it is written."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from gatepost.errors import StoreError
from gatepost.rulings import Ruling
from gatepost.telemetry.journal import Journal
from gatepost.telemetry.search import find_records
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


def test_a_full_disk_is_called_so_and_what_is_lost_is_counted(path: Path) -> None:
    failures, losses = list[str](), list[int]()
    journal = Journal(path, 100, on_failure=failures.append, on_loss=losses.append)
    journal.open()
    assert journal._connection is not None
    journal._connection.execute("PRAGMA max_page_count = 1")  # of those that the file has already, none is taken away
    journal.put(refusal(helo=secrets.token_hex(16_000)))
    journal.put(refusal())
    journal.close()
    assert (failures, losses, journal.lost) == (["database or disk is full"], [2], 2)


def test_one_failed_write_leaves_no_transaction_open(path: Path) -> None:
    journal = Journal(path, 100)
    journal.open()
    assert journal._connection is not None
    (pages,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError, match="full"):
        journal._write([refusal(helo=secrets.token_hex(16_000)) for _ in range(5)])
    assert not journal._connection.in_transaction
    with sqlite3.connect(path, timeout=0) as other:
        other.execute("BEGIN IMMEDIATE")  # another process may write
    other.close()
    journal._connection.execute("PRAGMA max_page_count = 1000000")
    journal._write([refusal(id="3k9q0zf7ab")])
    journal.close()
    assert [facts["id"] for facts in find_records(path, "")] == ["3k9q0zf7ab"]


def test_a_locked_journal_loses_nothing(path: Path) -> None:
    failures: list[str] = []
    failed = Event()
    journal = Journal(path, 100, on_failure=lambda why: (failures.append(why), failed.set()))
    journal.open()
    assert journal._connection is not None
    journal._connection.execute("PRAGMA busy_timeout = 0")
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        journal.put(refusal(id="3k9q0zf7ab"))
        assert failed.wait(10)
        other.execute("ROLLBACK")
    other.close()
    journal.close()
    assert (failures, journal.lost) == (["database is locked"], 0)
    assert [facts["id"] for facts in find_records(path, "")] == ["3k9q0zf7ab"]


def no_table(path: Path) -> None:
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE records")
    other.close()


def no_database(path: Path) -> None:
    path.write_bytes(b"Received: from somewhere\n" * 1000)


def zero_all(path: Path) -> None:
    """As after a power failure: the file has its length, and none of its content."""
    path.write_bytes(bytes(path.stat().st_size))


def another_version(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE records (id TEXT PRIMARY KEY, facts BLOB NOT NULL)")
        other.execute("PRAGMA user_version = 1")
    other.close()


@pytest.mark.parametrize("damage", [no_database, zero_all, another_version])
def test_a_file_that_cannot_be_used_is_put_aside_at_the_start(path: Path, damage: Callable[[Path], None]) -> None:
    first = Journal(path, 100)
    first.open()
    first.put(refusal())
    first.close()
    damage(path)
    spoilt = path.read_bytes()
    replaced: list[str] = []
    journal = Journal(path, 100, on_replaced=replaced.append)
    journal.open()
    journal.put(refusal(id="3k9q0zf7ab"))
    journal.close()
    assert len(replaced) == 1
    assert Path(f"{path}.damaged").read_bytes() == spoilt
    assert [facts["id"] for facts in find_records(path, "")] == ["3k9q0zf7ab"]


def delete(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


@pytest.mark.parametrize("damage", [no_table, no_database, zero_all, delete])
def test_a_file_that_is_damaged_while_in_use_is_put_aside_and_no_record_is_lost(
    path: Path, damage: Callable[[Path], None]
) -> None:
    replaced: list[str] = []
    first = Journal(path, 1000)
    first.open()
    for _ in range(500):
        first.put(refusal())
    first.close()
    journal = Journal(path, 1000, on_replaced=replaced.append)
    journal.open()
    damage(path)
    journal.put(refusal(id="3k9q0zf7ab"))
    journal.put(refusal(id="3k9q0zf7ac"))
    journal.close()
    assert (len(replaced), journal.lost) == (1, 0)
    assert [facts["id"] for facts in find_records(path, "")] == ["3k9q0zf7ab", "3k9q0zf7ac"]


def test_a_journal_that_cannot_be_opened_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"journal .* cannot be used"):
        Journal(tmp_path / "nowhere" / "journal.db", 100).open()


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


def test_neighbours_share_a_block_that_is_packed_at_once(journal: Journal, path: Path) -> None:
    many = Journal(path.with_name("many.db"), 10_000)
    many.open()
    many._write([refusal() for _ in range(250)])
    many.close()
    with sqlite3.connect(path.with_name("many.db")) as other:
        blocks = other.execute("SELECT records, length(body) FROM blocks ORDER BY number").fetchall()
    other.close()
    assert [records for records, _ in blocks] == [100, 100, 50]
    assert blocks[0][1] < 100 * 40  # octets


def test_a_record_has_one_row_and_a_recipient_one(path: Path) -> None:
    journal = Journal(path, 10_000)
    journal.open()
    assert journal._connection is not None
    statements: list[str] = []
    journal._connection.set_trace_callback(statements.append)
    journal._write([refusal(recipients=("a@example.org", "b@example.org")) for _ in range(50)])
    journal._connection.set_trace_callback(None)
    journal.close()
    inserted = [statement.split()[2] for statement in statements if statement.startswith("INSERT")]
    assert {table: inserted.count(table) for table in inserted} == {
        "blocks": 1,
        "records": 50,
        "recipients": 100,
        "sums": 1,
    }
    assert len(statements) < 165  # with the transaction, the bounds, and nothing else for each record
