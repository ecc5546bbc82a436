"""The journal is bounded by number, octets and age, and for each client; the clock cannot empty it."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gatepost.decisions import deny
from gatepost.rulings import Ruling, Said
from gatepost.telemetry.journal import Journal
from gatepost.telemetry.record import Record
from gatepost.telemetry.search import find_records
from tests.core.telemetry.records import refusal

DAY = 86_400.0
NOW = 1_800_000_000.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def written(path: Path, records: Iterable[Record], keep: int = 100, **bounds: Any) -> list[str]:
    """Write records one batch each, and return the ids of all that the journal holds then."""
    journal = Journal(path, keep, **bounds)
    journal.open()
    for record in records:
        journal._write([record])
    journal.close()
    return [facts["id"] for facts in find_records(path, "", most=100_000)]


def of_clients(number: int, **changed: Any) -> list[Record]:
    """Records of as many clients."""
    return [refusal(client=f"192.0.{place // 250}.{place % 250}", **changed) for place in range(number)]


def test_the_oldest_go(path: Path) -> None:
    records = of_clients(250)
    written(path, records[:120])
    kept = written(path, records[120:])
    assert kept == [record.id for record in records[-len(kept) :]]
    assert 100 <= len(kept) <= 105


def test_200_refusals_of_one_client_do_not_erase_the_id_of_a_moment_before(path: Path) -> None:
    before = of_clients(60)
    flood = [refusal(client="203.0.113.9") for _ in range(200)]
    kept = written(path, [*before, *flood])
    assert {record.id for record in before} <= set(kept)
    assert flood[-1].id in kept  # that client may quote its last id too
    assert 100 <= len(kept) <= 105


def test_one_batch_of_a_flood_does_not_either(path: Path) -> None:
    before = of_clients(60)
    journal = Journal(path, 100)
    journal.open()
    for record in (*before, *(refusal(client="2001:db8::9") for _ in range(900))):
        journal.put(record)
    journal.close()
    kept = [facts["id"] for facts in find_records(path, "", most=1000)]
    assert {record.id for record in before} <= set(kept)
    assert 100 <= len(kept) <= 105


def test_the_addresses_of_one_ipv6_network_are_one_client(path: Path) -> None:
    before = of_clients(60)
    kept = written(path, [*before, *(refusal(client=f"2001:db8::{place:x}") for place in range(200))])
    assert {record.id for record in before} <= set(kept)


def test_a_single_client_may_use_the_room_that_nobody_else_needs(path: Path) -> None:
    records = [refusal() for _ in range(300)]
    kept = written(path, records)
    assert 100 <= len(kept) <= 105
    assert {record.id for record in records[-95:]} <= set(kept)


def test_the_file_is_bounded_in_octets(path: Path) -> None:
    records = of_clients(400)
    for record in records:
        record.helo = secrets.token_hex(10_000)
    kept = written(path, records, keep=100_000, size=1_048_576)
    assert path.stat().st_size <= 1_100_000
    assert kept == [record.id for record in records[-len(kept) :]]
    assert len(kept) > 50


def test_a_long_record_is_kept_without_its_rulings(path: Path) -> None:
    long = Ruling("rcpt", [Said("mine", error="x" * 20_000)])
    last = Ruling("rcpt", [Said("dnsbl", deny("listed"))])
    written(path, [refusal(id="3k9q0zf7aa", rulings=(long, last)), refusal(id="3k9q0zf7ab", rulings=(last, long))])
    first, second = find_records(path, "")
    assert [ruling["said"][0]["plugin"] for ruling in first["rulings"]] == ["mine", "dnsbl"]
    assert [ruling["said"][0]["plugin"] for ruling in second["rulings"]] == ["dnsbl", "mine"]
    written(path, [refusal(id="3k9q0zf7ac", rulings=(long, long, last)), refusal(id="3k9q0zf7ad", helo="x" * 40_000)])
    *_, third, fourth = find_records(path, "")
    assert [ruling["said"][0]["plugin"] for ruling in third["rulings"]] == ["dnsbl"]
    assert fourth["rulings"] == []


def test_at_most_ten_recipients_of_a_record_are_kept(path: Path) -> None:
    written(path, [refusal(recipients=tuple(f"{number}@example.org" for number in range(1000)))])
    (facts,) = find_records(path, "")
    assert facts["recipients"] == [f"{number}@example.org" for number in range(10)]


def test_records_older_than_their_age_go(path: Path) -> None:
    old, new = of_clients(3, at=NOW - 40 * DAY), of_clients(3, at=NOW)
    kept = written(path, [*old, *new], age=30 * DAY)
    assert kept == [record.id for record in new]


def test_a_clock_that_ran_ahead_trims_no_new_record(path: Path) -> None:
    """Ids sort by the time at which they were made, so those made ahead of time sort after all new ones."""
    ahead = [
        refusal(id=f"zzzzzzz{number:03}", at=NOW + 3650 * DAY, client=f"192.0.2.{number}") for number in range(110)
    ]
    new = of_clients(50, at=NOW)
    kept = written(path, [*ahead, *new])
    assert {record.id for record in new} <= set(kept)
    assert 100 <= len(kept) <= 105


def test_a_clock_that_is_wrong_for_a_minute_does_not_empty_the_journal(path: Path) -> None:
    before = of_clients(500, at=NOW)
    ahead = [refusal(at=NOW + 3650 * DAY + seconds) for seconds in range(50)]
    kept = written(path, [*before, *ahead], keep=1000, age=30 * DAY)
    assert len(kept) >= 400


def test_sums_by_the_hour_are_kept_in_the_same_transaction_and_outlive_the_records(path: Path) -> None:
    records = [*of_clients(150), *of_clients(20, event="accepted", plugin="maildir", at=NOW + 3600)]
    written(path, records)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM sums ORDER BY hour, name").fetchall() == [
            (500_000, "plugin", "dnsbl", "refused", 150),
            (500_001, "plugin", "maildir", "accepted", 20),
        ]
