"""access: entries trust or refuse in the phase that knows their last key, and never open a relay."""

from __future__ import annotations

import pytest

from tests.plugins_builtin.connection.access_lists import Entry, plugin_of, policy_of, send, spam_check

# What is trusted, and how far


async def test_an_allowed_network_is_trusted_for_the_session() -> None:
    policy = policy_of(spam_check("connect"), spam_check("rcpt"), allow=[{"network": "192.0.2.0/24"}])
    assert await send(policy) == 250
    assert await send(policy, client="198.51.100.1") == 554


async def test_an_ipv6_network_is_one_too() -> None:
    policy = policy_of(spam_check("connect"), allow=[{"network": "2001:db8::/32"}])
    assert await send(policy, client="2001:db8::1") == 250
    assert await send(policy, client="192.0.2.1") == 554


async def test_an_allowed_verified_name_is_trusted_for_the_session() -> None:
    policy = policy_of(spam_check("connect"), allow=[{"name": "mail.example.com"}])
    policy.dns.name("192.0.2.1", "mail.example.com")
    assert await send(policy) == 250


async def test_a_name_that_is_not_confirmed_is_not_trusted() -> None:
    policy = policy_of(spam_check("connect"), allow=[{"name": "mail.example.com"}])
    policy.dns.answer("1.2.0.192.in-addr.arpa", "PTR", "mail.example.com")
    assert await send(policy) == 554


async def test_a_helo_name_alone_is_not_trusted_anybody_can_say_it() -> None:
    policy = policy_of(spam_check("mail"), allow=[{"helo": "mail.google.com"}])
    assert await send(policy, helo="mail.google.com") == 550


@pytest.mark.parametrize("name", ["mail.google.com", "mail-wr1-f41.google.com", "google.com"])
async def test_a_helo_name_counts_when_the_verified_name_is_equal_or_of_the_same_organisation(name: str) -> None:
    policy = policy_of(spam_check("mail"), allow=[{"helo": "mail.google.com"}])
    policy.dns.name("192.0.2.1", name)
    assert await send(policy, helo="mail.google.com") == 250


@pytest.mark.parametrize("name", ["mail.google.com.example.net", "evilgoogle.com", "com", "localhost"])
async def test_a_helo_name_does_not_count_with_somebody_elses_verified_name(name: str) -> None:
    policy = policy_of(spam_check("mail"), allow=[{"helo": "mail.google.com"}])
    policy.dns.name("192.0.2.1", name)
    assert await send(policy, helo="mail.google.com") == 550


async def test_two_organisations_under_one_public_suffix_are_two() -> None:
    policy = policy_of(spam_check("mail"), allow=[{"helo": "mail.good.co.uk"}])
    policy.dns.name("192.0.2.1", "mail.evil.co.uk")
    assert await send(policy, helo="mail.good.co.uk") == 550


async def test_a_name_without_a_public_suffix_counts_when_it_is_equal() -> None:
    policy = policy_of(spam_check("mail"), allow=[{"helo": "printer"}])
    policy.dns.name("192.0.2.1", "printer")
    assert await send(policy, helo="printer") == 250
    policy.dns.name("192.0.2.2", "scanner")
    assert await send(policy, client="192.0.2.2", helo="printer") == 550


async def test_a_helo_name_must_agree_even_beside_a_network() -> None:
    policy = policy_of(spam_check("mail"), allow=[{"helo": "mail.google.com", "network": "192.0.2.0/24"}])
    assert await send(policy, helo="mail.google.com") == 550


async def test_an_allowed_sender_is_trusted_for_its_message_only() -> None:
    policy = policy_of(spam_check("rcpt"), allow=[{"sender": "a@example.com"}])
    client = await policy.connect()
    assert (await client.transaction("a@example.com")).code == 250
    assert (await client.transaction("b@example.com")).code == 550
    assert not client.session.trusted


async def test_an_allowed_recipient_is_trusted_alone() -> None:
    policy = policy_of(spam_check("rcpt"), allow=[{"recipient": "abuse@example.org"}])
    client = await policy.connect()
    await client.ehlo()
    await client.mail()
    assert (await client.rcpt("bob@example.org")).code == 550
    assert (await client.rcpt("abuse@example.org")).code == 250
    assert (await client.rcpt("bob@example.org")).code == 550


@pytest.mark.parametrize(
    "entry",
    [{"network": "192.0.2.0/24"}, {"name": "mail.example.com"}, {"sender": "a@example.com"}, {"recipient": "b@c.org"}],
)
async def test_nothing_that_is_allowed_may_relay_or_is_vouched_for(entry: Entry) -> None:
    policy = policy_of(allow=[entry], bare=True)
    policy.dns.name("192.0.2.1", "mail.example.com")
    client = await policy.connect()
    await client.ehlo()
    await client.mail("a@example.com")
    assert (await client.rcpt("b@c.org")).code == 450
    assert not client.session.may_relay


