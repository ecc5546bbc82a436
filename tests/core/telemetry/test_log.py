"""There is a line for each refusal, message and session's end, and no text of a client can do harm in it."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost import events
from gatepost.config import Log as LogSettings
from gatepost.telemetry import log as log_module
from gatepost.telemetry.log import EventLog, escaped, json_line, open_log
from tests.core.telemetry.records import refusal

HOSTILE = 'x\r\nevent=accepted \x1b[2J\x9b1m\u202e\u2028\udcff" client=6.6.6.6 \\n'


def lines(write: Callable[[EventLog], object], **how: Any) -> list[str]:
    """Return the lines that a log writes."""
    written: list[bytes] = []
    log = EventLog(written.append, **{"human": False, **how})
    write(log)
    log.close()
    assert log.lost == 0
    return b"".join(written).decode().splitlines()


def one(write: Callable[[EventLog], object]) -> dict[str, Any]:
    """Return the only JSON line that a log writes."""
    (line,) = lines(write)
    facts = json.loads(line)
    assert isinstance(facts, dict)
    return facts


def test_a_refusal_has_client_helo_sender_recipients_outcome_plugin_id_and_time() -> None:
    record = refusal()
    facts = one(lambda log: log.record(record))
    assert facts.pop("timestamp").endswith("Z")
    assert facts == {
        "level": "info",
        "event": "refused",
        "client": "192.0.2.7",
        "helo": "mail.example.com",
        "sender": "a@example.com",
        "recipients": ["b@example.org"],
        "recipient_count": 1,
        "phase": "rcpt",
        "outcome": "550 5.7.1 listed [3k9q0zf7ab]",
        "plugin": "dnsbl",
        "id": record.id,
        "session": "3000000000",
        "seconds": 0.25,
    }


def test_a_line_names_ten_recipients_and_counts_all() -> None:
    many = tuple(f"b{number}@example.org" for number in range(1000))
    facts = one(lambda log: log.record(refusal(recipients=many[:10], recipient_count=len(many))))
    assert facts["recipients"] == list(many[:10])
    assert facts["recipient_count"] == 1000


def test_the_null_sender_is_told_from_no_sender() -> None:
    assert one(lambda log: log.record(refusal(sender="")))["sender"] == ""
    assert "sender" not in one(lambda log: log.record(refusal(sender=None)))


def test_a_session_that_came_to_nothing_has_a_line() -> None:
    facts = one(lambda log: log.record(refusal(event="disconnected", sender=None, recipients=(), plugin="", reply="")))
    assert facts["event"] == "disconnected"
    assert not facts.keys() & {"sender", "recipients", "recipient_count", "plugin", "outcome", "id"}


def test_lines_below_the_level_are_not_written() -> None:
    def write(log: EventLog) -> None:
        for event in (events.STARTED, events.RUNNING_AS_ROOT, events.RELOAD_FAILED):
            log.event(event)

    written = [json.loads(line) for line in lines(write, level="warning")]
    assert [(line["level"], line["event"]) for line in written] == [
        ("warning", "running_as_root"),
        ("error", "reload_failed"),
    ]


@pytest.mark.parametrize("human", [True, False])
def test_what_a_client_says_stays_on_its_line_and_moves_no_cursor(human: bool) -> None:
    (line,) = lines(lambda log: log.record(refusal(helo=HOSTILE)), human=human)
    assert line.isprintable()


def test_what_a_client_says_cannot_pass_for_another_field_in_a_line_for_people() -> None:
    (line,) = lines(lambda log: log.record(refusal(helo='x" client=6.6.6.6')), human=True)
    assert 'helo="x\\" client=6.6.6.6"' in line


def test_what_a_client_says_is_in_the_json_line_as_it_said_it() -> None:
    said = 'x\r\n\x1b[2J\x9b\u202e "quoted" \\ \U0001f4e8 \x7f'
    assert one(lambda log: log.record(refusal(helo=said)))["helo"] == said


def test_colours_are_for_terminals() -> None:
    (plain,) = lines(lambda log: log.event(events.STARTED), human=True)
    (coloured,) = lines(lambda log: log.event(events.STARTED), human=True, colours=True)
    assert "\x1b[32m" in coloured and "\x1b" not in plain


@given(st.recursive(st.none() | st.floats() | st.integers() | st.text(st.characters()), st.lists, max_leaves=5))
def test_a_json_line_is_json_in_utf_8_whatever_is_in_it(value: object) -> None:
    line = json_line({"value": value, "other": object})
    json.loads(line.decode())
    assert line.decode().isprintable()


@given(st.text(st.characters()))
def test_escaped_text_is_printable_and_unambiguous(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable()
    assert shown.encode("ascii", "backslashreplace").decode("unicode_escape") == text


def test_a_plugin_s_lines_bear_its_name_and_no_other() -> None:
    facts = one(lambda log: log.plugin("dnsbl").warning("zone_off", zone="bl.example.net", plugin="x", level="y"))
    assert (facts["plugin"], facts["level"], facts["event"]) == ("dnsbl", "warning", "zone_off")
    assert facts["zone"] == "bl.example.net"


def test_a_fact_cannot_take_the_place_of_the_time() -> None:
    assert one(lambda log: log.event(events.STALL, timestamp="yesterday"))["timestamp"] != "yesterday"


def test_long_texts_are_cut() -> None:
    assert len(one(lambda log: log.event(events.STALL, error="e" * 100_000))["error"]) < 3000


def test_a_fact_that_cannot_be_described_costs_its_line_only() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    written: list[bytes] = []
    log = EventLog(written.append, human=False)
    log.event(events.STALL, fact=Broken())
    log.event(events.STOPPED)
    log.close()
    assert [json.loads(line)["event"] for line in b"".join(written).splitlines()] == ["stopped"]
    assert log.lost == 1


def test_nobody_notices_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(log_module, "STDERR", writer)
    log = open_log(LogSettings(format="json"))
    log.record(refusal())
    log.close()
    os.close(writer)
    assert log.lost == 1


@pytest.mark.parametrize(("wanted", "is_json"), [("auto", True), ("json", True), ("human", False)])
def test_the_format_is_the_configured_one_and_json_when_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, wanted: Any, is_json: bool
) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr(log_module, "STDERR", writer)
    log = open_log(LogSettings(format=wanted))
    log.event(events.STARTED)
    log.close()
    assert os.read(reader, 4096).startswith(b'{"timestamp"') is is_json
    os.close(reader)
    os.close(writer)


def test_the_lines_of_libraries_are_adopted_until_the_end() -> None:
    def write(log: EventLog) -> None:
        log.adopt()
        logging.getLogger("aiosmtplib").warning("cannot read %s", "a\nb\x1b[2J")
        logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=OSError("no"))

    handlers = list(logging.root.handlers)
    client, task = map(json.loads, lines(write))
    assert (client["level"], client["event"], client["library"]) == ("warning", "library_warning", "aiosmtplib")
    assert client["text"] == "cannot read a\nb\x1b[2J"
    assert (task["level"], task["event"], task["library"]) == ("error", "library_error", "asyncio")
    assert (task["text"], task["error"]) == ("Task exception was never retrieved", "OSError('no')")
    assert logging.root.handlers == handlers


def test_the_time_of_a_line_is_that_of_its_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[bytes] = []
    log = EventLog(lines.append, human=False)
    for moment in (1_800_000_000.0, 1_800_000_000.9996, 1_800_000_001.0501, 1_800_000_000.25):
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        log.record(refusal())
    log.close()
    assert [json.loads(line)["timestamp"] for line in b"".join(lines).splitlines()] == [
        "2027-01-15T08:00:00.000Z",
        "2027-01-15T08:00:00.999Z",
        "2027-01-15T08:00:01.050Z",
        "2027-01-15T08:00:00.250Z",
    ]
