"""``gatepost log`` searches the journal by time, client, addresses, plugin and observed; it lists and counts."""

from __future__ import annotations

import sqlite3
import time

import pytest

from gatepost import telemetry
from gatepost.cli.log import FIELDS
from gatepost.decisions import deny
from gatepost.rulings import Ruling, Said
from gatepost.telemetry.journal import Journal
from tests.core.cli.running import SOUND, Folder, facts, run
from tests.core.telemetry.records import refusal

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC


@pytest.fixture
def config(folder: Folder) -> str:
    """The path of a configuration whose journal has four records."""
    (folder.path / "state").mkdir()
    watched = Ruling("mail", [Said("spf", deny("forged"), observed=True), Said("late", observed=True)])
    journal = Journal(folder.path / "state/journal.db", 1000)
    journal.open()
    for record in (
        refusal(id="3k9q0zf7aa", at=NOON, sender="", client="2001:db8::7"),
        refusal(id="3k9q0zf7ab", at=NOON + 60, client="192.0.2.130", sender="Bob@Example.COM"),
        refusal(id="3k9q0zf7ac", at=NOON + 3600, rulings=(watched,), recipients=("x@a.example", "[y]?@b.example")),
        refusal(id="3k9q0zf7ad", at=NOON + 7200, event="accepted", plugin="maildir", sender=None, recipient_count=12),
    ):
        journal.put(record)
    journal.close()
    return folder.write()


def found(config: str, *options: str) -> str:
    """Return the last letters of the ids found, in the order in which they are listed."""
    listed = facts("log", *options, "--config", config)
    assert run("log", *options, "--config", config, "--count").stdout == f"{len(listed)}\n"
    return "".join(record["id"][-1] for record in listed)


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ((), "abcd"),
        (("--since", "2027-01-15T12:01"), "bcd"),
        (("--until", "2027-01-15 13:00"), "ab"),
        (("--since", "2027-01-15T13:01+01:00", "--until", "2027-01-15T15:00+02:00"), "b"),
        (("--event", "accepted"), "d"),
        (("--event", "refused"), "abc"),
        (("--client", "192.0.2.7"), "cd"),
        (("--client", "192.0.2.128/25"), "b"),
        (("--client", "2001:db8::/32"), "a"),
        (("--client", "no address"), ""),
        (("--sender", "bob@example.com"), "b"),
        (("--sender", "@EXAMPLE.com"), "bc"),
        (("--sender", "*@example.*"), "bc"),
        (("--sender", ""), "a"),
        (("--recipient", "x@a.example"), "c"),
        (("--recipient", "@b.example"), "c"),
        (("--recipient", "[y]?@*"), "c"),
        (("--recipient", "y?@*"), ""),
        (("--plugin", "maildir"), "d"),
        (("--observed", "spf"), "c"),
        (("--observed", "late"), ""),
        (("--observed", "*"), "c"),
        (("--plugin", "dnsbl", "--client", "192.0.2.7", "--since", "2027-01-15"), "c"),
    ],
    ids=repr,
)
def test_a_record_is_found_that_matches_all(config: str, options: tuple[str, ...], ids: str) -> None:
    assert found(config, *options) == ids


def test_a_time_may_be_said_as_so_long_ago(folder: Folder, config: str) -> None:
    now = time.time()
    journal = Journal(folder.path / "state/journal.db", 1000)
    journal.open()
    for identifier, ago in (("3k9q0zf7ax", 10 * 86400.0), ("3k9q0zf7ay", 3 * 3600.0), ("3k9q0zf7az", 1800.0)):
        journal.put(refusal(id=identifier, at=now - ago, plugin="mine"))
    journal.close()
    assert found(config, "--plugin", "mine", "--since", "2h") == "z"
    assert found(config, "--plugin", "mine", "--until", "120m", "--since", "1w") == "y"
    assert found(config, "--plugin", "mine", "--until", "9.5d") == "x"


def test_it_counts_by_whatever_the_journal_can_count_by() -> None:
    assert tuple(telemetry.FIELDS) == FIELDS


def test_the_last_are_listed(config: str) -> None:
    listed = facts("log", "-n", "2", "--config", config)
    assert [record["id"][-1] for record in listed] == ["c", "d"]
    assert listed[0]["rulings"][0]["said"][0]["answer"].startswith("deny forged")


@pytest.mark.parametrize(
    ("field", "counts"),
    [
        ("event", [("refused", 3), ("accepted", 1)]),
        ("plugin", [("dnsbl", 3), ("maildir", 1)]),
        ("observed", [("", 3), ("spf", 1)]),
        ("client", [("192.0.2.7", 2), ("192.0.2.130", 1), ("2001:db8::7", 1)]),
        ("recipient", [("b@example.org", 3), ("[y]?@b.example", 1), ("x@a.example", 1)]),
        ("hour", [("2027-01-15 12:00", 2), ("2027-01-15 13:00", 1), ("2027-01-15 14:00", 1)]),
        ("day", [("2027-01-15", 4)]),
    ],
)
def test_records_are_counted_by(config: str, field: str, counts: list[tuple[str, int]]) -> None:
    assert [tuple(row.values()) for row in facts("log", "--by", field, "--config", config)] == counts
    assert run("log", "--by", field, "--config", config).stdout.split()[0] == "records"


def test_what_is_searched_is_counted_too(config: str) -> None:
    assert facts("log", "--by", "plugin", "--event", "accepted", "--config", config) == [
        {"plugin": "maildir", "records": 1}
    ]
    assert facts("log", "--count", "--event", "refused", "--config", config) == {"records": 3}


def test_a_list_for_people_has_one_line_for_each(config: str) -> None:
    lines = run("log", "--config", config).stdout.splitlines()
    assert len(lines) == 5
    assert lines[1].split()[:4] == ["2027-01-15", "12:00:00", "refused", "2001:db8::7"]
    assert "<b@example.org> +11" in lines[4]
    assert all(line.endswith(f"3k9q0zf7a{letter}") for line, letter in zip(lines[1:], "abcd", strict=True))


def test_text_of_a_client_is_escaped(folder: Folder, config: str) -> None:
    journal = Journal(folder.path / "state/journal.db", 1000)
    journal.open()
    journal.put(refusal(sender="\x1b[2J\u202e@example.org"))
    journal.close()
    for options in ((), ("--json",), ("--by", "sender"), ("--by", "sender", "--json")):
        shown = run("log", *options, "--config", config).stdout
        assert "\x1b" not in shown and "\u202e" not in shown and "202e" in shown


@pytest.mark.parametrize("options", [("--since", "yesterday"), ("--by", "helo"), ("--last", "0"), ("3k9q0zf7aa",)])
def test_a_wrong_option_is_status_2(config: str, options: tuple[str, ...]) -> None:
    assert run("log", *options, "--config", config).exit_code == 2


def test_without_a_journal_it_is_status_1(folder: Folder) -> None:
    result = run("log", "--config", folder.write())
    assert result.exit_code == 1
    assert "cannot be read: No such file" in result.stderr
    off = run("log", "--config", folder.write(SOUND + "[journal]\nenabled = false\n"))
    assert off.exit_code == 1
    assert "switched off" in off.stderr


def test_a_journal_of_another_version_is_status_1(folder: Folder, config: str) -> None:
    with sqlite3.connect(folder.path / "state/journal.db") as other:
        other.execute("PRAGMA user_version = 1")
    other.close()
    result = run("log", "--config", config)
    assert result.exit_code == 1
    assert "another version of gatepost made it" in result.stderr