async def test_the_record_says_why_something_is_trusted() -> None:
    policy = policy_of(allow=[{"network": "192.0.2.0/24", "reason": "our branch office"}])
    client = await policy.connect()
    assert client.session.trusted == "our branch office"
    policy = policy_of(allow=[{"network": "192.0.2.0/24"}])
    assert (await policy.connect()).session.trusted == "network 192.0.2.0/24"


# What is refused, and when


async def test_a_denied_network_is_refused_at_connect_with_550_and_the_reason() -> None:
    policy = policy_of(denied=[{"network": "192.0.2.0/24", "reason": "you have attacked us"}])
    banner = (await policy.connect()).banner
    assert (banner.code, banner.status, banner.closed) == (550, "5.7.1", True)
    assert banner.text.startswith("you have attacked us")


async def test_a_denied_name_is_refused_at_connect() -> None:
    policy = policy_of(denied=[{"name": ".dialup.example.net"}])
    policy.dns.name("192.0.2.1", "host1.dialup.example.net")
    assert (await policy.connect()).banner.code == 550
    assert (await policy.connect("192.0.2.2")).banner.code == 220


@pytest.mark.parametrize("written", ["a..b@example.com", '"a..b"@example.com'])
async def test_a_sender_with_a_dot_too_many_is_denied_with_and_without_quotes(written: str) -> None:
    policy = policy_of(denied=[{"sender": written}])
    assert await send(policy, sender="a..b@example.com") == 550
    assert await send(policy, sender='"A..B"@example.com') == 550


@pytest.mark.parametrize(("entry", "phase"), [({"helo": "ylmf-pc"}, "helo"), ({"sender": "news@shop.example"}, "mail")])
async def test_denied_helo_names_and_senders_are_refused_in_their_phase(entry: Entry, phase: str) -> None:
    policy = policy_of(denied=[{**entry, "reason": "go away"}], reject_at=phase)
    client = await policy.connect()
    helo = await client.ehlo("ylmf-pc")
    reply = helo if phase == "helo" else await client.mail("news@shop.example")
    assert (reply.code, reply.status) == (550, "5.7.1")
    assert reply.text.startswith("go away")
    assert (await policy.connect()).banner.code == 220


async def test_a_denied_helo_name_needs_no_dns() -> None:
    policy = policy_of(denied=[{"helo": "ylmf-pc"}])
    assert await send(policy, helo="YLMF-PC") == 550
    assert await send(policy, helo="YLMF-PC.") == 550
    assert policy.dns.asked == []


async def test_a_denied_recipient_is_refused_alone() -> None:
    policy = policy_of(denied=[{"recipient": "old@example.org", "reason": "this mailbox was closed"}])
    client = await policy.connect()
    await client.ehlo()
    await client.mail()
    reply = await client.rcpt("old@example.org")
    assert (reply.code, reply.status) == (550, "5.7.1")
    assert reply.text.startswith("this mailbox was closed")
    assert (await client.rcpt("bob@example.org")).code == 250


async def test_without_a_reason_the_refusal_names_no_entry() -> None:
    banner = (await policy_of(denied=[{"network": "192.0.2.0/24"}]).connect()).banner
    assert banner.text.startswith("refused by our access list")


async def test_who_stands_on_no_list_is_neither_trusted_nor_refused() -> None:
    policy = policy_of(
        spam_check("rcpt"),
        allow=[{"network": "198.51.100.0/24"}, {"sender": "x@y.example"}],
        denied=[{"network": "203.0.113.0/24"}, {"helo": "ylmf-pc"}, {"recipient": "old@example.org"}],
    )
    client = await policy.connect()
    reply = await client.transaction()
    assert (reply.code, reply.text[:12]) == (550, "a spam check")
    assert not client.session.trusted


# Several keys, several lists


async def test_all_keys_of_an_entry_must_match() -> None:
    policy = policy_of(spam_check("rcpt"), allow=[{"name": ".google.com", "sender": "google.com"}])
    policy.dns.name("192.0.2.1", "mail-wr1.google.com")
    assert await send(policy, sender="a@google.com") == 250
    assert await send(policy, sender="a@example.com") == 550
    assert await send(policy, client="192.0.2.2", sender="a@google.com") == 550


