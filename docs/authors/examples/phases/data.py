"""Refuse bounces for several recipients: a message has one sender, so there is none that bounces to two."""

from gatepost import Decision, Envelope, deny, hookimpl


class OneBounce:
    @hookimpl
    def data(self, envelope: Envelope) -> Decision | None:
        if envelope.sender.is_null and len(envelope.recipients) > 1:
            return deny("a bounce has one recipient")
        return None
