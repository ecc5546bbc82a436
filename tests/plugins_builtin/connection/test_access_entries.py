"""access: how entries match, when they end, and how they come from files."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gatepost import Address, Envelope, WatchedFile
from gatepost.events import NULL_RECORDER, Recorder
from gatepost.testing import Policy, TestClock
from gatepost.testing.recording import GateEvents
from gatepost_builtin.connection.access import Access, AccessOptions
from tests.plugins_builtin.connection.access_lists import DAY, TODAY, Entry, plugin_of, policy_of, send, spam_check

# How names and addresses match


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("user@example.com", ["user@example.com", "USER@EXAMPLE.com"], ["other@example.com", "user@sub.example.com"]),
        ("example.com", ["user@example.com", "USER@EXAMPLE.COM"], ["user@sub.example.com", "user@badexample.com", ""]),
        (".example.com", ["user@a.example.com", "user@a.b.example.com"], ["user@example.com", "user@aexample.com"]),
        ("<>", [""], ["user@example.com"]),
        ("bücher.example", ["user@xn--bcher-kva.example"], ["user@bucher.example"]),
        ('"a b"@example.com', ['"a b"@example.com', '"A B"@example.com'], ["ab@example.com"]),
        ("[192.0.2.9]", ["user@[192.0.2.9]"], ["user@[192.0.2.8]"]),
        ("[IPv6:2001:db8::9]", ["user@[IPv6:2001:DB8:0::9]"], ["user@[IPv6:2001:db8::8]"]),
        ("EXAMPLE.com.", ["user@example.com"], ["user@example.org"]),
    ],
)
async def test_senders_match_exactly_by_domain_or_by_the_domains_below(
    pattern: str, matching: list[str], others: list[str]
) -> None:
    policy = policy_of(denied=[{"sender": pattern}])
    assert [await send(policy, sender=sender) for sender in matching] == [550] * len(matching)
    assert [await send(policy, sender=sender) for sender in others] == [250] * len(others)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("bob@example.org", ["Bob@Example.org"], ["bob@sub.example.org", "alice@example.org"]),
        ("example.org", ["bob@example.org"], ["bob@sub.example.org"]),
        (".example.org", ["bob@sub.example.org"], ["bob@example.org"]),
    ],
)
async def test_recipients_match_like_senders(pattern: str, matching: list[str], others: list[str]) -> None:
    policy = policy_of(denied=[{"recipient": pattern}])
    assert [await send(policy, recipient=each) for each in matching] == [550] * len(matching)
    assert [await send(policy, recipient=each) for each in others] == [250] * len(others)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("Mail.example.com", ["mail.example.com"], ["example.com", "a.mail.example.com"]),
        (".example.com", ["mail.example.com", "a.b.example.com"], ["example.com", "mail.badexample.com"]),
    ],
)
async def test_names_match_exactly_or_by_what_is_below(pattern: str, matching: list[str], others: list[str]) -> None:
    for key in ("name", "helo"):
        policy = policy_of(denied=[{key: pattern}])
        for number, name in enumerate((*matching, *others)):
            policy.dns.name(f"192.0.2.{number}", name)
            code = await send(policy, client=f"192.0.2.{number}", helo=name)
            assert code == (550 if name in matching else 250)


# Entries with an end


async def test_an_entry_counts_through_its_last_day_and_then_no_more() -> None:
    policy = policy_of(denied=[{"network": "192.0.2.0/24", "until": TODAY}])
    assert datetime.fromtimestamp(policy.clock.now(), UTC).date() == TODAY
    assert await send(policy) == 550
    await policy.clock.advance(DAY)
    assert await send(policy) == 250


async def test_trust_ends_with_its_last_day_too() -> None:
    policy = policy_of(spam_check("rcpt"), allow=[{"network": "192.0.2.0/24", "until": TODAY}])
    assert await send(policy) == 250
    await policy.clock.advance(DAY)
    assert await send(policy) == 550


async def test_an_entry_past_its_date_is_reported_at_start_and_once() -> None:
    policy = policy_of(denied=[{"network": "198.51.100.0/24", "reason": "attack", "until": date(2026, 12, 31)}])
    await policy.start()
    assert policy.log.named("entry_expired") == [{"entry": "attack", "until": "2026-12-31"}]
    plugin_of(policy).startup()
    assert await send(policy, client="198.51.100.1") == 250
    assert len(policy.log) == 1


async def test_an_entry_that_lapses_while_we_run_is_reported_when_it_would_have_counted() -> None:
    policy = policy_of(denied=[{"network": "192.0.2.0/24", "until": TODAY}])
    await policy.start()
    assert not policy.log.events
    await policy.clock.advance(DAY)
    await send(policy)
    await send(policy)
    assert policy.log.named("entry_expired") == [{"entry": "network 192.0.2.0/24", "until": TODAY.isoformat()}]


async def test_a_lapsed_entry_gives_way_to_the_next() -> None:
    denied = [{"network": "192.0.2.0/24", "until": date(2026, 1, 1), "reason": "old"}, {"network": "192.0.2.1"}]
    policy = policy_of(denied=denied)
    assert (await policy.connect()).banner.text.startswith("refused by our access list")


# Files


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes the list file, each time with another time stamp."""
    path = tmp_path / "partners.toml"
    written: list[str] = []

    def write(text: str) -> Path:
        path.write_text(text, encoding="utf-8")
        written.append(text)
        os.utime(path, (len(written), len(written)))
        return path

    return write


