"""earlytalker: who talks before the greeting is refused at once, who waits is greeted and remembered."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gatepost import Session, deny, hookimpl
from gatepost.testing import MESSAGE, Policy, instance, saying
from gatepost_builtin.connection.earlytalker import Earlytalker, EarlytalkerOptions

DAY = 86_400.0
AT_ONCE = 1.0
"""Virtual seconds at most: a policy's clock may move on by one sweep of the time limits before we look."""


class Trusting:
    """Trusts everybody, as access does whom it allows."""

    @hookimpl
    def connect(self, session: Session) -> None:
        session.trust("our office")


def policy_of(*others: Any, **table: Any) -> Policy:
    """A policy of ``others`` in front, then earlytalker, then who takes mail."""
    return Policy(*others, instance(Earlytalker, "earlytalker", **table))


# Before the greeting


async def test_a_quiet_client_is_greeted_after_the_delay() -> None:
    client = await policy_of().connect()
    assert client.banner.code == 220
    assert client.waited == 6.0


async def test_the_delay_is_an_option() -> None:
    client = await policy_of(delay="20s").connect()
    assert client.waited == 20.0
    assert policy_of(delay="20s").gate.instance("earlytalker").declaration.longest_wait == 20.0


async def test_a_delay_longer_than_the_time_limit_of_a_call_is_no_time_out() -> None:
    policy = policy_of(delay="90s")
    client = await policy.connect()
    assert client.waited == 90.0
    assert client.banner.code == 220
    assert not policy.events.named("plugin_failed")


async def test_an_early_talker_is_refused_at_once_for_good_and_hung_up_on() -> None:
    client = await policy_of().connect(talks_early=True)
    assert client.banner.wire.startswith(b"554 5.5.1 you talked before the greeting [")
    assert client.banner.closed
    assert client.waited <= AT_ONCE


async def test_with_defer_an_early_talker_is_told_to_come_back() -> None:
    client = await policy_of(action="defer").connect(talks_early=True)
    assert client.banner.wire.startswith(b"421 4.7.0 ")
    assert client.banner.closed


@pytest.mark.parametrize("action", ["deny", "defer"])
async def test_the_refusal_is_never_delayed_to_rcpt(action: str) -> None:
    """Ledger 16: deferred to a later command, the original's refusal became another one."""
    client = await policy_of(action=action, reject_at="rcpt").connect(talks_early=True)
    assert client.banner.code == {"deny": 554, "defer": 421}[action]
    assert client.closed


async def test_later_plugins_are_not_asked_about_an_early_talker() -> None:
    policy = policy_of()
    await policy.connect(talks_early=True)
    (record,) = policy.records
    assert (record.plugin, record.phase) == ("earlytalker", "connect")


async def test_a_trusted_client_neither_waits_nor_is_checked() -> None:
    client = await policy_of(Trusting()).connect(talks_early=True)
    assert client.banner.code == 220
    assert client.waited <= AT_ONCE


async def test_its_own_failure_does_not_stop_mail() -> None:
    class Broken:
        async def get(self, key: str) -> Any:
            raise RuntimeError("a mistake of ours")

    policy = Policy(instance(Earlytalker, "earlytalker"), failures="expected")
    policy.plugin("earlytalker")._store = Broken()
    assert (await policy.connect()).banner.code == 220
    assert policy.events.named("plugin_failed")


# What it remembers


async def test_a_client_that_waited_once_is_not_held_again() -> None:
    policy = policy_of()
    assert (await policy.connect("192.0.2.1")).waited == 6.0
    assert (await policy.connect("192.0.2.1")).waited == 0.0
    assert (await policy.connect("192.0.2.2")).waited == 6.0


async def test_it_is_remembered_for_thirty_days() -> None:
    policy = policy_of()
    await policy.connect()
    await policy.clock.advance(30 * DAY - 60)
    assert (await policy.connect()).waited == 0.0
    await policy.clock.advance(120)
    assert (await policy.connect()).waited == 6.0


async def test_how_long_it_is_remembered_is_an_option() -> None:
    policy = policy_of(remember="1h")
    await policy.connect()
    await policy.clock.advance(3700)
    assert (await policy.connect()).waited == 6.0


async def test_with_nothing_to_remember_everybody_is_held_each_time() -> None:
    policy = policy_of(remember="0s")
    assert (await policy.connect()).waited == 6.0
    assert (await policy.connect()).waited == 6.0


async def test_with_nothing_to_remember_the_store_is_not_touched() -> None:
    policy = policy_of(remember="0s")
    policy.store.broken.add("earlytalker")
    await policy.connect()
    assert not policy.log.events


async def test_bytes_before_the_greeting_refuse_a_remembered_client_too() -> None:
    policy = policy_of()
    await policy.connect()
    client = await policy.connect(talks_early=True)
    assert client.banner.code == 554


async def test_an_early_talker_is_not_remembered_as_one_that_waited() -> None:
    policy = policy_of()
    await policy.connect(talks_early=True)
    assert (await policy.connect()).waited == 6.0


async def test_without_a_delay_nobody_is_remembered_for_waiting() -> None:
    policy = policy_of(delay="0s")
    assert (await policy.connect()).waited == 0.0
    assert await policy.store.of("earlytalker").get("192.0.2.1") is None
    assert (await policy.connect(talks_early=True)).banner.code == 554


