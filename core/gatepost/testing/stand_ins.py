"""Plugins that stand in for others in a test: one vouches, one delivers, and one has a fixed answer.

Without the first two a policy accepts no mail, so the kit adds them where no plugin of the test does their work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gatepost.decisions import Decision, accept, defer, deny
from gatepost.errors import NextHopError
from gatepost.gate import Instance, Mode
from gatepost.hookspecs import hookimpl
from gatepost.message import Message
from gatepost.plugins import Services, declaration_of
from gatepost.services.next_hop import Answer, NextHops, Target
from gatepost.session import Envelope


def saying(phase: str, answer: Any, **declared: Any) -> Any:
    """Return a plugin object that answers ``answer`` at ``phase``, or raises it if it is an exception.

    ``declared`` are attributes of its class, such as ``grants``, ``skip_trusted`` or ``on_error``.
    """

    def hook(self: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return type("Saying", (), {phase: hookimpl(hook), **declared})()


def stand_ins(instances: Iterable[Instance], services: Services) -> list[Instance]:
    """Return stand-ins that vouch for recipients and deliver, unless ``instances`` have such plugins."""
    # Their names have parentheses, so that no configured plugin can have the same name.
    granted = {grant for each in instances if each.mode is not Mode.OFF for grant in each.declaration.grants}
    missing = []
    if "recipients" not in granted:
        missing.append(Instance("(vouching)", Vouching(), declaration_of(Vouching)))
    if "delivery" not in granted:
        missing.append(Instance("(delivering)", Delivering(services.next_hop), declaration_of(Delivering)))
    return missing


class Vouching:
    """Vouches for all recipients."""

    grants = "recipients"

    @hookimpl
    def rcpt(self) -> Decision:
        """Accept the recipient."""
        return accept()


class Delivering:
    """Delivers all messages to the next hop of the test, and passes on its answers."""

    grants = "delivery"

    def __init__(self, next_hop: NextHops) -> None:
        self._next_hop = next_hop.open([Target("smtp", "next-hop.example", 25)])

    @hookimpl
    async def queue(self, envelope: Envelope, message: Message) -> Any:
        """Deliver the message."""
        try:
            return await self._deliver(envelope, message)
        except NextHopError:
            return defer("the mail server behind this one cannot be used", 451, "4.4.1")

    async def _deliver(self, envelope: Envelope, message: Message) -> Any:
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
