"""Let a client wait before its first message; those that have brought one are greeted at once."""

from gatepost import Duration, Options, Session, Store, hookimpl


class StrangersOptions(Options):
    wait: Duration = 10.0
    """How long a stranger waits for the greeting."""
    remember: Duration = 36 * 86_400.0
    """How long a client is known after its last message."""


class Strangers:
    Options = StrangersOptions
    on_error = "pass"  # a store that fails makes nobody wait
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
