"""The fail2ban filter of the manual finds the clients that it should, in lines as the log writes them."""

from __future__ import annotations

import re
from configparser import RawConfigParser
from pathlib import Path

import pytest

from tests.core.telemetry.records import refusal
from tests.core.telemetry.test_log import lines

FILTER = Path(__file__).parents[3] / "docs/examples/fail2ban-gatepost.conf"
ADDRESS = r"(?P<address>[0-9a-fA-F.:]+)"


def banned(line: str) -> str | None:
    """Return the address that fail2ban would count, reading the filter as fail2ban does."""
    parser = RawConfigParser()
    parser.read(FILTER)
    definition = parser["Definition"]
    match = re.search(definition["failregex"].replace("<ADDR>", ADDRESS), line)
    return None if match is None or re.search(definition["ignoreregex"], line) else match["address"]


def line_of(**changed: object) -> str:
    (line,) = lines(lambda log: log.record(refusal(**changed)))
    return line


@pytest.mark.parametrize("client", ["192.0.2.7", "2001:db8::7"])
@pytest.mark.parametrize("plugin", ["earlytalker", "dnsbl", "score"])
def test_a_client_refused_for_good_is_found(client: str, plugin: str) -> None:
    assert banned(line_of(client=client, plugin=plugin, reply="554 5.5.1 you talked before the greeting [x]")) == client


@pytest.mark.parametrize(
    "changed",
    [
        {"plugin": "recipients"},
        {"plugin": "greylist", "reply": "450 4.7.1 come back later [x]"},
        {"plugin": "dnsbl", "reply": "450 4.7.1 come back later [x]"},
        {"plugin": "score", "reply": "450 4.7.1 score 3: listed (+3) [x]"},
        {"event": "accepted", "plugin": "forward", "reply": "250 2.0.0 queued as x"},
        {"plugin": "recipients", "helo": '","plugin":"dnsbl","x":"'},
    ],
)
def test_nobody_else_is(changed: dict[str, object]) -> None:
    assert banned(line_of(**changed)) is None


def test_nobody_can_have_another_banned() -> None:
    assert banned(line_of(helo='","client":"198.51.100.1","x":"')) == "192.0.2.7"


def test_the_time_of_a_line_is_one_that_the_filter_reads() -> None:
    assert re.search(r'"timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"', line_of())
    assert r'"timestamp":"%%Y-%%m-%%dT%%H:%%M:%%S\.%%f%%z' in FILTER.read_text()
