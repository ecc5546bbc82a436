"""Records and events go to the log; records that ``gatepost explain`` may be asked for go to the journal too."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from gatepost import events
from gatepost.config import Config
from gatepost.server.recorder import ServerRecorder
from gatepost.telemetry.journal import find_records
from gatepost.telemetry.log import EventLog
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


def test_lost_records_are_said_once_and_counted_at_the_end(tmp_path: Path) -> None:
    lines: list[bytes] = []
    recorder = ServerRecorder(config(tmp_path), EventLog(lines.append, human=False))
    recorder.open()
    with sqlite3.connect(tmp_path / "journal.db") as other:
        other.execute("DROP TABLE records")
    other.close()
    recorder.record(refusal())
    recorder.close()
    said = [json.loads(line) for line in b"".join(lines).splitlines()]
    assert [line["event"] for line in said] == ["refused", "journal_failed", "records_lost"]
    assert (said[1]["error"], said[2]["number"]) == ("no such table: records", 1)


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
