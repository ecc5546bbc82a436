"""Refuse messages that do not state their author or date (RFC 5322, section 3.6)."""

from gatepost import Decision, Message, deny, hookimpl


class Complete:
    skip_trusted = True

    @hookimpl
    def headers(self, message: Message) -> Decision | None:
        for name in ("From", "Date"):
            if name not in message.headers:
                return deny(f"there is no {name} in the header", status="5.6.0")
        return None
