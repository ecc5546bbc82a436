"""``gatepost explain`` prints the record whose id a refusal carried."""

from __future__ import annotations

import pytest

from gatepost.decisions import deny
from gatepost.rulings import Ruling, Said
from gatepost.telemetry.journal import Journal
from gatepost.telemetry.record import Record
from tests.core.cli.running import SOUND, Folder, facts, run
from tests.core.telemetry.records import refusal


@pytest.fixture
def config(folder: Folder) -> str:
    """The path of a configuration whose journal is there."""
    (folder.path / "state").mkdir()
    return folder.write()


def keep(folder: Folder, *records: Record) -> None:
    journal = Journal(folder.path / "state/journal.db", 100)
    journal.open()
    for record in records:
        journal.put(record)
    journal.close()


def test_it_says_who_was_asked_what_each_said_how_long_and_what_would_have_been(folder: Folder, config: str) -> None:
    mail = Ruling("mail", [Said("access", skipped="trusted"), Said("spf", deny("forged"), 0.1, observed=True)])
    record = refusal()
    keep(folder, refusal(id=record.id, rulings=(mail, *record.rulings)))
    shown = run("explain", record.id, "--config", config)
    assert shown.exit_code == 0
    for words in (
        record.id,
        "2027-01-15 08:00:00 UTC",
        "refused: 550 5.7.1 listed",
        "dnsbl at rcpt",
        "192.0.2.7, HELO mail.example.com",
        "<a@example.com>",
        "<b@example.org>",
        "skipped: trusted",
        "deny forged",
        "observed, not applied",
        "no opinion",
        "250.0 ms",
        "not asked",
        "without dnsbl: unknown: greylist would have been asked",
    ):
        assert words in shown.stdout
    assert facts("explain", record.id, "--config", config)["rulings"][1]["plugin"] == "dnsbl"


def test_the_recipients_that_a_record_only_counts_are_counted(folder: Folder, config: str) -> None:
    keep(folder, refusal(id="3k9q0zf7ab", recipients=("b@example.org", "c@example.org"), recipient_count=1000))
    shown = run("explain", "3k9q0zf7ab", "--config", config)
    assert "<b@example.org>, <c@example.org> and 998 others\n" in shown.stdout


def test_it_names_the_next_hop_that_took_the_message_and_the_one_that_did_not(folder: Folder, config: str) -> None:
    record = refusal(
        event="accepted",
        next_hop="smtp://two.example:25",
        failed_next_hops=("smtp://one.example:25: no answer in time",),
    )
    keep(folder, record)
    shown = run("explain", record.id, "--config", config).stdout
    assert "next hop:   smtp://two.example:25" in shown
    assert "not taken:  smtp://one.example:25: no answer in time" in shown


def test_an_id_may_be_given_as_the_refusal_has_it(folder: Folder, config: str) -> None:
    keep(folder, refusal(id="3k9q0zf7ab"))
    for given in ("[3k9q0zf7ab]", "3K9Q0ZF7AB", "3k9q"):
        assert facts("explain", given, "--config", config)["id"] == "3k9q0zf7ab"


def test_a_beginning_of_several_ids_is_status_1_and_names_them(folder: Folder, config: str) -> None:
    keep(folder, refusal(id="3k9q0zf7ab"), refusal(id="3k9q0zf7ac"))
    result = run("explain", "3k9q0zf7", "--config", config)
    assert result.exit_code == 1
    assert "3k9q0zf7ab, 3k9q0zf7ac" in result.stderr


@pytest.mark.parametrize("identifier", ["3k9q0zf7ac", "", "[]"])
def test_an_unknown_id_is_status_1(folder: Folder, config: str, identifier: str) -> None:
    keep(folder, refusal(id="3k9q0zf7ab"))
    result = run("explain", identifier, "--config", config)
    assert result.exit_code == 1
    assert f"no record {identifier.strip('[]')} in " in result.stderr


def test_text_of_a_client_is_escaped(folder: Folder, config: str) -> None:
    keep(folder, refusal(id="3k9q0zf7ab", helo="\x1b[2J\u202e", sender="[bold]a@b"))
    shown = run("explain", "3k9q", "--config", config).stdout
    assert "\x1b" not in shown and r"\x1b[2J\u202e" in shown and "<[bold]a@b>" in shown


def test_without_a_journal_it_is_status_1(folder: Folder, config: str) -> None:
    result = run("explain", "3k9q", "--config", config)
    assert result.exit_code == 1
    assert "cannot be read" in result.stderr
    off = run("explain", "3k9q", "--config", folder.write(SOUND + "[journal]\nenabled = false\n"))
    assert off.exit_code == 1
    assert "switched off" in off.stderr
