"""Mark messages for the filters behind us: who brought it, and no marks that the sender made up."""

from gatepost import Message, Session, hookimpl


class Mark:
    on_error = "pass"

    @hookimpl
    async def message(self, session: Session, message: Message) -> None:
        message.remove("X-Client-Name")
        name = await session.verified_name()
        message.prepend("X-Client-Name", name or "unknown")