def watching(path: Path, recorder: Recorder = NULL_RECORDER) -> Policy:
    """A policy of one file that is looked at by the policy's own clock."""
    clock = TestClock()
    return policy_of(files=[WatchedFile(path, clock.monotonic, recorder)], clock=clock)


async def test_a_file_holds_the_same_two_lists(write: Callable[[str], Path]) -> None:
    path = write("""
        [[allow]]
        network = "192.0.2.0/24"
        until = 2099-12-31
        [[deny]]
        sender = "news@shop.example"
        reason = "we unsubscribed"
    """)
    policy = policy_of(spam_check("rcpt"), files=[path])
    assert await send(policy) == 250
    assert await send(policy, client="198.51.100.1") == 550
    client = await policy.connect()
    assert (await client.transaction("news@shop.example")).text.startswith("we unsubscribed")


async def test_a_file_is_reread_when_it_changes(write: Callable[[str], Path]) -> None:
    path = write('deny = [{ network = "192.0.2.0/24" }]')
    policy = watching(path)
    assert await send(policy) == 550
    write('deny = [{ network = "198.51.100.0/24" }]')
    await policy.clock.advance(2)
    assert await send(policy) == 250
    assert await send(policy, client="198.51.100.1") == 550


async def test_a_file_may_come_to_have_entries_of_a_phase_that_had_none(write: Callable[[str], Path]) -> None:
    policy = watching(write('deny = [{ network = "198.51.100.0/24" }]'))
    assert await send(policy) == 250
    for key, value in (("helo", "client.example.com"), ("sender", "a@example.com"), ("recipient", "b@example.org")):
        write(f'deny = [{{ {key} = "{value}" }}]')
        await policy.clock.advance(2)
        assert await send(policy) == 550


@pytest.mark.parametrize("bad", ["deny = [", "deny = [{ netwrok = '192.0.2.0/24' }]", "denny = []", "deny = [{}]"])
async def test_a_bad_new_content_keeps_the_old_and_is_logged(write: Callable[[str], Path], bad: str) -> None:
    path, recorder = write('deny = [{ network = "192.0.2.0/24" }]'), GateEvents()
    policy = watching(path, recorder)
    write(bad)
    await policy.clock.advance(2)
    assert await send(policy) == 550
    (facts,) = recorder.named("file_unusable")
    assert facts["path"] == str(path)


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ("deny == 1", "line 1"),
        ("deny = [{ network = 'x' }]", r"deny\[0\]\.network"),
        ("denny = []", "denny"),
        (None, "read"),
    ],
)
def test_a_file_that_is_bad_from_the_start_is_a_mistake(
    write: Callable[[str], Path], bad: str | None, named: str, tmp_path: Path
) -> None:
    path = tmp_path / "missing.toml" if bad is None else write(bad)
    with pytest.raises(ValidationError, match=named) as raised:
        AccessOptions.model_validate({"files": [path]})
    error = raised.value.errors()[0]["ctx"]["error"]
    assert str(path) in str(error) or error.path == path


# Options


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"reason": "because"},
        {"network": "192.0.2.1/24"},
        {"name": "not a name"},
        {"name": ""},
        {"helo": "."},
        {"helo": "user@example.com"},
        {"sender": "user@"},
        {"sender": ""},
        {"sender": "a@b@c"},
        {"recipient": "*.example.com"},
        {"network": "192.0.2.0/24", "until": "2027-01-31"},
        {"network": "192.0.2.0/24", "until": 20270131},
        {"network": "192.0.2.0/24", "relay": True},
    ],
)
def test_an_entry_that_cannot_be_meant_is_a_mistake(entry: Entry) -> None:
    for kind in ("allow", "deny"):
        with pytest.raises(ValidationError):
            AccessOptions.model_validate({kind: [entry]})


DOMAINS = st.lists(st.sampled_from(["a", "aa", "b", "com"]), min_size=1, max_size=4).map(".".join)


@given(DOMAINS, DOMAINS)
async def test_a_domain_pattern_matches_that_domain_and_a_dotted_one_what_is_below(mine: str, other: str) -> None:
    exact, below = AccessOptions.model_validate({"deny": [{"sender": mine}, {"sender": f".{mine}"}]}).deny
    envelope = Envelope(Address("x", other), {})
    session = (await policy_of().connect()).session
    labels, above = other.split("."), mine.split(".")
    assert exact.fits(session, envelope, None) == (labels == above)
    assert below.fits(session, envelope, None) == (len(labels) > len(above) and labels[-len(above) :] == above)


def test_a_fault_defers_and_trust_does_not_spare_it() -> None:
    assert Access.on_error == "defer"
    assert not getattr(Access, "skip_trusted", False)
    assert not getattr(Access, "grants", ())
