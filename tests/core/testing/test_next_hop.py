"""The recorded next hop: what it is given, what it answers, and every way in which it can fail."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost import NextHop, NextHopRefusedError, NextHops, NextHopUnreachableError, Target
from gatepost.testing import ScriptedNextHops, TestClock
from gatepost.testing.clock import wait_for
from tests.core.services.next_hop.delivering import CONTENT, FINE, addressed, deliver

SMTP, LMTP = "smtp://mail.example:25", "lmtp:///run/lmtp"


@pytest.fixture
def service() -> ScriptedNextHops:
    return ScriptedNextHops(TestClock(), "gate.example")


def opened(service: NextHops, *targets: str, **options: Any) -> NextHop:
    return service.open([Target.parse(target) for target in targets or (SMTP,)], **options)


async def test_a_message_is_kept_as_it_was_meant(service: ScriptedNextHops) -> None:
    assert await deliver(opened(service)) == {"b@y.example": FINE}
    (message,) = service.messages
    assert (message.sender, message.recipients, message.content) == ("a@x.example", ("b@y.example",), CONTENT)
    assert message.target == SMTP
    assert service.connections[0].commands[0] == "EHLO gate.example"
    assert service.connections[0].verbs == ["EHLO", "MAIL", "RCPT", "DATA"]


async def test_parameters_are_kept(service: ScriptedNextHops) -> None:
    service.extensions += ["SIZE 1000", "SMTPUTF8"]
    delivery = await opened(service).begin()
    assert delivery.size_limit == 1000
    await delivery.mail("ä@x.example", size=10, body8bit=True, smtputf8=True)
    await delivery.rcpt("b@y.example")
    await delivery.data([b""])
    assert service.messages[0].sender == "ä@x.example"
    assert service.messages[0].parameters == "SIZE=10 BODY=8BITMIME SMTPUTF8"


async def test_a_refused_recipient_does_not_get_it(service: ScriptedNextHops) -> None:
    service.answer("rcpt", "no@y.example", 550, "5.1.1 nobody")
    delivery = await addressed(opened(service), "no@y.example", "b@y.example")
    answers = await delivery.data([CONTENT])
    assert list(answers) == ["b@y.example"] and service.messages[0].recipients == ("b@y.example",)


async def test_an_answer_for_some_times_and_one_for_good(service: ScriptedNextHops) -> None:
    service.answer(".", "", 554, "5.7.1 never")
    service.answer(".", "", 452, "4.2.2 full", times=1)
    service.answer(".", "", 451, "4.3.0 busy", times=2)
    next_hop = opened(service)
    codes = [(await deliver(next_hop))["b@y.example"].code for _ in range(5)]
    assert codes == [452, 451, 451, 554, 554]


async def test_lmtp_answers_for_each_recipient(service: ScriptedNextHops) -> None:
    service.answer(".", "c@y.example", 452, "4.2.2 full")
    delivery = await addressed(opened(service, LMTP), "b@y.example", "c@y.example")
    assert {to: answer.code for to, answer in (await delivery.data([CONTENT])).items()} == {
        "b@y.example": 250,
        "c@y.example": 452,
    }
    assert service.connections[0].commands[0] == "LHLO gate.example"


async def test_several_next_hops_answer_each_for_itself(service: ScriptedNextHops) -> None:
    service.at("smtp://first.example").answer("connect", "", 421, "busy")
    second = service.at("smtp://second.example:25")
    await deliver(opened(service, "smtp://first.example:25", "smtp://second.example"))
    assert len(second.messages) == 1 and not service.messages


@pytest.mark.parametrize("command", ["connect", "ehlo"])
async def test_nobody_is_there(service: ScriptedNextHops, command: str) -> None:
    service.drop(command)
    with pytest.raises(NextHopUnreachableError, match="nobody answers"):
        await opened(service).begin()


async def test_who_does_not_answer_costs_the_time_limit(service: ScriptedNextHops) -> None:
    service.hang("connect", times=1)
    service.hang("mail")
    next_hop = opened(service, connect_timeout=7.0, command_timeout=20.0)
    clock = service._clock
    with pytest.raises(NextHopUnreachableError):
        await wait_for(next_hop.begin(), clock)
    assert clock.monotonic() == 7.0
    delivery = await next_hop.begin()
    with pytest.raises(NextHopUnreachableError, match="no answer in time"):
        await wait_for(delivery.mail("a@x.example"), clock)
    assert clock.monotonic() == 27.0


async def test_a_refusal_of_us_is_told_from_one_of_the_mail(service: ScriptedNextHops) -> None:
    service.answer("connect", "", 554, "5.7.1 not you", times=1)
    service.answer("mail", "", 530, "5.7.0 log in")
    with pytest.raises(NextHopRefusedError, match=r"554 5\.7\.1 not you"):
        await opened(service).begin()
    with pytest.raises(NextHopRefusedError, match="log in"):
        await (await opened(service).begin()).mail("a@x.example")


async def test_tls_that_is_required_must_be_offered(service: ScriptedNextHops) -> None:
    with pytest.raises(NextHopRefusedError, match="TLS is required"):
        await opened(service, tls="required").begin()
    service.extensions.append("STARTTLS")
    assert (await (await opened(service, tls="required").begin()).mail("a@x.example")).is_positive


@pytest.mark.parametrize(("command", "sent"), [("data", False), (".", True)])
async def test_a_loss_says_whether_the_dot_was_sent(service: ScriptedNextHops, command: str, sent: bool) -> None:
    service.drop(command)
    delivery = await addressed(opened(service))
    with pytest.raises(NextHopUnreachableError):
        await delivery.data([CONTENT])
    assert delivery.dot_sent is sent and len(service.messages) == sent
    assert service.connections[0].is_over


async def test_connections_are_used_again_and_can_be_dropped(service: ScriptedNextHops) -> None:
    next_hop = opened(service)
    await deliver(next_hop)
    await deliver(next_hop)
    assert len(service.connections) == 1
    service.drop_connections()
    await deliver(next_hop)
    assert len(service.connections) == 2
    await service.close()
    assert service.connections[1].verbs[-1] == "QUIT" and service.connections[1].is_over
