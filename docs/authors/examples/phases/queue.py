"""Accept and discard mail to spam traps. Other recipients are left to the next plugin that delivers."""

from gatepost import Envelope, QueueAnswer, accept, hookimpl


class Traps:
    grants = "delivery"

    @hookimpl
    def queue(self, envelope: Envelope) -> QueueAnswer:
        trapped = [recipient for recipient in envelope.pending if recipient.local.startswith("trap-")]
        return {recipient: accept("thank you") for recipient in trapped}
