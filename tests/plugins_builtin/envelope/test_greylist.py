"""greylist: who is new is asked to come back, who came back is known, and nobody is refused for good."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gatepost import Session, deny, hookimpl
from gatepost.testing import saying
from gatepost_builtin.envelope.greylist import GreylistOptions
from tests.plugins_builtin.envelope.greylisting import DAY, MINUTE, arrive, greylist, introduce, policy_of, send

# A new triple, too early, in time, too late


async def test_a_new_triple_is_told_451_and_how_long_to_wait() -> None:
    client = await arrive(policy_of())
    reply = await client.rcpt()
    assert (reply.code, reply.status) == (451, "4.7.1")
    assert "in 300 seconds" in reply.text


async def test_a_retry_after_the_delay_is_let_in() -> None:
    policy = policy_of()
    assert await send(policy) == 451
    await policy.clock.advance(5 * MINUTE)
    assert await send(policy) == 250


async def test_a_retry_that_is_too_early_is_told_the_rest_and_its_time_runs_on() -> None:
    policy = policy_of()
    client = await arrive(policy)
    await client.rcpt()
    await policy.clock.advance(4 * MINUTE)
    assert "in 60 seconds" in (await client.rcpt()).text
    await policy.clock.advance(1 * MINUTE)
    assert (await client.rcpt()).code == 250


async def test_a_retry_after_the_window_is_new_again() -> None:
    policy = policy_of()
    assert await send(policy) == 451
    await policy.clock.advance(2 * DAY)
    assert await send(policy) == 451


async def test_a_retry_at_the_end_of_the_window_is_in_time() -> None:
    policy = policy_of()
    assert await send(policy) == 451
    await policy.clock.advance(2 * DAY - 1)
    assert await send(policy) == 250


async def test_delay_and_window_are_options() -> None:
    policy = policy_of(delay=10.0, retry_window=60.0)
    assert await send(policy) == 451
    await policy.clock.advance(60)
    assert await send(policy) == 451
    await policy.clock.advance(10)
    assert await send(policy) == 250


async def test_one_new_recipient_does_not_hold_up_a_known_one() -> None:
    policy = policy_of()
    await introduce(policy)
    client = await arrive(policy)
    assert (await client.rcpt("b@example.org")).code == 250
    assert (await client.rcpt("new@example.org")).code == 451
    assert (await client.data()).code == 250


# Being remembered


async def test_who_came_back_is_known_for_36_days_without_sending() -> None:
    policy = policy_of()
    await introduce(policy)
    await policy.clock.advance(36 * DAY - 1)
    assert await send(policy) == 250


async def test_after_36_days_of_silence_it_is_new_again() -> None:
    policy = policy_of()
    await introduce(policy)
    await policy.clock.advance(36 * DAY)
    assert await send(policy) == 451


async def test_every_queued_message_renews_the_memory() -> None:
    policy = policy_of()
    await introduce(policy)
    for _ in range(4):
        await policy.clock.advance(30 * DAY)
        assert await send(policy) == 250


async def test_a_retry_whose_message_is_not_queued_is_known_all_the_same() -> None:
    policy = policy_of()
    assert await send(policy) == 451
    await policy.clock.advance(5 * MINUTE)
    client = await arrive(policy)
    assert (await client.rcpt()).code == 250
    await client.close()
    await policy.clock.advance(10 * DAY)
    assert await send(policy) == 250


async def test_only_a_queued_message_renews() -> None:
    policy = policy_of()
    await introduce(policy)
    await policy.clock.advance(30 * DAY)
    client = await arrive(policy)
    assert (await client.rcpt()).code == 250
    await client.close()
    await policy.clock.advance(6 * DAY)
    assert await send(policy) == 451


async def test_how_long_it_is_remembered_is_an_option() -> None:
    policy = policy_of(remember=DAY)
    await introduce(policy)
    await policy.clock.advance(DAY)
    assert await send(policy) == 451


# The null reverse-path


async def test_a_callout_passes() -> None:
    client = await arrive(policy_of(), sender="")
    assert (await client.rcpt()).code == 250
    assert (await client.say("QUIT")).code == 221


async def test_a_bounce_is_deferred_at_data_when_any_recipient_is_new() -> None:
    policy = policy_of()
    await introduce(policy, sender="", recipient="known@example.org")
    client = await arrive(policy, sender="")
    assert (await client.rcpt("known@example.org")).code == 250
    assert (await client.rcpt("new@example.org")).code == 250
    reply = await client.data()
    assert (reply.code, reply.status) == (451, "4.7.1")
    assert "in 300 seconds" in reply.text


async def test_all_recipients_of_a_bounce_are_noted() -> None:
    policy = policy_of()
    for code in (451, 250):
        client = await arrive(policy, sender="")
        await client.rcpt("one@example.org")
        await client.rcpt("two@example.org")
        assert (await client.data()).code == code
        await policy.clock.advance(5 * MINUTE)


async def test_a_callout_counts_as_having_come_once() -> None:
    policy = policy_of()
    client = await arrive(policy, sender="")
    await client.rcpt()
    await client.close()
    await policy.clock.advance(5 * MINUTE)
    assert await send(policy, sender="") == 250


async def test_a_recipient_that_somebody_else_refused_does_not_hold_up_a_bounce() -> None:
    class Refusing:
        @hookimpl
        def rcpt(self, recipient: Any) -> Any:
            return deny("no such mailbox") if recipient.local == "unknown" else None

    policy = policy_of(behind=(Refusing,))
    await introduce(policy, sender="", recipient="known@example.org")
    client = await arrive(policy, sender="")
    assert (await client.rcpt("known@example.org")).code == 250
    assert (await client.rcpt("unknown@example.org")).code == 550
    assert (await client.data()).code == 250


async def test_a_message_that_bears_a_sender_is_judged_at_rcpt_only() -> None:
    policy = policy_of(mode="observe")
    assert await send(policy) == 250
    rulings = {ruling.phase: ruling for record in policy.records for ruling in record.rulings}
    answers = {
        phase: [str(said.answer) for said in ruling.said if said.observed and said.answer]
        for phase, ruling in rulings.items()
    }
    assert answers["rcpt"] == ["defer 451 4.7.1 greylisted: please try again in 300 seconds"]
    assert answers["data"] == []


# Who is not asked, and what goes wrong


async def test_a_trusted_client_is_not_asked() -> None:
    class Trusting:
        @hookimpl
        def connect(self, session: Session) -> None:
            session.trust("our branch office")

    assert await send(policy_of(Trusting())) == 250


async def test_a_client_that_may_relay_is_not_asked() -> None:
    policy = policy_of()
    client = await policy.connect(may_relay=True)
    assert (await client.transaction()).code == 250


async def test_a_recipient_that_was_refused_before_never_gets_into_the_memory() -> None:
    policy = policy_of(saying("rcpt", deny("not ours")))
    assert await send(policy) == 550
    assert not policy.store.contents("greylist")


async def test_a_broken_store_lets_mail_pass() -> None:
    policy = policy_of()
    policy.store.broken.add("greylist")
    assert await send(policy) == 250
    assert policy.events.named("plugin_failed")


async def test_observed_it_refuses_nobody_and_learns() -> None:
    policy = policy_of(mode="observe")
    assert await send(policy) == 250
    policy.reload(greylist())
    assert await send(policy) == 250
    assert await send(policy, sender="new@example.com") == 451


async def test_a_clock_that_was_set_back_makes_nobody_wait_longer_than_the_delay() -> None:
    policy = policy_of()
    await policy.clock.advance(10 * DAY)
    assert await send(policy) == 451
    policy.clock.set_back(10 * DAY)
    assert await send(policy) == 451
    await policy.clock.advance(5 * MINUTE)
    assert await send(policy) == 250


async def test_keys_are_short_whatever_the_addresses() -> None:
    policy = policy_of()
    assert await send(policy, sender=f"{'a' * 200}@{'b' * 60}.example", recipient=f'"{"c d" * 60}"@example.org') == 451
    assert [len(key) for key in policy.store.contents("greylist")] == [32, 32]


async def test_smtputf8_addresses_are_greylisted_like_others() -> None:
    policy = policy_of()
    for code in (451, 250):
        client = await policy.connect()
        await client.ehlo()
        await client.mail("gräte@example.com", "SMTPUTF8")
        assert (await client.rcpt("müller@example.org")).code == code
        await policy.clock.advance(5 * MINUTE)


# Options


def test_the_defaults_are_the_documented_ones() -> None:
    options = GreylistOptions()
    assert (options.delay, options.retry_window, options.remember) == (5 * MINUTE, 2 * DAY, 36 * DAY)
    assert (options.ipv4_prefix, options.ipv6_prefix) == (24, 64)
    assert (options.by_name, options.auto_allow_after) == (True, 5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"delay": "0s"},
        {"delay": "2d"},
        {"retry_window": "5m"},
        {"ipv4_prefix": 0},
        {"ipv4_prefix": 33},
        {"ipv6_prefix": 129},
        {"auto_allow_after": -1},
    ],
)
def test_options_with_which_nobody_could_get_in_are_mistakes(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GreylistOptions(**wrong)
