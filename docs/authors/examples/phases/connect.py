"""Refuse clients that talk within two seconds, before they are greeted."""

from gatepost import Decision, Session, deny, hookimpl


class Patience:
    longest_wait = 2.0  # seconds that the plugin waits on purpose

    @hookimpl
    async def connect(self, session: Session) -> Decision | None:
        if await session.silence(2.0):
            return None
        return deny("wait until you are greeted")
