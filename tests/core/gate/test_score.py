"""Points are kept in scopes, and their sum rules."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost import Address, Decision, Session, accept, defer, deny, hookimpl, points
from gatepost.gate.score import Score
from tests.core.gate.asking import Asked
from tests.policy import Policy, delivering, saying, vouching


async def recipient_reply(*plugins: Any, deny_at: float = 3.0, defer_at: float | None = None, **how: Any) -> str:
    """Return the reply to a recipient under a policy with a score."""
    client = await Policy(*plugins, vouching(), score=Score(defer_at, deny_at), **how).connect()
    await client.ehlo()
    await client.mail()
    return (await client.rcpt()).wire.decode()


@pytest.mark.parametrize("phase", ["connect", "helo", "mail", "rcpt"])
@pytest.mark.parametrize(("number", "start"), [(3, "550 5.7.1 score 3: x (+3)"), (2.5, "250"), (-5, "250")])
async def test_points_of_every_phase_count_at_rcpt(phase: str, number: float, start: str) -> None:
    assert (await recipient_reply(saying(phase, points(number, "x")))).startswith(start)


async def test_points_of_all_scopes_add_up_and_defer_comes_before_deny() -> None:
    plugins = [saying(phase, points(1, "same reason")) for phase in ("connect", "helo", "mail", "rcpt")]
    assert (await recipient_reply(*plugins, deny_at=4)).startswith("550 5.7.1 score 4: ")
    assert (await recipient_reply(*plugins, deny_at=5, defer_at=4)).startswith("450 4.7.1 score 4: ")
    assert (await recipient_reply(*plugins, deny_at=5)).startswith("250 ")


async def test_a_reason_counts_once_in_each_scope_and_not_once_in_all() -> None:
    class Both:
        @hookimpl
        def connect(self) -> Decision:
            return points(2, "listed")

        @hookimpl
        def mail(self) -> Decision:
            return points(1, "listed")

    assert (await recipient_reply(Both(), deny_at=3)).startswith("550 ")


async def test_the_same_reason_of_the_same_plugin_counts_once_in_its_scope() -> None:
    plugin = saying("rcpt", points(2, "x"))
    client = await Policy(plugin, vouching(), score=Score(None, 3)).connect()
    await client.ehlo()
    await client.mail()
    assert [(await client.rcpt()).code for _ in range(3)] == [250, 250, 250]


async def test_points_of_helo_are_replaced_at_the_next_helo_and_those_of_mail_end_with_the_transaction() -> None:
    class ByName:
        @hookimpl
        def helo(self, hostname: str) -> Decision | None:
            return points(3, "bad name") if hostname == "bad" else None

        @hookimpl
        def mail(self, sender: Address) -> Decision | None:
            return points(3, "bad sender") if sender.local == "bad" else None

    client = await Policy(ByName(), vouching(), score=Score(None, 3)).connect()
    codes = []
    for helo, sender in [("bad", "good"), ("good", "good"), ("good", "bad"), ("good", "good")]:
        await client.ehlo(helo)
        await client.mail(f"{sender}@example.com")
        codes.append((await client.rcpt()).code)
    assert codes == [550, 250, 550, 250]


async def test_points_of_a_recipient_count_for_it_alone() -> None:
    class ByRecipient:
        @hookimpl
        def rcpt(self, recipient: Address) -> Decision | None:
            return points(3, "trap") if recipient.local == "trap" else None

    client = await Policy(ByRecipient(), vouching(), delivering(), score=Score(None, 3)).connect()
    await client.ehlo()
    await client.mail()
    assert [(await client.rcpt(f"{name}@example.org")).code for name in ("b", "trap", "c")] == [250, 550, 250]
    assert (await client.data()).code == 250


@pytest.mark.parametrize("phase", ["data", "headers", "message"])
async def test_points_of_the_message_are_ruled_at_its_end_and_an_accept_does_not_override_them(phase: str) -> None:
    accepting = saying("message", accept())
    order = [saying(phase, points(3, "x")), accepting]
    client = await Policy(*order, vouching(), delivering(), score=Score(None, 3)).connect()
    reply = await client.transaction()
    assert reply.wire.startswith(b"550 5.7.1 score 3: x (+3) [")
    assert (await client.transaction()).code == 550


async def test_trusted_and_relaying_clients_are_not_scored() -> None:
    bad = saying("connect", points(9, "x"))
    trusting = Asked(does=lambda session: session.trust("network"))
    trusting_plugin = type("Trusts", (), {"connect": hookimpl(lambda self, session: trusting.say(session))})()
    assert (await recipient_reply(bad)).startswith("550")
    assert (await recipient_reply(bad, trusting_plugin)).startswith("250")
    client = await Policy(bad, vouching(), score=Score(None, 3)).connect()
    client.session._may_relay = True
    await client.ehlo()
    await client.mail()
    assert (await client.rcpt()).code == 250


async def test_without_a_score_points_only_stand_in_the_record() -> None:
    client = await Policy(saying("rcpt", points(99, "x")), vouching(), delivering()).connect()
    assert (await client.transaction()).code == 250
    assert not client.session.scored
    said = [said for ruling in client.policy.events.records[-1].rulings for said in ruling.said]
    assert points(99, "x") in [each.answer for each in said]


# Permanent beats temporary.


@pytest.mark.parametrize("phase", ["connect", "helo", "mail", "rcpt"])
async def test_points_for_a_denial_beat_a_plugin_that_defers_at_rcpt(phase: str) -> None:
    order = [saying(phase, points(3, "x")), saying("rcpt", defer("greylisted"))]
    assert (await recipient_reply(*order)).startswith("550 5.7.1 score 3: x (+3) [")


@pytest.mark.parametrize("number", [2.5, -3])
async def test_fewer_points_leave_the_words_of_the_plugin_that_defers(number: float) -> None:
    order = [saying("mail", points(number, "x")), saying("rcpt", defer("greylisted"))]
    assert (await recipient_reply(*order, defer_at=1)).startswith("450 4.7.1 greylisted [")


async def test_points_given_behind_the_plugin_that_defers_are_not_asked_for() -> None:
    order = [saying("rcpt", defer("greylisted")), saying("rcpt", points(9, "x"))]
    assert (await recipient_reply(*order)).startswith("450 4.7.1 greylisted [")


async def test_a_denial_by_a_plugin_keeps_its_words_whatever_the_points() -> None:
    order = [saying("mail", points(9, "x")), saying("rcpt", deny("no such user"))]
    assert (await recipient_reply(*order)).startswith("550 5.7.1 no such user [")


async def test_a_plugin_that_fails_stays_temporary_whatever_the_points() -> None:
    class Failing:
        @hookimpl
        def rcpt(self) -> None:
            raise RuntimeError("x")

    assert (await recipient_reply(saying("mail", points(9, "x")), Failing())).startswith("451 4.3.0 ")


async def test_a_recipient_that_nobody_vouches_for_stays_temporary_whatever_the_points() -> None:
    client = await Policy(saying("mail", points(9, "x")), score=Score(None, 3)).connect()
    await client.ehlo()
    await client.mail()
    assert (await client.rcpt()).wire.startswith(b"450 4.7.1 nobody here answers")


@pytest.mark.parametrize("whom", ["relaying", "trusted", "recipient", "postmaster"])
async def test_points_make_no_deferral_permanent_for_whom_they_do_not_count(whom: str) -> None:
    class Trusts:
        @hookimpl
        def rcpt(self, session: Session, recipient: Address) -> None:
            if whom == "recipient":
                assert session.envelope is not None
                session.envelope.trust("abuse desk", recipient)
            elif whom == "trusted":
                session.trust("network")

    order = [saying("mail", points(9, "x")), Trusts(), saying("rcpt", defer("greylisted")), vouching()]
    client = await Policy(*order, score=Score(None, 3)).connect()
    client.session._may_relay = whom == "relaying"
    await client.ehlo()
    await client.mail()
    name = "postmaster" if whom == "postmaster" else "b"
    assert (await client.rcpt(f"{name}@example.org")).wire.startswith(b"450 4.7.1 greylisted [")


async def test_a_deferral_that_disconnects_still_does_when_points_make_it_permanent() -> None:
    order = [saying("mail", points(3, "x")), saying("rcpt", defer("go away", disconnect=True)), vouching()]
    client = await Policy(*order, score=Score(None, 3)).connect()
    await client.ehlo()
    await client.mail()
    reply = await client.rcpt()
    assert (reply.code, reply.close) == (550, True)


async def test_a_delayed_deferral_is_permanent_by_the_points_given_until_rcpt() -> None:
    order = [saying("helo", defer("who are you?")), saying("mail", points(3, "x"))]
    assert (await recipient_reply(*order)).startswith("550 5.7.1 score 3: x (+3) [")
    assert (await recipient_reply(*order, deny_at=4)).startswith("450 4.7.1 who are you? [")


@pytest.mark.parametrize(("phase", "code"), [("data", 554), ("headers", 550), ("message", 550)])
async def test_a_deferral_of_the_message_is_permanent_by_the_points_given_until_then(phase: str, code: int) -> None:
    order = [saying(phase, points(3, "x")), saying(phase, defer("not now")), vouching(), delivering()]
    client = await Policy(*order, score=Score(None, 3)).connect()
    reply = await client.transaction()
    assert reply.wire.startswith(b"%d 5.7.1 score 3: x (+3) [" % code)
    client = await Policy(*order, score=Score(None, 4)).connect()
    assert (await client.transaction()).wire.startswith(b"451 4.7.1 not now [")


async def test_the_record_tells_who_deferred_what_the_points_made_permanent() -> None:
    order = [saying("mail", points(3, "x")), saying("rcpt", defer("greylisted"))]
    client = await Policy(*order, vouching(), score=Score(None, 3)).connect()
    await client.transaction()
    ruling = client.policy.events.records[-1].rulings[-1]
    assert ruling.plugin == "score"
    assert [(said.plugin, str(said)) for said in ruling.said if said.answer] == [("saying1", "defer greylisted")]


# Several recipients.


async def test_of_several_recipients_the_one_with_the_fewest_points_counts() -> None:
    class ByRecipient:
        @hookimpl
        def rcpt(self, recipient: Address) -> Decision | None:
            return points(2, "suspicious") if recipient.local.startswith("two") else None

    order = [ByRecipient(), saying("message", points(2, "virus?")), vouching(), delivering()]
    for recipients, code in ((("two", "none"), 250), (("none", "two"), 250), (("two", "two2"), 550)):
        client = await Policy(*order, score=Score(None, 3)).connect()
        await client.ehlo()
        await client.mail()
        for name in recipients:
            assert (await client.rcpt(f"{name}@example.org")).code == 250
        assert (await client.data()).code == code, recipients


async def test_a_trusted_recipient_is_neither_scored_nor_does_it_exempt_the_others() -> None:
    class ByRecipient:
        @hookimpl
        def rcpt(self, session: Session, recipient: Address) -> Decision | None:
            if recipient.local.startswith("trusted"):
                assert session.envelope is not None
                session.envelope.trust("abuse desk", recipient)
                return None
            return points(1, "suspicious")

    order = [ByRecipient(), saying("message", points(2, "virus?")), vouching(), delivering()]
    codes = {}
    for names in ("b", "trusted", "trusted b", "b trusted", "trusted trusted2"):
        client = await Policy(*order, score=Score(None, 3)).connect()
        await client.ehlo()
        await client.mail()
        for name in names.split():
            assert (await client.rcpt(f"{name}@example.org")).code == 250
        codes[names] = (await client.data()).code
    # The points of the trusted one would be fewer: 2 and not 3.
    assert codes == {"b": 550, "trusted": 250, "trusted b": 550, "b trusted": 550, "trusted trusted2": 250}
