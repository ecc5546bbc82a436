"""Mark messages for the filters behind us: who brought it, and no marks that the sender made up."""

from gatepost import DNSTemporaryError, Message, Session, hookimpl


class Mark:
    on_error = "pass"

    @hookimpl
    async def message(self, session: Session, message: Message) -> None:
        message.remove("X-Client-Name")
        try:
            name = await session.verified_name()
        except DNSTemporaryError:
            name = None
        message.prepend("X-Client-Name", name or "unknown")