async def test_an_entry_is_judged_where_the_last_of_its_keys_is_known() -> None:
    policy = policy_of(denied=[{"network": "192.0.2.0/24", "helo": "a.example", "sender": "s@t.example"}])
    assert await send(policy, helo="a.example", sender="s@t.example") == 550
    assert await send(policy, helo="b.example", sender="s@t.example") == 250
    assert await send(policy, helo="a.example", sender="r@t.example") == 250
    assert await send(policy, client="198.51.100.1", helo="a.example", sender="s@t.example") == 250


async def test_what_is_trusted_with_several_keys_is_what_the_last_one_says() -> None:
    policy = policy_of(spam_check("rcpt"), allow=[{"network": "192.0.2.0/24", "recipient": "abuse@example.org"}])
    client = await policy.connect()
    assert not client.session.trusted
    assert (await client.transaction(recipient="abuse@example.org")).code == 250
    assert (await client.transaction(recipient="bob@example.org")).code == 550
    assert await send(policy, client="198.51.100.1", recipient="abuse@example.org") == 550


async def test_in_one_phase_allow_comes_before_deny() -> None:
    entry = {"network": "192.0.2.0/24"}
    policy = policy_of(spam_check("rcpt"), allow=[entry], denied=[entry, {"network": "192.0.2.1"}])
    assert await send(policy) == 250


async def test_an_allow_entry_of_one_phase_does_not_silence_a_deny_entry_of_a_later_one() -> None:
    policy = policy_of(allow=[{"network": "192.0.2.0/24"}], denied=[{"sender": "a@example.com"}])
    assert await send(policy) == 550
    assert await send(policy, sender="b@example.com") == 250


async def test_an_allow_entry_of_a_later_phase_does_not_take_a_refusal_back() -> None:
    policy = policy_of(allow=[{"sender": "a@example.com"}], denied=[{"network": "192.0.2.0/24"}])
    assert await send(policy) == 550


async def test_the_first_entry_that_matches_gives_the_reason() -> None:
    denied = [{"network": "192.0.2.0/24", "reason": "the first"}, {"network": "192.0.2.1", "reason": "the second"}]
    assert (await policy_of(denied=denied).connect()).banner.text.startswith("the first")


# Names and DNS


async def test_the_name_is_asked_only_for_entries_that_need_it() -> None:
    policy = policy_of(
        allow=[
            {"network": "198.51.100.0/24", "name": "a.example"},
            {"helo": "mail.google.com"},
            {"sender": "x.example"},
        ],
        denied=[{"helo": "ylmf-pc"}, {"recipient": "old@example.org"}, {"name": "a.example", "sender": "y.example"}],
    )
    assert await send(policy) == 250
    assert policy.dns.asked == []


async def test_the_name_is_asked_once_a_session() -> None:
    policy = policy_of(allow=[{"name": "a.example"}, {"name": ".b.example", "sender": "c.example"}])
    policy.dns.servfail("1.2.0.192.in-addr.arpa")
    await send(policy, sender="x@c.example")
    assert len(policy.dns.asked) == 1


async def test_a_temporary_fault_of_dns_neither_trusts_nor_refuses_and_is_logged() -> None:
    for lists, code in (({"allow": [{"name": ".example.com"}]}, 550), ({"denied": [{"name": ".example.com"}]}, 250)):
        checks = [spam_check("rcpt")] if code == 550 else []
        policy = policy_of(*checks, **lists)
        policy.dns.servfail("1.2.0.192.in-addr.arpa")
        assert await send(policy) == code
        (line,) = policy.log.named("client_name_unknown")
        assert line["client"] == "192.0.2.1"


async def test_it_is_asked_in_the_phases_that_have_entries_only() -> None:
    policy = policy_of(allow=[{"sender": "a@example.com"}], denied=[{"network": "203.0.113.0/24"}, {"helo": "ylmf-pc"}])
    asked = {phase: "access" in policy.gate.order(phase) for phase in ("connect", "helo", "mail", "rcpt")}
    assert asked == {"connect": True, "helo": True, "mail": True, "rcpt": False}


async def test_without_entries_it_is_asked_nothing() -> None:
    assert plugin_of(policy_of()).phases == {"startup"}


async def test_a_fault_of_access_itself_opens_nothing() -> None:
    policy = policy_of(denied=[{"network": "192.0.2.0/24"}], failures="expected")
    await policy.start()
    plugin_of(policy)._rule = lambda *about: 1 / 0
    client = await policy.connect("198.51.100.1")
    assert (client.banner.code, client.banner.status) == (421, "4.3.0")


async def test_access_is_asked_about_trusted_clients_too() -> None:
    policy = policy_of(denied=[{"sender": "a@example.com"}])
    client = await policy.connect()
    client.session.trust("somebody else said so")
    assert (await client.transaction()).code == 550
