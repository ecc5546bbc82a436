"""dnsbl: all lists are asked at connect and ruled at rcpt; only what a list declares counts, and silence never does."""

from __future__ import annotations

import asyncio

import pytest

from gatepost import Session, hookimpl, reversed_address
from gatepost.testing import instance
from gatepost_builtin.connection.earlytalker import Earlytalker
from tests.plugins_builtin.connection.lists import BL, CLIENT, OTHER, WHITE, Lists

# Listed or not


async def test_a_listed_client_is_refused_for_good_at_rcpt() -> None:
    lists = Lists()
    lists.list()
    client = await lists.policy.connect(CLIENT)
    assert client.banner.code == 220
    assert (await client.ehlo()).code == 250
    assert (await client.mail()).code == 250
    reply = await client.rcpt()
    assert reply.wire.startswith(b"550 5.7.1 192.0.2.99 is listed by bl.example.net [")
    assert not reply.closed


async def test_an_unlisted_client_passes_without_a_word() -> None:
    lists = Lists()
    assert (await lists.ask()).startswith("250 ")
    assert await lists.said() == []


async def test_nobody_is_asked_about_a_client_that_is_known_to_be_on_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = Lists({BL: 1, OTHER: 1})
    known = {f"{reversed_address(CLIENT)}.{zone}": () for zone in (BL, OTHER)}
    monkeypatch.setattr(lists.policy.dns, "known", lambda name, kind: known.get(name))
    assert (await lists.ask()).startswith("250 ")
    assert lists.asked() == set()
    del known[f"{reversed_address(CLIENT)}.{OTHER}"]
    lists.list(zone=OTHER)
    assert (await lists.ask()).startswith("550 ")


async def test_a_list_that_is_switched_off_leaves_its_trace_also_where_its_answer_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lists = Lists()
    lists.list(client="127.0.0.1")
    await lists.start()
    monkeypatch.setattr(lists.policy.dns, "known", lambda name, kind: ())
    assert await lists.said() == [f"points +0: {BL}: switched off"]


async def test_an_ipv6_client_is_asked_about_by_its_nibbles() -> None:
    lists = Lists()
    lists.list(client="2001:db8::7")
    assert (await lists.ask("2001:db8::7")).startswith("550 5.7.1 2001:db8::7 is listed by")
    assert f"7.{'0.' * 23}8.b.d.0.1.0.0.2.{BL}" in lists.asked()


async def test_every_listing_is_told() -> None:
    lists = Lists({BL: 1, OTHER: 1})
    lists.list()
    lists.list(zone=OTHER)
    reply = await lists.ask()
    assert "192.0.2.99 is listed by bl.example.net; 192.0.2.99 is listed by other.example.com [" in reply


@pytest.mark.parametrize("answer", ["127.0.0.1", "127.0.0.100", "127.0.1.2", "203.0.113.7", "127.255.255.254"])
async def test_only_declared_answers_count(answer: str) -> None:
    """Ledger 11: the original took any A record, also that of a list whose domain had been sold."""
    lists = Lists()
    lists.list(answer)
    assert (await lists.ask()).startswith("250 ")


@pytest.mark.parametrize("answer", ["127.0.0.2", "127.0.0.11", "127.0.0.99"])
async def test_by_default_127_0_0_2_to_99_count(answer: str) -> None:
    lists = Lists()
    lists.list(answer)
    assert (await lists.ask()).startswith("550 ")


async def test_one_declared_answer_among_others_is_a_listing() -> None:
    lists = Lists({BL: {"answers": ["127.0.0.10-127.0.0.11"]}})
    lists.list("127.0.0.4", "127.0.0.10")
    assert (await lists.ask()).startswith("550 ")


async def test_declared_answers_take_the_place_of_the_default_ones() -> None:
    lists = Lists({BL: {"answers": ["127.0.0.10-127.0.0.11", "127.0.4.0/24", "127.0.9.1"]}})
    lists.list("127.0.0.2")
    assert (await lists.ask()).startswith("250 ")
    for listed in ("127.0.0.11", "127.0.4.200", "127.0.9.1"):
        lists.list(listed)
        assert (await lists.ask()).startswith("550 ")


