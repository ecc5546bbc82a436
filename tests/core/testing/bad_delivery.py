"""Delivery plugins that do not listen to the next hop, each at another place, and one that does."""

from __future__ import annotations

from typing import Any

from gatepost import (
    Address,
    Decision,
    Envelope,
    Message,
    NextHopAnswer,
    NextHopError,
    NextHops,
    Target,
    accept,
    defer,
    deny,
    hookimpl,
)


class Deaf:
    """Hands over to the next hop, and does not listen to what it says at ``deaf_to``."""

    grants = "delivery"
    deaf_to = ""
    target = "smtp://192.0.2.9:25"

    def __init__(self, next_hop: NextHops) -> None:
        self.next_hop = next_hop.open([Target.parse(self.target)])

    @hookimpl
    async def queue(self, envelope: Envelope, message: Message) -> Any:
        try:
            delivery = await self.next_hop.begin()
        except NextHopError:
            return defer("later")
        try:
            answer = await delivery.mail(str(envelope.sender))
            if not answer.is_positive and self.deaf_to != "everything":
                return self.refuse(answer)
            answers = {str(recipient): await delivery.rcpt(str(recipient)) for recipient in self.wanted(envelope)}
            if delivery.accepted:
                at_dot = await delivery.data(message.blocks())
                if self.deaf_to != "dot":
                    answers |= at_dot
        except NextHopError:
            return defer("later")
        finally:
            await delivery.release()
        if self.deaf_to == "everything" or (self.deaf_to == "rcpt" and delivery.accepted):
            return accept()
        return {recipient: self.judged(answers[str(recipient)]) for recipient in envelope.pending}

    def wanted(self, envelope: Envelope) -> tuple[Address, ...]:
        return envelope.pending

    def judged(self, answer: NextHopAnswer) -> Decision:
        return accept() if answer.is_positive else self.refuse(answer)

    def refuse(self, answer: NextHopAnswer) -> Decision:
        if answer.is_permanent or self.deaf_to == "temporarily":
            return deny(answer.text)
        return defer(answer.text)


class Listening(Deaf):
    """Hears all."""


class ListeningOverLmtp(Deaf):
    """Hears all, also the answers for each recipient after the dot."""

    target = "lmtp://192.0.2.9:24"


class DeafToAll(Deaf):
    deaf_to = "everything"


class DeafToOneOfTwo(Deaf):
    deaf_to = "rcpt"


class DeafToTheDot(Deaf):
    deaf_to = "dot"


class DeafToTheDotOverLmtp(Deaf):
    deaf_to = "dot"
    target = "lmtp://192.0.2.9:24"


class DeafToTemporarily(Deaf):
    deaf_to = "temporarily"


class AnsweringForAll(Deaf):
    """Answers for recipients that another plugin has taken, too."""

    @hookimpl
    async def queue(self, envelope: Envelope, message: Message) -> Any:
        answered = await super().queue(envelope, message)
        known = answered if isinstance(answered, dict) else {}
        return {recipient: known.get(recipient, defer("not now")) for recipient in envelope.recipients}


class DeliveringToAll(Deaf):
    """Hands all recipients to the next hop, also those that another plugin has taken."""

    def wanted(self, envelope: Envelope) -> tuple[Address, ...]:
        return envelope.recipients
