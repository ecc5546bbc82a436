"""Plugins that stand in for others in a test: who vouches, who delivers, and who just says one thing.

A policy without them takes no mail, so the kit adds those that a test has not brought itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gatepost.decisions import Decision, accept, defer, deny
from gatepost.errors import NextHopError
from gatepost.gate import Instance, Mode
from gatepost.hookspecs import hookimpl
from gatepost.message import Message
from gatepost.plugins import Services
from gatepost.services.next_hop import Answer, NextHops, Target
from gatepost.session import Envelope


def saying(phase: str, answer: Any, **declared: Any) -> Any:
    """A plugin object that answers ``answer`` at ``phase``, or raises it if it is an exception.

    ``declared`` are attributes of its class, such as ``grants``, ``skip_trusted`` or ``on_error``.
    """

    def hook(self: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return type("Saying", (), {phase: hookimpl(hook), **declared})()


def stand_ins(instances: Iterable[Instance], services: Services) -> list[Instance]:
    """Who vouches for recipients and who delivers, where none of ``instances`` can."""
    granted = {grant for each in instances if each.mode is not Mode.OFF for grant in each.grants}
    found = []
    if "recipients" not in granted:
        found.append(Instance("(vouching)", Vouching(), grants=frozenset({"recipients"})))
    if "delivery" not in granted:
        found.append(Instance("(delivering)", Delivering(services.next_hop), grants=frozenset({"delivery"})))
    return found


class Vouching:
    """Says of every recipient that it is ours."""

    grants = "recipients"

    @hookimpl
    def rcpt(self) -> Decision:
        """Vouch."""
        return accept()


class Delivering:
    """Hands every message to the next hop of the test, and says what that says."""

    grants = "delivery"

    def __init__(self, next_hop: NextHops) -> None:
        self._next_hop = next_hop.open([Target("smtp", "next-hop.example", 25)])

    @hookimpl
    async def queue(self, envelope: Envelope, message: Message) -> Any:
        """Hand it over."""
        try:
            return await self._hand_over(envelope, message)
        except NextHopError as error:
            return defer(str(error), 451, "4.4.1")

    async def _hand_over(self, envelope: Envelope, message: Message) -> Any:
        delivery = await self._next_hop.begin()
        try:
            sender = await delivery.mail(str(envelope.sender), body8bit=message.eight_bit, smtputf8=envelope.smtputf8)
            if not sender.is_positive:
                return _decision(sender)
            answers = {str(recipient): await delivery.rcpt(str(recipient)) for recipient in envelope.pending}
            if delivery.accepted:
                answers |= await delivery.data(message.blocks())
            return {recipient: _decision(answers[str(recipient)]) for recipient in envelope.pending}
        finally:
            await delivery.release()


def _decision(answer: Answer) -> Decision:
    if answer.is_positive:
        return accept()
    refuse = deny if answer.is_permanent else defer
    return refuse(answer.text, answer.code, answer.status)
