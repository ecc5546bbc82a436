"""greylist: address probes, the constant part of a sender, and names that only repeat an address."""

from __future__ import annotations

import pytest

from gatepost import Address
from gatepost_builtin.envelope.greylist import constant_part, names_address
from tests.plugins_builtin.envelope.greylisting import MINUTE, arrive, introduce, policy_of, send

# Probes


@pytest.mark.parametrize(
    "sender",
    [
        *("", "double-bounce@mx.example.com", "Double-Bounce@mx.example.com", "double-bounce8CL5@mx.example.com"),
        *("mailer-daemon@mx.example.com", "MAILER-DAEMON@mx.example.com", "postmaster@example.com"),
    ],
)
async def test_an_address_probe_is_not_refused_at_rcpt_and_its_message_is_at_data(sender: str) -> None:
    policy = policy_of()
    client = await arrive(policy, sender=sender)
    assert (await client.rcpt()).code == 250
    reply = await client.say("DATA")
    assert reply.code == 451
    assert "please try again in 300 seconds" in reply.text
    await policy.clock.advance(5 * MINUTE)
    assert await send(policy, sender=sender) == 250


@pytest.mark.parametrize("sender", ["double-bouncer@example.com", "my-postmaster@example.com", "bounce@example.com"])
async def test_a_sender_that_only_looks_like_one_is_refused_at_rcpt(sender: str) -> None:
    assert (await (await arrive(policy_of(), sender=sender)).rcpt()).code == 451


# The constant part


@pytest.mark.parametrize(
    ("sender", "constant"),
    [
        ("kim@example.com", "kim@example.com"),
        ("list+bounce-77@example.com", "list@example.com"),
        ("+list@example.com", "+list@example.com"),
        ("bounce-4711-9@example.com", "bounce-#-#@example.com"),
        ("4711@example.com", "#@example.com"),
        ("bounce4711@example.com", "bounce4711@example.com"),
        ("a1b2c3@example.com", "a1b2c3@example.com"),
        ("prvs=0412ab34cd=kim@example.com", "kim@example.com"),
        ("PRVS=0412ab34cd=kim+list@example.com", "kim@example.com"),
        ("prvs=0412ab34cd=@example.com", "prvs=0412ab34cd=@example.com"),
        ("prvs@example.com", "prvs@example.com"),
        ("btv1==0412ab34cd==kim@example.com", "kim@example.com"),
        ("SRS0=aB3d=5T=example.org=kim@example.com", "srs0=example.org=kim@example.com"),
        ("SRS0+aB3d=5T=example.org=kim@example.com", "srs0=example.org=kim@example.com"),
        ("SRS0-aB3d=5T=example.org=kim@example.com", "srs0=example.org=kim@example.com"),
        ("SRS1=aB3d=example.net==cD4e=5T=example.org=kim@example.com", "srs1=example.net=example.org=kim@example.com"),
        ("bounces+SRS=aB3d=5T@example.com", "bounces@example.com"),
        ("double-bounce8CL5@mx.example.com", "double-bounce@mx.example.com"),
        ("double-bounceC8L5@mx.example.com", "double-bounce@mx.example.com"),
    ],
)
def test_what_changes_in_a_sender_with_each_try_is_left_out(sender: str, constant: str) -> None:
    assert constant_part(Address.parse(sender)) == constant


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("list+77@example.com", "list+78@example.com"),
        ("bounce-77@example.com", "bounce-7801@example.com"),
        ("prvs=0412ab34cd=kim@example.com", "prvs=0413cc00ff=kim@example.com"),
        ("SRS0=aB3d=5T=example.org=kim@example.com", "SRS0=Zz9x=5U=example.org=kim@example.com"),
    ],
)
async def test_a_sender_that_comes_back_with_another_tag_has_waited(first: str, second: str) -> None:
    policy = policy_of()
    assert await send(policy, sender=first) == 451
    await policy.clock.advance(5 * MINUTE)
    assert await send(policy, sender=second) == 250


# Names that only repeat an address


@pytest.mark.parametrize(
    ("name", "client", "repeats"),
    [
        ("static.7.2.0.192.clients.example", "192.0.2.7", True),
        ("ec2-192-0-2-7.compute.example", "192.0.2.7", True),
        ("host192-0-2-7.isp.example", "192.0.2.7", True),
        ("dsl-0-2-7.isp.example", "192.0.2.7", True),
        ("7-2-0.dyn.isp.example", "192.0.2.7", True),
        ("ip192000002007.isp.example", "192.0.2.7", True),
        ("ip-192-000-002-007.isp.example", "192.0.2.7", True),
        ("pc0000207.dip0.isp.example", "192.0.2.7", True),
        ("a2-7.smtp-out.pool.example", "192.0.2.7", False),
        ("mail-f7.pool.example", "192.0.2.7", False),
        ("out7.mail.example", "192.0.2.7", False),
        ("mx1-9-2-0.example", "192.0.2.7", False),
        ("2001-db8--7.isp.example", "2001:db8::7", True),
        ("host-0000000000000007.isp.example", "2001:db8::7", True),
        (f"{'7' + '.0' * 23}.8.b.d.0.1.0.0.2.isp.example", "2001:db8::7", True),
        ("mail7.example", "2001:db8::7", False),
    ],
)
def test_a_name_that_holds_the_octets_of_the_address_is_no_organisation(name: str, client: str, repeats: bool) -> None:
    assert names_address(name, client) is repeats


async def test_customers_of_one_hoster_are_clients_of_their_own() -> None:
    policy = policy_of()
    policy.dns.name("192.0.2.1", "static.1.2.0.192.clients.hoster.example")
    policy.dns.name("198.51.100.9", "static.9.100.51.198.clients.hoster.example")
    policy.dns.name("192.0.2.99", "static.99.2.0.192.clients.hoster.example")
    await introduce(policy, client="192.0.2.1")
    assert await send(policy, client="198.51.100.9") == 451
    assert await send(policy, client="192.0.2.99") == 250, "their network counts"
