"""Remember clients that send QUIT: spam engines seldom do."""

from gatepost import Session, Store, hookimpl

DAY = 86_400.0


class Goodbye:
    def __init__(self, store: Store) -> None:
        self.store = store

    @hookimpl
    async def quit(self, session: Session) -> None:
        await self.store.incr(session.client, ttl=DAY)
