"""Durations, sizes, networks and secrets are read as people write them, and secrets are never shown."""

from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gatepost.options import (
    Duration,
    Network,
    Secret,
    Size,
    format_duration,
    format_size,
)
from tests.core.options.examples import FROM_FILE, Example, read, refusal


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10.0),
        ("1.5h", 5400.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("36d", 3_110_400.0),
        ("1w", 604_800.0),
        ("0s", 0.0),
        (0, 0.0),
        (0.0, 0.0),
    ],
)
def test_a_duration_is_seconds(written: object, seconds: float) -> None:
    assert read(Duration, written) == seconds


@pytest.mark.parametrize(
    "wrong", ["", "10", "s", "10 s", "-1s", "1h30m", "10S", "10x", "1e3s", "1" * 400 + "s", "١s", True, -1, None, [1]]
)
def test_an_invalid_duration_is_refused_with_a_sentence(wrong: object) -> None:
    assert refusal(Duration, wrong).startswith('expected a duration such as "10s"')


def test_a_number_without_unit_is_a_mistake_in_a_file() -> None:
    assert refusal(Duration, 10) == 'expected a duration with its unit such as "10s" or "10m", found 10'
    assert "found 2.5" in refusal(Duration, 2.5)


def test_a_number_is_seconds_in_python() -> None:
    assert Example(delay=10).delay == 10.0
    assert Example.model_validate({}, context=FROM_FILE).delay == 6.0


@given(st.integers(0, 10**6), st.sampled_from(["ms", "s", "m", "h", "d", "w"]))
def test_a_duration_survives_being_written_and_read(number: int, unit: str) -> None:
    seconds = read(Duration, f"{number}{unit}")
    assert read(Duration, format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0s"),
        (0.5, "500ms"),
        (90, "90s"),
        (300, "5m"),
        (7200, "2h"),
        (86400, "1d"),
        (604800, "7d"),
        (0.0005, "0.0005s"),
    ],
)
def test_a_duration_is_shown_in_the_largest_whole_unit(seconds: float, written: str) -> None:
    assert format_duration(seconds) == written


def test_the_json_schema_of_a_duration_is_its_pattern_or_0() -> None:
    schema = Example.model_json_schema()["properties"]["delay"]
    text, zero = schema["anyOf"]
    assert text["pattern"].startswith(r"^(\d{1,12}") and zero == {"const": 0}
    assert (schema["default"], schema["description"]) == ("6s", "How long to wait.")


@pytest.mark.parametrize(
    ("written", "octets"),
    [
        ("100B", 100),
        ("512KiB", 524_288),
        ("25MiB", 26_214_400),
        ("1GiB", 2**30),
        ("10kB", 10_000),
        ("10KB", 10_000),
        ("10MB", 10_000_000),
        ("1GB", 10**9),
        (1000, 1000),
        (0, 0),
    ],
)
def test_a_size_is_octets(written: object, octets: int) -> None:
    assert read(Size, written) == octets


@pytest.mark.parametrize("wrong", ["", "25", "25 MiB", "1.5MiB", "-1B", "25mib", "MiB", -1, 1.0, True, None])
def test_an_invalid_size_is_refused_with_a_sentence(wrong: object) -> None:
    assert refusal(Size, wrong).startswith('expected a size such as "25MiB"')


@given(st.integers(0, 10**15 - 1))
def test_a_size_survives_being_written_and_read(octets: int) -> None:
    assert read(Size, format_size(octets)) == octets


@pytest.mark.parametrize(
    ("written", "network"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.1", "192.0.2.1/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_is_cidr_or_one_address(written: str, network: str) -> None:
    assert read(Network, written) == ip_network(network)


def test_host_bits_are_a_mistake_that_names_the_network() -> None:
    assert refusal(Network, "192.0.2.7/24") == '"192.0.2.7/24" has host bits set; did you mean "192.0.2.0/24"?'


@pytest.mark.parametrize("wrong", ["", "192.0.2", "192.0.2.0/33", "example.com", 5, True, None])
def test_an_invalid_network_is_refused_with_a_sentence(wrong: object) -> None:
    assert refusal(Network, wrong).startswith('expected a network such as "192.0.2.0/24"')


@pytest.fixture
def folder(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "token").write_text("hunter2\n")
    return {"folder": tmp_path, "environ": {"TOKEN": "hunter2"}}


@pytest.mark.parametrize("written", ["hunter2", {"file": "token"}, {"env": "TOKEN"}])
def test_a_secret_is_text_or_comes_from_a_file_or_a_variable(written: object, folder: dict[str, Any]) -> None:
    secret = TypeAdapter(Secret).validate_python(written, context=folder)
    assert secret.reveal() == "hunter2"
    assert secret == Secret("hunter2")


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ({"file": "nowhere"}, "cannot read {folder}/nowhere: No such file or directory"),
        ({"env": "NOTHING"}, "the environment variable NOTHING is not set"),
        ({"env": "TOKEN", "file": "token"}, 'expected text, {{ file = "…" }} or {{ env = "…" }}'),
        (12345, 'expected text, {{ file = "…" }} or {{ env = "…" }}'),
    ],
)
def test_a_secret_that_cannot_be_had_is_a_mistake(written: object, sentence: str, folder: dict[str, Any]) -> None:
    assert refusal(Secret, written, folder) == sentence.format(folder=folder["folder"])


def test_a_secret_is_not_shown_anywhere() -> None:
    options = Example(password="hunter2")
    shown = f"{options} {options!r} {options.password} {options.model_dump()} {options.model_dump_json()}"
    assert "hunter2" not in shown
    assert "**********" in options.model_dump_json()
    assert options.password is not None and options.password.reveal() == "hunter2"
