"""Addresses and host names are read as people write them."""

from __future__ import annotations

import pytest

from gatepost.config import (
    Config,
    load_config,
)
from gatepost.errors import ConfigError
from tests.core.config.examples import MINIMAL, Write


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("0.0.0.0:25", ("0.0.0.0", 25)),
        ("[::]:25", ("::", 25)),
        ("[fe80::1%eth0]:25", ("fe80::1%eth0", 25)),
        ("localhost:0", ("localhost", 0)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
    ],
)
def test_a_listener_binds_an_address_with_a_port(written: str, address: tuple[str, int], write: Write) -> None:
    config = load_config(write(f'[listen.smtp]\nbind = ["{written}"]\n'), {})
    assert config.listeners["smtp"].bind == (address,)
    assert str(config.listeners["smtp"].bind[0]) == written


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("127.0.0.1", ("127.0.0.1", 53)),
        ("127.0.0.1:5300", ("127.0.0.1", 5300)),
        ("::1", ("::1", 53)),
        ("[::1]", ("::1", 53)),
        ("[::1]:54", ("::1", 54)),
    ],
)
def test_a_name_server_may_leave_out_its_port(written: str, address: tuple[str, int], write: Write) -> None:
    assert load_config(write(f'{MINIMAL}[dns]\nservers = ["{written}"]\n'), {}).dns.servers == (address,)


@pytest.mark.parametrize("written", ["", "a b", "a;", "(a)", '\\"a\\"', "a\\\\b", "ü"])
def test_a_trusted_name_of_results_is_one_word(written: str, write: Write) -> None:
    with pytest.raises(ConfigError, match="a name that stands first in Authentication-Results"):
        load_config(write(f'trusted_results = ["{written}"]\n{MINIMAL}'), {})


def test_trusted_names_of_results_are_compared_without_case_and_final_dot(write: Write) -> None:
    config = load_config(write(f'trusted_results = ["Inner.Example.org.", "tag:x_1"]\n{MINIMAL}'), {})
    assert config.trusted_results == ("inner.example.org", "tag:x_1")


def test_a_machine_without_a_proper_name_is_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: "no name")
    assert Config().hostname == "localhost"
    monkeypatch.setattr("socket.getfqdn", lambda: "MX.example.")
    assert Config().hostname == "mx.example"
