"""Refuse bounces to several recipients: a bounce goes to the sender of a message, and a message has only one."""

from gatepost import Decision, Envelope, deny, hookimpl


class OneBounce:
    @hookimpl
    def data(self, envelope: Envelope) -> Decision | None:
        if envelope.sender.is_null and len(envelope.recipients) > 1:
            return deny("a bounce has one recipient")
        return None
