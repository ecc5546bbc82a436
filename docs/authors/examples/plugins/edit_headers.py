"""Add the client's name to each message for the filters behind us, and remove any forged one."""

from gatepost import DNSTemporaryError, Message, Session, hookimpl


class Mark:
    on_error = "pass"

    @hookimpl
    async def message(self, session: Session, message: Message) -> None:
        try:
            name = await session.verified_name()
        except DNSTemporaryError:
            name = None
        message.replace("X-Client-Name", name or "unknown")