@pytest.mark.parametrize("answers", [["127.0.0.0/8"], ["127.255.255.254"], ["127.0.0.2-127.255.255.255"]])
async def test_127_255_255_x_never_counts_though_declared_and_the_log_hears_of_it_once(answers: list[str]) -> None:
    lists = Lists({BL: {"answers": answers}})
    lists.list("127.255.255.254")
    assert (await lists.ask()).startswith("250 ")
    assert (await lists.ask()).startswith("250 ")
    assert lists.warnings == [(BL, "list_refuses_us")]
    assert (await lists.said())[-1] == f"points +0: {BL}: it refuses to answer us"


# Asked at connect, all at once


async def test_all_lists_are_asked_at_connect_and_the_greeting_does_not_wait() -> None:
    lists = Lists({BL: 1, OTHER: 1, WHITE: -1})
    name = reversed_address(CLIENT)
    for zone in (BL, OTHER, WHITE):
        lists.slow(4.0, zone)
    assert (await lists.policy.connect(CLIENT)).banner.code == 220
    assert lists.policy.clock.monotonic() == 0.0
    assert lists.asked() == {f"{name}.{zone}" for zone in (BL, OTHER, WHITE)}


async def test_behind_earlytalker_they_are_asked_before_the_greeting_and_rcpt_need_not_wait() -> None:
    waits = instance(Earlytalker, "earlytalker", delay="6s")
    lists = Lists(others=(waits,))
    lists.list()
    lists.slow(2.9)
    client = await lists.policy.connect(CLIENT)
    assert client.waited == 6
    await client.ehlo()
    await client.mail()
    assert (await client.rcpt()).code == 550
    assert client.waited == 0
    talks = await lists.policy.connect("192.0.2.98", talks_early=True)
    assert talks.banner.code == 554
    assert "98.2.0.192.bl.example.net" not in lists.asked()


async def test_rcpt_waits_for_the_rest_of_the_slowest_list_only() -> None:
    """Ledger 11: the original asked one list after the other."""
    lists = Lists({BL: 1, OTHER: 1, WHITE: 1})
    for zone in (BL, OTHER, WHITE):
        lists.list(zone=zone)
        lists.slow(4.0, zone)
    client = await lists.connect()
    assert (await client.rcpt()).code == 550
    assert lists.policy.clock.monotonic() <= 5.0


async def test_each_client_is_looked_up_once_and_ruled_alike_for_each_recipient() -> None:
    """Ledger 10: in the original a first RCPT to postmaster cleared the listing for all that followed."""
    lists = Lists()
    lists.list()
    client = await lists.connect()
    replies = [await client.rcpt(f"{name}@example.org") for name in ("postmaster", "abuse", "b", "b", "c")]
    assert [reply.code for reply in replies] == [550] * 5
    assert (await client.rcpt("postmaster")).code == 550
    assert len(lists.policy.dns.asked) == 1


async def test_a_client_that_leaves_takes_its_questions_along() -> None:
    lists = Lists()
    lists.slow(4.0)
    before = asyncio.all_tasks()
    client = await lists.policy.connect(CLIENT)
    assert asyncio.all_tasks() - before
    await client.close()
    await lists.policy.clock.advance(0)
    assert asyncio.all_tasks() == before


# Silence


async def test_a_list_that_does_not_answer_counts_nothing_and_leaves_a_trace() -> None:
    lists = Lists()
    lists.silence()
    assert await lists.said() == [f"points +0: {BL}: no answer"]
    assert (await lists.ask()).startswith("250 ")
    assert ("info", "list_unanswered") in lists.told


async def test_a_list_that_does_not_answer_does_not_hush_another() -> None:
    lists = Lists({BL: 1, OTHER: 1})
    lists.silence()
    lists.list(zone=OTHER)
    reply = await lists.ask()
    assert reply.startswith("550 5.7.1 192.0.2.99 is listed by other.example.com [")


async def test_a_list_has_five_seconds_for_a_question() -> None:
    lists = Lists()
    lists.list()
    lists.slow(5.5)
    assert (await lists.ask()).startswith("250 ")
    assert lists.policy.clock.monotonic() <= 6.0


