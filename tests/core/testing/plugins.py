"""Plugins for the tests of the kit: a whole one, as an author writes it, and one for each way to wait."""

from __future__ import annotations

import threading
import time

from gatepost import (
    Address,
    Clock,
    Decision,
    DNSTemporaryError,
    Duration,
    Options,
    Resolver,
    Session,
    Store,
    defer,
    deny,
    hookimpl,
)


class BlocklistOptions(Options):
    domains: frozenset[str] = frozenset({"bad.example"})
    """Sender domains to refuse."""


class Blocklist:
    """Refuses senders whose domain is on a list."""

    Options = BlocklistOptions

    def __init__(self, options: BlocklistOptions) -> None:
        self.options = options

    @hookimpl
    def mail(self, sender: Address) -> Decision | None:
        return deny(f"{sender.domain} is not welcome here") if sender.domain in self.options.domains else None


class WaitingOptions(Options):
    delay: Duration = 30.0
    """How long to wait."""


class Waiting:
    """Waits at HELO, on the clock service."""

    Options = WaitingOptions

    def __init__(self, options: WaitingOptions, clock: Clock) -> None:
        self.options = options
        self.clock = clock

    @hookimpl
    async def helo(self) -> None:
        await self.clock.sleep(self.options.delay)


class Threaded:
    """Works in a thread at HELO, while a time limit runs."""

    @hookimpl(blocking=True)
    def helo(self) -> None:
        time.sleep(0.05)


class Never:
    """Never ends its start, and has no time limit to end it."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    @hookimpl
    async def startup(self) -> None:
        while True:
            await self.clock.sleep(60)


class Listed:
    """Looks its client up in a list at connect, and remembers whom it has seen."""

    def __init__(self, dns: Resolver, store: Store) -> None:
        self.dns = dns
        self.store = store

    @hookimpl
    async def connect(self, session: Session) -> Decision | None:
        await self.store.put(session.client, True, 60.0)
        try:
            listed = await self.dns.query(f"{session.client}.list.example", "A", timeout=10.0)
        except DNSTemporaryError:
            return defer("the list does not answer")
        return deny("listed") if listed else None


class Alive:
    """Notes what is called, and in which thread."""

    def __init__(self) -> None:
        self.called: list[str] = []

    @hookimpl
    async def startup(self) -> None:
        self.called.append("startup")

    @hookimpl(blocking=True)
    def connect(self) -> None:
        self.called.append("connect, elsewhere" if threading.current_thread() is not threading.main_thread() else "")

    @hookimpl
    def shutdown(self) -> None:
        self.called.append("shutdown")
