"""Make a client wait before its first message; clients that have sent one are greeted at once."""

from gatepost import Duration, Options, Session, Store, hookimpl


class StrangersOptions(Options):
    wait: Duration = 10.0
    """Time that a stranger waits for the greeting."""
    remember: Duration = 36 * 86_400.0
    """Time for which a client is known after its last message."""


class Strangers:
    Options = StrangersOptions
    on_error = "pass"  # while the store fails, no client has to wait
    skip_trusted = True

    def __init__(self, options: StrangersOptions, store: Store) -> None:
        self.options = options
        self.store = store

    @property
    def longest_wait(self) -> float:
        return self.options.wait

    @hookimpl
    async def connect(self, session: Session) -> None:
        if not await self.store.get(session.client):
            await session.silence(self.options.wait)

    @hookimpl
    async def queued(self, session: Session) -> None:
        await self.store.put(session.client, True, ttl=self.options.remember)