async def test_how_long_a_list_may_take_is_an_option() -> None:
    lists = Lists(query_timeout="1s")
    lists.list()
    lists.slow(2.0)
    assert (await lists.ask()).startswith("250 ")


async def test_a_mistake_of_ours_does_not_stop_mail() -> None:
    lists = Lists(failures="expected")
    lists.policy.dns.answers[f"{reversed_address(CLIENT)}.{BL}", "A"] = RuntimeError("a mistake of ours")
    assert (await lists.ask()).startswith("250 ")
    assert lists.policy.events.named("plugin_failed")


# Points


@pytest.mark.parametrize(
    ("listed_by", "starts"),
    [((BL, OTHER), "550 5.7.1 "), ((BL,), "450 4.7.1 "), ((OTHER,), "450 4.7.1 "), ((), "250 "), ((BL, WHITE), "250 ")],
)
async def test_it_rules_the_sum_itself_with_deny_at_and_defer_at(listed_by: tuple[str, ...], starts: str) -> None:
    lists = Lists({BL: 2, OTHER: 2, WHITE: -1.5}, deny_at=4, defer_at=1)
    for zone in listed_by:
        lists.list(zone=zone)
    assert (await lists.ask()).startswith(starts)


async def test_with_defer_at_alone_nobody_is_refused_for_good() -> None:
    lists = Lists({BL: 100}, defer_at=1)
    lists.list()
    assert (await lists.ask()).startswith("450 4.7.1 ")


async def test_with_deny_at_alone_nobody_is_deferred() -> None:
    lists = Lists({BL: 2}, deny_at=3)
    lists.list()
    assert (await lists.ask()).startswith("250 ")


async def test_what_stays_below_is_in_the_record() -> None:
    lists = Lists({BL: 2}, deny_at=3)
    lists.list()
    assert await lists.said() == ["points +0: 192.0.2.99 is listed by bl.example.net"]


async def test_with_neither_threshold_nor_score_it_denies_at_one() -> None:
    lists = Lists({BL: 0.4, OTHER: 0.6})
    lists.list()
    assert (await lists.ask()).startswith("250 ")
    lists.list(zone=OTHER)
    assert (await lists.ask()).startswith("550 ")


async def test_ten_tenths_are_one() -> None:
    zones = {f"bl{number}.example.net": 0.1 for number in range(10)}
    lists = Lists(zones)
    for zone in zones:
        lists.list(zone=zone)
    assert (await lists.ask()).startswith("550 ")


async def test_a_list_of_good_senders_speaks_for_a_client_and_is_not_told() -> None:
    lists = Lists({BL: 3, WHITE: -1})
    lists.list()
    lists.list(zone=WHITE)
    reply = await lists.ask()
    assert reply.startswith("550 ")
    assert WHITE not in reply


async def test_with_a_score_the_sum_is_one_answer_of_points() -> None:
    lists = Lists({BL: 2, OTHER: 1, WHITE: -0.5}, score={"deny_at": 10})
    for zone in (BL, OTHER, WHITE):
        lists.list(zone=zone)
    (said,) = await lists.said()
    assert said.startswith("points +2.5: 192.0.2.99 is listed by bl.example.net; ")


async def test_the_score_refuses_by_that_sum_and_counts_it_once_a_session() -> None:
    lists = Lists({BL: 2, OTHER: 2}, score={"deny_at": 5, "defer_at": 4})
    lists.list()
    lists.list(zone=OTHER)
    client = await lists.connect()
    assert [(await client.rcpt(f"{name}@example.org")).code for name in "bcdb"] == [450] * 4


async def test_the_score_counts_it_once_at_the_end_of_the_message_too() -> None:
    lists = Lists({BL: 2}, score={"deny_at": 4})
    lists.list()
    client = await lists.connect()
    for name in "bcd":
        assert (await client.rcpt(f"{name}@example.org")).code == 250
    assert (await client.data()).code == 250


