"""A DNS list that does not answer: after some failures nobody waits for it, until it answers again."""

from __future__ import annotations

from tests.plugins_builtin.connection.lists import BL, OTHER, Lists

FIVE = [f"192.0.2.{number}" for number in range(1, 6)]


async def waited(lists: Lists, client: str) -> float:
    """Return how long RCPT makes the client wait."""
    made = await lists.connect(client)
    await made.rcpt()
    seconds = made.waited
    await made.close()
    return seconds


async def failing(*, zones: dict[str, float] | None = None) -> Lists:
    """Return a policy with a list that has left the queries about five clients unanswered."""
    lists = Lists(zones, others=())
    for zone in zones or (BL,):
        lists.healthy(zone)
    await lists.start()
    for client in FIVE:
        lists.slow(60, client=client)
        assert await waited(lists, client) == 5
    return lists


async def test_five_failures_in_a_row_are_named_in_the_log_and_nobody_waits_from_then_on() -> None:
    lists = await failing()
    assert lists.warnings == [(BL, "dns_list_failing")]
    (line,) = lists.policy.log.warnings
    assert line.facts["family"] == "IPv4"
    assert line.facts["error"] == "no answer for 5.2.0.192.bl.example.net in 5 s"
    lists.slow(60)
    assert await waited(lists, "192.0.2.99") == 0
    assert await lists.said("192.0.2.99") == ["points +0: bl.example.net: not waited for, as it does not answer"]


async def test_four_failures_or_five_with_an_answer_between_leave_it_asked() -> None:
    lists = Lists()
    await lists.start()
    for client in (*FIVE[:4], "192.0.2.99", *FIVE[:4]):
        if client in FIVE:
            lists.silence(client=client)
        await waited(lists, client)
    assert "dns_list_failing" not in [name for _, name in lists.told]
    lists.list(client="192.0.2.77")
    assert (await lists.ask("192.0.2.77")).startswith("550 ")


async def test_it_is_asked_in_the_background_about_the_last_client_and_comes_back() -> None:
    lists = await failing()
    for client in ("192.0.2.98", "192.0.2.99"):
        assert await waited(lists, client) == 0
    assert not {f"{number}.2.0.192.bl.example.net" for number in (98, 99)} & lists.asked()
    await lists.policy.clock.advance("10s")
    assert "99.2.0.192.bl.example.net" in lists.asked()
    assert "98.2.0.192.bl.example.net" not in lists.asked()
    assert [name for _, name in lists.told if name.startswith("dns_list")] == ["dns_list_failing", "dns_list_back"]
    lists.list(client="192.0.2.77")
    assert (await lists.ask("192.0.2.77")).startswith("550 ")


async def test_while_it_stays_silent_it_is_asked_once_in_ten_seconds_and_logged_no_more() -> None:
    lists = await failing()
    for number in range(20, 40):
        lists.slow(60, client=f"192.0.2.{number}")
        assert await waited(lists, f"192.0.2.{number}") == 0
    before = len(lists.policy.dns.asked)
    await lists.policy.clock.advance("10s")
    assert len(lists.policy.dns.asked) == before + 1
    await lists.policy.clock.advance("1m")
    assert len(lists.policy.dns.asked) == before + 1, "nobody came meanwhile of whom it could be asked"
    assert [name for _, name in lists.told].count("dns_list_failing") == 1
    assert [name for _, name in lists.told].count("list_unanswered") == 5


async def test_other_lists_and_the_other_family_are_waited_for_all_the_same() -> None:
    lists = await failing(zones={BL: 1, OTHER: 1})
    lists.slow(60)
    lists.list(zone=OTHER)
    assert (await lists.ask()).startswith("550 5.7.1 192.0.2.99 is listed by other.example.com [")
    lists.list(client="2001:db8::1")
    assert (await lists.ask("2001:db8::1")).startswith("550 5.7.1 2001:db8::1 is listed by bl.example.net [")
