"""Records and events go to the log; records that ``gatepost explain`` may be asked for go to the journal too."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from gatepost import events
from gatepost.config import Config
from gatepost.server.recorder import ServerRecorder
from gatepost.telemetry.log import EventLog
from gatepost.telemetry.search import find_records
from tests.core.telemetry.records import refusal

RECORDED = (events.REFUSED, events.ACCEPTED, events.DISCONNECTED)


def config(folder: Path, **journal: object) -> Config:
    return Config.model_validate({"hostname": "mx.example.org", "state_dir": str(folder), "journal": journal})


def written(recorder: ServerRecorder, lines: list[bytes]) -> list[str]:
    recorder.close()
    return [json.loads(line)["event"] for line in b"".join(lines).splitlines()]


def test_a_record_goes_to_log_and_journal_and_an_event_to_the_log(tmp_path: Path) -> None:
    lines: list[bytes] = []
    recorder = ServerRecorder(config(tmp_path), EventLog(lines.append, human=False))
    recorder.open()
    recorder.record(refusal())
    recorder.event(events.CIRCUIT_OPENED, plugin="dnsbl")
    recorder.plugin_log("greylist").info("ready")
    assert written(recorder, lines) == ["refused", "circuit_opened", "ready"]
    assert len(find_records(tmp_path / "journal.db", "")) == 1


def test_without_a_journal_there_is_the_log(tmp_path: Path) -> None:
    lines: list[bytes] = []
    recorder = ServerRecorder(config(tmp_path, enabled=False), EventLog(lines.append, human=False))
    recorder.open()
    recorder.record(refusal())
    assert written(recorder, lines) == ["refused"]
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_is_put_aside_is_said_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"no database " * 1000)
    lines: list[bytes] = []
    recorder = ServerRecorder(config(tmp_path), EventLog(lines.append, human=False))
    recorder.open()
    recorder.record(refusal())
    recorder.close()
    said = [json.loads(line) for line in b"".join(lines).splitlines()]
    assert [line["event"] for line in said] == ["journal_replaced", "refused"]
    assert (said[0]["path"], said[0]["error"]) == (str(tmp_path / "journal.db"), "file is not a database")
    assert len(find_records(tmp_path / "journal.db", "")) == 1


def test_lost_records_are_said_and_counted_at_the_end(tmp_path: Path) -> None:
    lines: list[bytes] = []
    recorder = ServerRecorder(config(tmp_path), EventLog(lines.append, human=False))
    recorder.open()
    with sqlite3.connect(tmp_path / "journal.db", isolation_level=None) as other:
        recorder._journal._connection.execute("PRAGMA busy_timeout = 0")  # type: ignore[union-attr]
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3000):
            recorder.record(refusal())
        recorder.close()
        other.execute("ROLLBACK")
    other.close()
    said = [json.loads(line) for line in b"".join(lines).splitlines()]
    failed, lost = [line for line in said if line["event"] != "refused"]
    assert (failed["event"], failed["error"]) == ("journal_failed", "database is locked")
    assert (lost["event"], lost["number"]) == ("records_lost", 3000)


@pytest.mark.parametrize(
    ("level", "journal", "kept"),
    [
        ("info", True, ["refused", "accepted", "disconnected"]),
        ("info", False, ["refused", "accepted", "disconnected"]),
        ("error", True, ["refused", "accepted"]),
        ("error", False, []),
    ],
)
def test_records_that_nobody_keeps_need_not_be_made(tmp_path: Path, level: str, journal: bool, kept: list[str]) -> None:
    recorder = ServerRecorder(
        config(tmp_path, enabled=journal), EventLog(lambda octets: None, human=False, level=level)
    )
    assert [event.name for event in RECORDED if recorder.keeps(event)] == kept
    recorder.close()