async def test_with_thresholds_of_its_own_it_gives_the_score_nothing() -> None:
    lists = Lists({BL: 2}, deny_at=3, score={"deny_at": 1})
    lists.list()
    assert (await lists.ask()).startswith("250 ")


async def test_the_score_alone_rules_where_there_is_one() -> None:
    lists = Lists({BL: 2}, score={"deny_at": 3})
    lists.list()
    assert (await lists.ask()).startswith("250 ")


async def test_our_trouble_with_a_list_is_not_told_to_a_client_that_the_score_refuses() -> None:
    lists = Lists({BL: 2, OTHER: 2}, score={"deny_at": 2})
    lists.list()
    lists.silence(OTHER)
    reply = await lists.ask()
    assert reply.startswith("550 ")
    assert OTHER not in reply


async def test_no_points_leave_a_trace_only() -> None:
    lists = Lists({BL: 0})
    lists.list()
    assert await lists.said() == ["points +0: 192.0.2.99 is listed by bl.example.net"]


# What the client is told


async def test_a_text_of_ones_own_is_used() -> None:
    """Ledger 11: the original answered with the name that it had looked up."""
    lists = Lists({BL: {"text": "{ip}: {zone} says {txt} ({txt})"}})
    lists.list(txt="spam seen")
    reply = await lists.ask()
    assert reply.startswith("550 5.7.1 192.0.2.99: bl.example.net says spam seen (spam seen) [")


async def test_txt_is_looked_up_only_for_a_listed_client_whose_text_wants_it() -> None:
    lists = Lists({BL: {"text": "{txt}"}, OTHER: 1})
    lists.list(zone=OTHER, txt="not wanted")
    await lists.ask()
    assert lists.asked("TXT") == set()
    lists.list(txt="wanted")
    await lists.ask()
    assert lists.asked("TXT") == {f"{reversed_address(CLIENT)}.{BL}"}


@pytest.mark.parametrize("there_is", ["none", "no answer"])
async def test_a_list_that_gives_no_reason_still_lists(there_is: str) -> None:
    lists = Lists({BL: {"text": "listed: {txt}"}})
    lists.list()
    if there_is == "no answer":
        lists.silence(kind="TXT")
    assert (await lists.ask()).startswith("550 5.7.1 listed: it gives no reason [")


async def test_a_hostile_txt_record_stays_text() -> None:
    lists = Lists({BL: {"text": "{txt}"}})
    lists.list(txt="{ip} {zone} {0.__class__} %s\r\n250 2.1.5 OK\x00\x1b[31m" + "x" * 5000)
    reply = await lists.ask()
    assert reply.startswith("550 5.7.1 {ip} {zone} {0.__class__} %s")
    assert all(line.startswith("550") for line in reply.splitlines())
    assert len(reply) < 512
    assert "\x1b" not in reply and "\x00" not in reply


# Who is not asked


PRIVATE = (
    *("10.1.2.3", "100.64.0.1", "127.0.0.3", "169.254.1.1", "172.31.0.1", "192.168.1.1"),
    *("::1", "fd00::1", "fe80::1", "fe80::1%eth0"),
)


@pytest.mark.parametrize("client", PRIVATE)
async def test_private_loopback_and_link_local_clients_are_not_asked_about(client: str) -> None:
    lists = Lists()
    assert (await lists.ask(client)).startswith("250 ")
    assert lists.policy.dns.asked == []


@pytest.mark.parametrize("client", PRIVATE)
async def test_they_are_when_the_configuration_says_so(client: str) -> None:
    lists = Lists(ask_private=True)
    lists.list(client=client)
    assert (await lists.ask(client)).startswith("550 ")


@pytest.mark.parametrize("client", ["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1", "8.8.8.8"])
async def test_all_others_are(client: str) -> None:
    lists = Lists()
    await lists.ask(client)
    assert len(lists.policy.dns.asked) == 1


async def test_a_trusted_client_is_not_asked_about() -> None:
    class Trusting:
        @hookimpl
        def connect(self, session: Session) -> None:
            session.trust("our office")

    lists = Lists(others=(Trusting(),))
    lists.list()
    assert (await lists.ask()).startswith("250 ")
    assert lists.policy.dns.asked == []
