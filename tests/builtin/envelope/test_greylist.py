"""greylist: who is new is asked to come back, who came back is known, and nobody is refused for good."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gatepost import DNSTemporaryError, Session, StoreError, deny, hookimpl
from gatepost.plugins import make_gate
from gatepost_builtin.envelope.greylist import Greylist, GreylistOptions
from tests.policy import Client, Policy, delivering, instance, saying, vouching

MINUTE = 60.0
DAY = 86_400.0


def policy_of(*others: Any, store: Any = None, mode: str = "enforce", **options: Any) -> Policy:
    """A policy that vouches for everybody, asks ``others``, greylists, and takes what is left."""
    policy = Policy()
    plugin = Greylist(GreylistOptions(**options), store or policy.store.namespace("greylist"), policy.clock)
    front = [instance(other, f"other{number}") for number, other in enumerate((vouching(), *others))]
    own = instance(plugin, "greylist", mode=mode)
    policy.gate = make_gate([*front, own, instance(delivering(), "taking")], policy.clock, policy.events)
    return policy


async def arrive(policy: Policy, client: str = "192.0.2.1", sender: str = "a@example.com") -> Client:
    """A client that has said EHLO and MAIL."""
    made = await policy.connect(client)
    await made.ehlo()
    await made.mail(sender)
    return made


async def send(
    policy: Policy, client: str = "192.0.2.1", sender: str = "a@example.com", recipient: str = "b@example.org"
) -> int:
    """The code that one transaction of a new connection ends with."""
    made = await policy.connect(client)
    reply = await made.transaction(sender, recipient)
    await made.close()
    return reply.code


async def introduce(policy: Policy, **who: str) -> None:
    """Let a triple come, wait and come back, so that it is known."""
    assert await send(policy, **who) == 451
    await policy.clock.advance(5 * MINUTE)
    assert await send(policy, **who) == 250


# A new triple, too early, in time, too late


async def test_a_new_triple_is_told_451_and_how_long_to_wait() -> None:
    client = await arrive(policy_of())
    reply = await client.rcpt()
    assert (reply.code, reply.status) == (451, "4.7.1")
    assert "in 300 seconds" in reply.lines()[0]


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
    assert "in 60 seconds" in (await client.rcpt()).lines()[0]
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


# What makes a triple


@pytest.mark.parametrize(
    "other", [{"client": "198.51.100.1"}, {"sender": "other@example.com"}, {"recipient": "other@example.org"}]
)
async def test_another_client_sender_or_recipient_is_another_triple(other: dict[str, str]) -> None:
    policy = policy_of()
    await introduce(policy)
    assert await send(policy, **other) == 451


async def test_case_makes_no_other_triple() -> None:
    policy = policy_of()
    await introduce(policy)
    assert await send(policy, sender="A@EXAMPLE.com", recipient="B@example.ORG") == 250


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
    ],
)
async def test_without_a_name_the_network_is_the_client(first: str, second: str, same: bool) -> None:
    policy = policy_of()
    await introduce(policy, client=first)
    assert await send(policy, client=second) == (250 if same else 451)


async def test_how_large_a_network_is_are_options() -> None:
    policy = policy_of(ipv4_prefix=32, ipv6_prefix=48)
    await introduce(policy, client="192.0.2.1")
    assert await send(policy, client="192.0.2.2") == 451
    await introduce(policy, client="2001:db8:0:1::1")
    assert await send(policy, client="2001:db8:0:2::1") == 250


async def test_hosts_of_one_organisation_are_one_client() -> None:
    policy = policy_of()
    policy.dns.name("192.0.2.1", "out1.mail.example.co.uk")
    policy.dns.name("198.51.100.9", "out2.example.co.uk")
    policy.dns.name("203.0.113.5", "mail.other.co.uk")
    await introduce(policy, client="192.0.2.1")
    assert await send(policy, client="198.51.100.9") == 250
    assert await send(policy, client="203.0.113.5") == 451


async def test_a_name_that_does_not_lead_back_is_no_name() -> None:
    policy = policy_of()
    policy.dns.name("192.0.2.1", "out1.example.com")
    await introduce(policy, client="192.0.2.1")
    policy.dns.answers["9.100.51.198.in-addr.arpa", "PTR"] = ("out1.example.com",)
    assert await send(policy, client="198.51.100.9") == 451


async def test_a_name_that_is_a_public_suffix_is_nobodys() -> None:
    policy = policy_of()
    policy.dns.name("192.0.2.1", "co.uk")
    policy.dns.name("198.51.100.9", "co.uk")
    await introduce(policy, client="192.0.2.1")
    assert await send(policy, client="192.0.2.2") == 250
    assert await send(policy, client="198.51.100.9") == 451


async def test_names_can_be_left_aside() -> None:
    policy = policy_of(by_name=False)
    policy.dns.name("192.0.2.1", "out1.example.com")
    policy.dns.name("198.51.100.9", "out2.example.com")
    await introduce(policy, client="192.0.2.1")
    assert await send(policy, client="198.51.100.9") == 451
    assert policy.dns.asked == []


async def test_while_dns_does_not_know_the_network_stands_in() -> None:
    policy = policy_of()
    policy.dns.answers["1.2.0.192.in-addr.arpa", "PTR"] = DNSTemporaryError("SERVFAIL")
    policy.dns.answers["2.2.0.192.in-addr.arpa", "PTR"] = DNSTemporaryError("SERVFAIL")
    await introduce(policy, client="192.0.2.1")
    assert await send(policy, client="192.0.2.2") == 250


async def test_a_client_stays_the_same_for_its_whole_session() -> None:
    policy = policy_of()
    policy.dns.answers["1.2.0.192.in-addr.arpa", "PTR"] = DNSTemporaryError("SERVFAIL")
    client = await arrive(policy)
    assert (await client.rcpt()).code == 451
    policy.dns.name("192.0.2.1", "out1.example.com")
    await policy.clock.advance(5 * MINUTE)
    assert (await client.rcpt()).code == 250


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
    assert "in 300 seconds" in reply.lines()[0]


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
    policy = policy_of()
    await introduce(policy, sender="", recipient="known@example.org")

    class Refusing:
        @hookimpl
        def rcpt(self, recipient: Any) -> Any:
            return deny("no such mailbox") if recipient.local == "unknown" else None

    refusing = instance(Refusing(), "refusing")
    policy.gate = make_gate([*policy.gate.instances, refusing], policy.clock, policy.events)
    client = await arrive(policy, sender="")
    assert (await client.rcpt("known@example.org")).code == 250
    assert (await client.rcpt("unknown@example.org")).code == 550
    assert (await client.data()).code == 250


async def test_a_message_that_bears_a_sender_is_judged_at_rcpt_only() -> None:
    policy = policy_of(mode="observe")
    assert await send(policy) == 250
    rulings = {ruling.phase: ruling for record in policy.events.records for ruling in record.rulings}
    answers = {
        phase: [str(said.answer) for said in ruling.said if said.observed and said.answer]
        for phase, ruling in rulings.items()
    }
    assert answers["rcpt"] == ["defer 451 4.7.1 greylisted: please try again in 300 seconds"]
    assert answers["data"] == []


# Clients that have shown who they are


async def test_after_five_queued_messages_a_client_is_not_asked_to_wait() -> None:
    policy = policy_of()
    await introduce(policy)
    for _ in range(3):
        assert await send(policy) == 250
    assert await send(policy, sender="new4@example.com") == 451
    assert await send(policy) == 250
    assert await send(policy, sender="new5@example.com", recipient="new5@example.org") == 250


async def test_an_allowed_client_sends_bounces_without_waiting() -> None:
    policy = policy_of(auto_allow_after=1)
    await introduce(policy)
    assert await send(policy, sender="") == 250


async def test_how_many_messages_are_enough_is_an_option() -> None:
    policy = policy_of(auto_allow_after=1)
    await introduce(policy)
    assert await send(policy, sender="new@example.com") == 250


async def test_with_0_every_new_triple_waits() -> None:
    policy = policy_of(auto_allow_after=0)
    await introduce(policy)
    for _ in range(10):
        assert await send(policy) == 250
    assert await send(policy, sender="new@example.com") == 451


async def test_messages_count_and_not_recipients() -> None:
    policy = policy_of(auto_allow_after=2)
    for code in (451, 250):
        client = await arrive(policy)
        for name in ("b", "c", "d"):
            assert (await client.rcpt(f"{name}@example.org")).code == code
        if code == 250:
            assert (await client.data()).code == 250
        await policy.clock.advance(5 * MINUTE)
    assert await send(policy, sender="new@example.com") == 451


async def test_a_client_stays_allowed_as_long_as_it_sends() -> None:
    policy = policy_of(auto_allow_after=1)
    await introduce(policy)
    for day in range(3):
        await policy.clock.advance(30 * DAY)
        assert await send(policy, sender=f"new{day}@example.com") == 250
    await policy.clock.advance(36 * DAY)
    assert await send(policy, sender="late@example.com") == 451


async def test_what_an_allowed_client_sent_is_known_afterwards() -> None:
    policy = policy_of(auto_allow_after=1)
    await introduce(policy)
    assert await send(policy, sender="second@example.com") == 250
    policy.gate.instances[1].plugin.options = GreylistOptions(auto_allow_after=0)
    assert await send(policy, sender="second@example.com") == 250
    assert await send(policy, sender="third@example.com") == 451


async def test_a_message_to_a_trusted_recipient_earns_nothing() -> None:
    class Trusting:
        @hookimpl
        def rcpt(self, envelope: Any, recipient: Any) -> None:
            if recipient.local == "abuse":
                envelope.trust("abuse desk", recipient)

    policy = policy_of(Trusting(), auto_allow_after=1)
    for _ in range(3):
        assert await send(policy, recipient="abuse@example.org") == 250
    assert await send(policy) == 451


# Who is not asked, and what goes wrong


async def test_a_trusted_client_is_not_asked() -> None:
    class Trusting:
        @hookimpl
        def connect(self, session: Session) -> None:
            session.trust("our branch office")

    assert await send(policy_of(Trusting())) == 250


async def test_a_client_that_may_relay_is_not_asked() -> None:
    policy = policy_of()
    client = await policy.connect()
    client.session.may_relay = True
    assert (await client.transaction()).code == 250


async def test_a_recipient_that_was_refused_before_never_gets_into_the_memory() -> None:
    policy = policy_of(saying("rcpt", deny("not ours")))
    assert await send(policy) == 550
    assert not policy.store._entries


async def test_a_broken_store_lets_mail_pass() -> None:
    class Broken:
        async def get(self, key: str) -> Any:
            raise StoreError("disk I/O error")

        put = incr = get

    policy = policy_of(store=Broken())
    assert await send(policy) == 250
    assert policy.events.named("plugin_failed")


async def test_observed_it_refuses_nobody_and_learns() -> None:
    policy = policy_of(mode="observe")
    assert await send(policy) == 250
    own = instance(policy.gate.instances[1].plugin, "greylist")
    first, _, last = policy.gate.instances
    policy.gate = make_gate([first, own, last], policy.clock, policy.events)
    assert await send(policy) == 250
    assert await send(policy, sender="new@example.com") == 451


async def test_a_clock_that_was_set_back_makes_nobody_wait_longer_than_the_delay() -> None:
    policy = policy_of()
    await policy.clock.advance(10 * DAY)
    assert await send(policy) == 451
    policy.clock._start -= 10 * DAY
    assert await send(policy) == 451
    await policy.clock.advance(5 * MINUTE)
    assert await send(policy) == 250


async def test_keys_are_short_whatever_the_addresses() -> None:
    policy = policy_of()
    assert await send(policy, sender=f"{'a' * 200}@{'b' * 60}.example", recipient=f'"{"c d" * 60}"@example.org') == 451
    assert [len(key) for _, key in policy.store._entries] == [32]


async def test_addresses_that_run_into_each_other_are_different_triples() -> None:
    policy = policy_of(by_name=False)
    await introduce(policy, sender='"x a@example.org"@example.com', recipient="b@example.org")
    assert await send(policy, sender='"x"@example.com', recipient='"a@example.org b"@example.org') == 451


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


# Any history


class Model:
    """What greylist should say, written as a person would explain it."""

    def __init__(self, options: GreylistOptions) -> None:
        self.options = options
        self.first: dict[Any, float] = {}
        self.known_until: dict[Any, float] = {}
        self.queued: dict[str, tuple[int, float]] = {}

    def code(self, now: float, client: str, sender: str, recipient: str) -> int:
        triple = (client, sender, recipient)
        if not self._allowed(now, client) and not now < self.known_until.get(triple, 0):
            first = self.first.get(triple)
            if first is None or now >= first + self.options.retry_window:
                self.first[triple] = now
                return 451
            if now < first + self.options.delay:
                return 451
        self.first.pop(triple, None)
        self.known_until[triple] = now + self.options.remember
        self._count(now, client)
        return 250

    def _allowed(self, now: float, client: str) -> bool:
        count, until = self.queued.get(client, (0, 0.0))
        return bool(self.options.auto_allow_after) and now < until and count >= self.options.auto_allow_after

    def _count(self, now: float, client: str) -> None:
        count, until = self.queued.get(client, (0, 0.0))
        if now >= until:
            count, until = 0, now + self.options.remember
        if self._allowed(now, client):
            self.queued[client] = (count, now + self.options.remember)
        else:
            self.queued[client] = (count + 1, until)


ATTEMPTS = st.tuples(
    st.sampled_from([0, 1, 29, 30, 31, 99, 100, 101, 1000]),
    st.sampled_from(["192.0.2.1", "198.51.100.1"]),
    st.sampled_from(["a@example.com", "b@example.com", ""]),
    st.sampled_from(["x@example.org", "y@example.org"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(ATTEMPTS, max_size=25), st.integers(0, 3))
async def test_whatever_happened_before_each_message_gets_what_the_rules_say(
    attempts: list[tuple[int, str, str, str]], auto_allow_after: int
) -> None:
    options = {"delay": 30.0, "retry_window": 100.0, "remember": 1000.0, "auto_allow_after": auto_allow_after}
    policy, model = policy_of(**options), Model(GreylistOptions(**options))
    for wait, client, sender, recipient in attempts:
        await policy.clock.advance(wait)
        wanted = model.code(policy.clock.now(), client, sender, recipient)
        assert await send(policy, client, sender, recipient) == wanted


def test_its_own_failure_lets_mail_pass_and_trust_spares_the_wait() -> None:
    assert (Greylist.on_error, Greylist.skip_trusted) == ("pass", True)