async def test_a_client_that_came_back_is_known_without_the_store() -> None:
    policy = policy_of()
    for _ in range(2):
        await policy.connect()
    policy.store.broken.add("earlytalker")
    assert (await policy.connect()).waited == 0.0
    assert not policy.log.events


async def test_who_waited_by_a_clock_that_ran_ahead_waits_again() -> None:
    policy = policy_of()
    for _ in range(2):
        await policy.connect()
    policy.clock.set_back("1h")
    assert [(await policy.connect()).waited for _ in range(2)] == [6.0, 0.0]


@pytest.mark.parametrize("kept", ["x", True, [1.0], {"waited": 1.0}])
async def test_what_somebody_else_has_left_in_the_store_says_nothing(kept: object) -> None:
    policy = policy_of()
    await policy.store.of("earlytalker").put("192.0.2.1", kept, 3600)
    assert [(await policy.connect("192.0.2.1")).waited for _ in range(2)] == [6.0, 0.0]
    assert (await policy.connect("192.0.2.1", talks_early=True)).banner.code == 554


async def test_with_less_to_remember_it_forgets_who_waited_longer_ago() -> None:
    policy = policy_of(remember="1h")
    await policy.store.of("earlytalker").put("192.0.2.1", policy.clock.now() - 3601, 3600)
    assert [(await policy.connect("192.0.2.1")).waited for _ in range(2)] == [6.0, 0.0]


async def test_the_cache_of_clients_that_have_waited_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gatepost_builtin.connection.earlytalker.CACHE_SIZE", 2)
    policy = policy_of()
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        assert [(await policy.connect(address)).waited for _ in range(2)] == [6.0, 0.0]
    policy.store.broken.add("earlytalker")
    assert [(await policy.connect(f"192.0.2.{number}")).waited for number in (3, 2, 1)] == [0.0, 0.0, 6.0]


@pytest.mark.parametrize(
    ("first", "second", "waits"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", 0.0),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", 6.0),
        ("192.0.2.1", "192.0.2.2", 6.0),
        ("fe80::1%eth0", "fe80::2", 0.0),
    ],
)
async def test_an_ipv6_client_is_remembered_by_its_64_and_an_ipv4_client_by_its_address(
    first: str, second: str, waits: float
) -> None:
    policy = policy_of()
    await policy.connect(first)
    assert (await policy.connect(second)).waited == waits


async def test_a_broken_store_costs_the_memory_and_not_the_check() -> None:
    policy = policy_of()
    policy.store.broken.add("earlytalker")
    for _ in range(7):  # more than open a circuit
        client = await policy.connect()
        assert client.banner.code == 220
        assert client.waited == 6.0
    assert (await policy.connect(talks_early=True)).banner.code == 554
    assert {line.name for line in policy.log} == {"memory_unreadable", "memory_unwritable"}


# Behind DATA


async def envelope_of(policy: Policy) -> Any:
    client = await policy.connect()
    await client.ehlo()
    await client.mail()
    await client.rcpt()
    return client


async def test_a_message_sent_behind_data_is_refused_and_the_connection_closed() -> None:
    """Ledger 16: what comes in one segment with DATA counts, and its body never runs as commands."""
    client = await envelope_of(policy_of())
    reply = await client.say("DATA", behind=True)
    assert reply.wire.startswith(b"554 5.5.1 ")
    assert reply.closed


async def test_behind_data_it_is_refused_for_good_even_with_defer() -> None:
    client = await envelope_of(policy_of(action="defer"))
    assert (await client.say("DATA", behind=True)).code == 554


async def test_a_client_that_waits_for_354_is_heard() -> None:
    client = await envelope_of(policy_of())
    assert (await client.data(MESSAGE)).code == 250


async def test_the_check_at_data_can_be_left_out() -> None:
    client = await envelope_of(policy_of(check_data=False))
    assert (await client.say("DATA", behind=True)).code == 354


async def test_legal_pipelining_is_no_early_talk() -> None:
    policy = policy_of()
    client = await policy.connect()
    await client.ehlo()
    assert (await client.say("MAIL FROM:<a@example.com>", behind=True)).code == 250
    assert (await client.say("RCPT TO:<b@example.org>", behind=True)).code == 250
    assert (await client.say("DATA")).code == 354


async def test_early_talk_of_another_phase_is_none_of_data() -> None:
    policy = policy_of()
    client = await policy.connect()
    await client.say("EHLO client.example.com", behind=True)
    await client.mail()
    await client.rcpt()
    assert (await client.data()).code == 250


# Options


def test_the_defaults_are_the_documented_ones() -> None:
    options = EarlytalkerOptions()
    assert (options.delay, options.action, options.remember, options.check_data) == (6.0, "deny", 30 * DAY, True)


@pytest.mark.parametrize("delay", ["5m", "1h"])
def test_a_delay_that_no_mail_server_waits_for_is_a_mistake(delay: str) -> None:
    with pytest.raises(ValidationError, match="less than 5 minutes"):
        EarlytalkerOptions(delay=delay)


def test_an_unknown_action_is_a_mistake() -> None:
    with pytest.raises(ValidationError, match="'deny' or 'defer'"):
        EarlytalkerOptions(action="log")


async def test_observed_it_waits_and_refuses_nobody() -> None:
    client = await policy_of(mode="observe").connect(talks_early=True)
    assert client.banner.code == 220


async def test_a_client_refused_by_somebody_before_it_is_not_held() -> None:
    client = await policy_of(saying("connect", deny("go away"))).connect()
    assert client.banner.code == 554
    assert client.waited <= AT_ONCE
