"""The options of dnsbl: which answers a list declares, and what each mistake is told."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost.testing import ConfigError, Policy
from gatepost_builtin.connection.dnsbl import AnswerRange, DnsblOptions
from tests.plugins_builtin.connection.lists import BL

inside = st.integers(int(IPv4Address("127.0.0.0")), int(IPv4Address("127.255.255.255"))).map(IPv4Address)


@given(inside, inside, inside)
def test_a_range_holds_what_lies_between_its_ends(one: IPv4Address, two: IPv4Address, answer: IPv4Address) -> None:
    first, last = sorted((one, two))
    found = AnswerRange.parse(f"{first}-{last}")
    assert (answer in found) == (int(first) <= int(answer) <= int(last))
    assert AnswerRange.parse(str(found)) == found


@given(inside)
def test_one_answer_is_a_range_of_itself(answer: IPv4Address) -> None:
    found = AnswerRange.parse(str(answer))
    assert answer in found
    assert str(found) == str(answer)


@given(st.text(alphabet="0123456789./- :a", max_size=24))
def test_any_text_is_a_range_of_127_or_a_sentence(text: str) -> None:
    try:
        found = AnswerRange.parse(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"expected an answer|runs backwards|RFC 5782"):
            AnswerRange.parse(text)
    else:
        assert str(found.first).startswith("127.") and str(found.last).startswith("127.")
        assert found.first <= found.last


# Mistakes in the configuration, as `gatepost check` words them


def mistakes(toml: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        Policy(f'[plugins]\norder = ["dnsbl"]\n[plugins.dnsbl]\n{toml}')
    return [f"{each.key}: {each.message}".removeprefix("plugins.dnsbl.") for each in caught.value.mistakes]


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("", "zones: a required key is missing"),
        ('zones = { "bl example" = 1 }', 'zones."bl example": "bl example" is not the zone of a DNS list'),
        ('zones = { "-x.example" = 1 }', "is not the zone of a DNS list"),
        (f'zones = {{ "{"a." * 95}example" = 1 }}', "is not the zone of a DNS list"),
        ('zones = { "bl.example.net" = "2" }', 'zones."bl.example.net": expected a number or a table, found text'),
        ('zones = { "bl.example.net" = true }', 'zones."bl.example.net": expected a number or a table, found true'),
        ('zones = { "bl.example.net" = inf }', 'zones."bl.example.net": expected at most 1000'),
        ('zones = { "bl.example.net" = nan }', 'zones."bl.example.net": expected at most 1000'),
        ('zones = { "bl.example.net" = { point = 1 } }', 'unknown key; did you mean "points"?'),
        ('zones = { "bl.example.net" = { answers = "127.0.0.2" } }', 'zones."bl.example.net".answers: expected a list'),
        ('zones = { "bl.example.net" = { answers = [] } }', 'zones."bl.example.net".answers: expected at least 1'),
        ('zones = { "bl.example.net" = { answers = ["2"] } }', 'expected an answer such as "127.0.0.2"'),
        ('zones = { "bl.example.net" = { answers = ["127.0.0.2/24"] } }', 'expected an answer such as "127.0.0.2"'),
        ('zones = { "bl.example.net" = { answers = ["127.0.0.9-127.0.0.2"] } }', "runs backwards"),
        ('zones = { "bl.example.net" = { answers = ["0.0.0.0/0"] } }', "cannot be an answer of a DNS list"),
        ('zones = { "bl.example.net" = { answers = ["10.0.0.1"] } }', "all are in 127.0.0.0/8 (RFC 5782)"),
        ('zones = { "bl.example.net" = { text = "{reason}" } }', '"{reason}" is none of them'),
        ('zones = { "bl.example.net" = { text = "{ip.__class__}" } }', '"{ip.__class__}" is none of them'),
        ('zones = { "bl.example.net" = { text = "see {" } }', '"{" is none of them'),
        ('zones = { "bl.example.net" = { text = "see }" } }', '"}" is none of them'),
        ('deny_at = 0\nzones = { "bl.example.net" = 1 }', "deny_at: expected more than 0"),
        ('defer_at = -1\nzones = { "bl.example.net" = 1 }', "defer_at: expected more than 0"),
        ('deny_at = 2\ndefer_at = 2\nzones = { "bl.example.net" = 1 }', "defer_at must be below deny_at"),
    ],
)
def test_a_mistake_gets_a_sentence(toml: str, message: str) -> None:
    assert any(message in mistake for mistake in mistakes(toml)), mistakes(toml)


def test_no_zone_at_all_is_a_mistake() -> None:
    assert mistakes("zones = {}") == ["zones: expected at least 1 in the list, found 0"]


def test_a_zone_may_be_written_in_any_case_and_with_its_last_dot() -> None:
    assert list(DnsblOptions(zones={"BL.Example.NET.": 1}).zones) == ["bl.example.net"]


def test_the_defaults_are_the_documented_ones() -> None:
    options = DnsblOptions(zones={BL: {}})
    zone = options.zones[BL]
    assert (options.deny_at, options.defer_at, options.query_timeout, options.ask_private) == (None, None, 5.0, False)
    assert (zone.points, zone.text) == (1.0, "{ip} is listed by {zone}")
    assert [str(answer) for answer in zone.answers] == ["127.0.0.2-127.0.0.99"]
