"""greylist: who counts as one client, when a client is trusted to come back, and any history of both."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatepost import hookimpl
from gatepost_builtin.envelope.greylist import Greylist, GreylistOptions
from tests.plugins_builtin.envelope.greylisting import DAY, MINUTE, arrive, greylist, introduce, policy_of, send
from tests.properties import examples

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
    policy.dns.answer("9.100.51.198.in-addr.arpa", "PTR", "out1.example.com")
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


async def test_who_a_client_is_is_looked_up_while_it_says_hello() -> None:
    policy = policy_of()
    policy.dns.name("192.0.2.1", "out1.example.com")
    policy.dns.delay("1.2.0.192.in-addr.arpa", 2)
    client = await arrive(policy)
    await policy.clock.advance(2)
    assert (await client.rcpt()).code == 451
    assert client.waited == 0


async def test_while_dns_does_not_know_the_network_stands_in() -> None:
    policy = policy_of()
    policy.dns.servfail("1.2.0.192.in-addr.arpa")
    policy.dns.servfail("2.2.0.192.in-addr.arpa")
    await introduce(policy, client="192.0.2.1")
    assert await send(policy, client="192.0.2.2") == 250


async def test_a_client_stays_the_same_for_its_whole_session() -> None:
    policy = policy_of()
    policy.dns.servfail("1.2.0.192.in-addr.arpa")
    client = await arrive(policy)
    assert (await client.rcpt()).code == 451
    policy.dns.name("192.0.2.1", "out1.example.com")
    await policy.clock.advance(5 * MINUTE)
    assert (await client.rcpt()).code == 250


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


async def test_an_allowed_client_is_not_looked_up_again_before_that_is_to_be_renewed() -> None:
    policy = policy_of(auto_allow_after=1)
    await introduce(policy)
    assert await send(policy) == 250
    for key in policy.store.contents("greylist"):
        await policy.store.of("greylist").delete(key)
    assert await send(policy, sender="second@example.com") == 250
    await policy.clock.advance(DAY)
    assert await send(policy, sender="third@example.com") == 451


async def test_a_client_that_is_not_allowed_yet_is_looked_up_each_time() -> None:
    policy = policy_of(auto_allow_after=2)
    await introduce(policy)
    other_process = policy.store.of("greylist")
    for key, value in policy.store.contents("greylist").items():
        if value == 1:
            await other_process.incr(key, ttl=DAY)
    assert await send(policy, sender="second@example.com") == 250


async def test_to_whom_an_allowed_client_sends_is_not_noted() -> None:
    policy = policy_of(auto_allow_after=1)
    await introduce(policy)
    assert await send(policy, sender="second@example.com") == 250
    policy.reload(greylist(auto_allow_after=0))
    assert await send(policy) == 250
    assert await send(policy, sender="second@example.com") == 451


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


# Any history


class Model:
    """A model of greylist, written as a person would explain it."""

    def __init__(self, options: GreylistOptions) -> None:
        self.options = options
        self.first: dict[Any, float] = {}
        self.known_until: dict[Any, float] = {}
        self.queued: dict[str, tuple[int, float]] = {}

    def code(self, now: float, client: str, sender: str, recipient: str) -> int:
        triple = (client, sender, recipient)
        if self._allowed(now, client):
            self._count(now, client)
            return 250
        if not now < self.known_until.get(triple, 0):
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


@examples(60)
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
