"""greylist: a pool without a common name, which comes back from another network each time."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost.testing import Policy, instance
from gatepost_builtin.connection.dnsbl import Dnsbl
from tests.plugins_builtin.envelope.greylisting import DAY, MINUTE, policy_of, send

POOL = ["192.0.2.1", "198.51.100.1", "203.0.113.1", "192.0.3.1"]


async def tries(policy: Policy, *clients: str, every: float = 5 * MINUTE, **who: str) -> list[int]:
    """Return the codes that these clients hear, one after the other."""
    codes = []
    for client in clients:
        codes.append(await send(policy, client=client, **who))
        await policy.clock.advance(every)
    return codes


async def test_a_pool_is_let_in_at_the_third_try_from_the_third_network() -> None:
    policy = policy_of()
    assert await tries(policy, *POOL[:3]) == [451, 451, 250]
    assert await tries(policy, POOL[2]) == [250], "this network is known from now on"


async def test_other_senders_and_recipients_of_the_pool_wait() -> None:
    policy = policy_of()
    assert await tries(policy, *POOL[:2]) == [451, 451]
    assert await tries(policy, POOL[2], sender="other@example.com") == [451]
    assert await tries(policy, POOL[2], recipient="other@example.org") == [451]


async def test_a_sender_that_changes_its_tag_with_each_try_is_one_sender() -> None:
    policy = policy_of()
    codes = [await tries(policy, client, sender=f"list+{client}@example.com") for client in POOL[:3]]
    assert codes == [[451], [451], [250]]


async def test_a_try_that_comes_too_soon_does_not_count() -> None:
    policy = policy_of()
    assert await tries(policy, *POOL, every=2 * MINUTE) == [451, 451, 451, 451]
    policy = policy_of()
    assert await tries(policy, *POOL[:1]) == [451]
    assert await tries(policy, POOL[1], every=4.9 * MINUTE) == [451]
    assert await tries(policy, POOL[2], every=0.1 * MINUTE) == [451], "4.9 minutes after the try before"
    assert await tries(policy, POOL[2].replace("113.1", "113.2")) == [250], "a network that came too soon may come back"


async def test_a_network_counts_once_however_often_it_comes() -> None:
    policy = policy_of(delay="10m")
    assert await tries(policy, POOL[0], POOL[0], POOL[1], every=9 * MINUTE) == [451, 451, 451]
    assert await tries(policy, POOL[0]) == [250], "the first network has waited by itself"


async def test_a_pool_that_is_slower_than_the_retry_window_begins_again() -> None:
    policy = policy_of()
    assert await tries(policy, *POOL, every=1.5 * DAY) == [451, 451, 451, 451]


@pytest.mark.parametrize("sender", ["", "double-bounce@example.com"])
async def test_bounces_and_probes_from_everywhere_are_no_pool(sender: str) -> None:
    policy = policy_of()
    assert await tries(policy, *POOL[:3], sender=sender) == [451, 451, 451]


async def test_organisations_are_no_pool() -> None:
    policy = policy_of()
    for number, client in enumerate(POOL[:3]):
        policy.dns.name(client, f"mail.organisation{number}.example")
    assert await tries(policy, *POOL[:3]) == [451, 451, 451]


def listing(mode: str = "enforce", **zone: Any) -> Policy:
    """A policy with a DNS list that lists the second of the pool, and does not refuse it by that."""
    lists = instance(Dnsbl, "dnsbl", zones={"bl.example.net": zone}, deny_at=9, mode=mode)
    policy = policy_of(lists)
    policy.dns.answer("1.100.51.198.bl.example.net", "A", "127.0.0.2")
    return policy


async def test_with_a_client_among_them_that_a_dns_list_names_it_is_not_let_in() -> None:
    assert await tries(listing(points=1), *POOL) == [451, 451, 451, 451]


async def test_a_listed_client_spoils_it_also_when_its_own_try_does_not_count() -> None:
    policy = listing(points=1)
    assert await tries(policy, POOL[0], every=MINUTE) == [451]
    assert await tries(policy, POOL[1]) == [451]
    assert await tries(policy, *POOL[2:], "203.0.114.1") == [451, 451, 451]


@pytest.mark.parametrize(("points", "mode"), [(-1, "enforce"), (0, "enforce"), (1, "observe")])
async def test_a_list_of_good_senders_or_one_that_is_only_watched_spoils_nothing(points: float, mode: str) -> None:
    assert await tries(listing(points=points, mode=mode), *POOL[:3]) == [451, 451, 250]
