"""dnsbl asks the test points of its lists, so that a list that went mad or away stops no mail (RFC 5782 §5)."""

from __future__ import annotations

from gatepost import reversed_address
from tests.plugins_builtin.connection.lists import BL, CLIENT, OTHER, Lists


async def test_the_test_points_of_every_list_and_family_are_asked_at_start_and_hourly() -> None:
    lists = Lists({BL: 1, OTHER: 1})
    lists.healthy(BL, OTHER)
    await lists.start()
    nibbles = ".".join(reversed("00000000000000000000ffff7f00000"))
    points = ("1.0.0.127", "2.0.0.127", f"1.{nibbles}", f"2.{nibbles}")
    assert lists.asked() == {f"{point}.{zone}" for point in points for zone in (BL, OTHER)}
    assert lists.told == []
    lists.policy.dns.asked.clear()
    await lists.policy.clock.advance(3599)
    assert lists.policy.dns.asked == []
    await lists.policy.clock.advance(1)
    assert len(lists.policy.dns.asked) == 8


async def test_a_list_that_lists_everybody_is_switched_off_with_a_warning() -> None:
    lists = Lists()
    lists.healthy()
    lists.list(client="127.0.0.1")
    await lists.start()
    assert lists.warnings == [(BL, "list_off")]
    lists.list()
    assert (await lists.ask()).startswith("250 ")
    assert await lists.said() == [f"points +0: {BL}: switched off"]
    assert f"{reversed_address(CLIENT)}.{BL}" not in lists.asked()


async def test_it_is_switched_on_by_the_next_good_test_only() -> None:
    lists = Lists()
    lists.healthy()
    lists.list()
    lists.list(client="127.0.0.1")
    await lists.start()
    lists.silence(client="127.0.0.1")
    await lists.an_hour_later()
    assert (await lists.ask()).startswith("250 ")
    lists.policy.dns.answer(f"1.0.0.127.{BL}", "A")
    assert "list_on" not in [line.name for line in lists.policy.log.events]
    await lists.an_hour_later()
    assert (await lists.ask()).startswith("550 ")
    assert [line.facts["zone"] for line in lists.policy.log.events if line.name == "list_on"] == [BL]


async def test_a_list_goes_off_while_we_run() -> None:
    lists = Lists()
    lists.healthy()
    lists.list()
    await lists.start()
    assert (await lists.ask()).startswith("550 ")
    lists.list(client="127.0.0.1")
    await lists.an_hour_later()
    assert (await lists.ask()).startswith("250 ")


async def test_each_family_is_switched_off_by_its_own_test_point() -> None:
    lists = Lists()
    lists.healthy()
    lists.list()
    lists.list(client="2001:db8::7")
    lists.list(client="::ffff:7f00:1")
    await lists.start()
    assert (await lists.ask()).startswith("550 ")
    assert (await lists.ask("2001:db8::7")).startswith("250 ")


async def test_one_bad_list_does_not_switch_off_another() -> None:
    lists = Lists({BL: 1, OTHER: 1})
    lists.healthy(BL, OTHER)
    lists.list(client="127.0.0.1")
    lists.list(zone=OTHER)
    await lists.start()
    assert "listed by other.example.com" in await lists.ask()


async def test_a_list_without_its_own_test_entry_is_warned_of_and_used() -> None:
    lists = Lists()
    lists.list()
    await lists.start()
    assert lists.warnings == [(BL, "list_empty")]
    assert (await lists.ask()).startswith("550 ")


async def test_a_list_that_knows_ipv4_only_is_no_cause_for_a_warning() -> None:
    lists = Lists()
    lists.list(client="127.0.0.2")
    await lists.start()
    assert lists.warnings == []
    assert [event for _, event in lists.told] == ["list_empty"]


async def test_a_sold_domain_that_answers_everything_with_a_web_server_is_warned_of() -> None:
    lists = Lists()
    for point in ("127.0.0.1", "127.0.0.2", "::ffff:7f00:1", "::ffff:7f00:2"):
        lists.list("203.0.113.7", client=point)
    await lists.start()
    assert lists.warnings == [(BL, "list_empty")]


async def test_a_list_whose_test_entry_has_another_answer_than_ours_is_alive() -> None:
    lists = Lists({BL: {"answers": ["127.0.0.10"]}})
    lists.healthy()
    await lists.start()
    assert lists.told == []


async def test_a_list_that_refuses_our_resolver_is_warned_of_once_and_not_switched_off() -> None:
    lists = Lists()
    for point in ("127.0.0.1", "127.0.0.2", "::ffff:7f00:1", "::ffff:7f00:2", CLIENT):
        lists.list("127.255.255.254", client=point)
    await lists.start()
    assert (await lists.ask()).startswith("250 ")
    assert lists.warnings == [(BL, "list_refuses_us")]
    await lists.an_hour_later()
    assert lists.warnings == [(BL, "list_refuses_us")] * 2


async def test_a_test_that_is_not_answered_says_nothing() -> None:
    lists = Lists()
    lists.list()
    for point in ("127.0.0.1", "127.0.0.2", "::ffff:7f00:1", "::ffff:7f00:2"):
        lists.silence(client=point)
    await lists.start()
    assert lists.told == []
    assert (await lists.ask()).startswith("550 ")


async def test_dead_dns_holds_the_start_for_one_question_only() -> None:
    lists = Lists({BL: 1, OTHER: 1})
    for zone in (BL, OTHER):
        for point in ("127.0.0.1", "127.0.0.2", "::ffff:7f00:1", "::ffff:7f00:2"):
            lists.slow(60.0, zone, point)
    await lists.start()
    assert lists.policy.clock.monotonic() == 5.0


async def test_one_silent_test_point_does_not_hush_the_other() -> None:
    lists = Lists()
    lists.list()
    lists.list(client="127.0.0.1")
    lists.silence(client="127.0.0.2")
    await lists.start()
    assert (BL, "list_off") in lists.warnings
    assert (await lists.ask()).startswith("250 ")
