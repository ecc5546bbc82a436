"""Plugins that are wrong in one way each, and one that is right in all of them."""

# ruff: noqa: ASYNC251

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import Any

from gatepost import (
    Address,
    Decision,
    DNSError,
    DNSTemporaryError,
    Envelope,
    Message,
    NextHops,
    Options,
    Resolver,
    Secret,
    Session,
    Store,
    StoreError,
    Target,
    accept,
    deny,
    hookimpl,
)


class GoodOptions(Options):
    domains: frozenset[str] = frozenset({"bad.example"})
    """Sender domains to refuse."""
    key: Secret | None = None
    """For the list."""


class Good:
    """Uses all there is, as it should be used."""

    Options = GoodOptions

    def __init__(self, options: GoodOptions, dns: Resolver, store: Store) -> None:
        self.options = options
        self.dns = dns
        self.store = store

    @hookimpl
    def connect(self, session: Session) -> None:
        session.notes(self)["name"] = session.later(self.dns.reverse(session.client))

    @hookimpl(ahead=True)
    async def helo(self, session: Session, hostname: str) -> Decision | None:
        return None if await session.verified_name() else deny("no name")

    @hookimpl
    async def mail(self, session: Session, sender: Address) -> Decision | None:
        with contextlib.suppress(DNSTemporaryError):
            await session.notes(self)["name"]
        if sender.domain in self.options.domains:
            return deny("not welcome")
        return None

    @hookimpl
    async def rcpt(self, session: Session) -> Decision | None:
        return deny("too many") if await self.store.incr(session.client, ttl=3600) > 1000 else None

    @hookimpl(blocking=True)
    def message(self, message: Message) -> Decision | None:
        with message.open() as file:
            return deny("spam") if b"spam" in file.read() else None


class Stalling:
    @hookimpl
    def mail(self) -> None:
        time.sleep(0.2)


class StallingAsync:
    @hookimpl
    async def mail(self) -> None:
        await asyncio.sleep(0)
        time.sleep(0.2)


class Swallowing:
    def __init__(self, dns: Resolver) -> None:
        self.dns = dns

    @hookimpl
    async def mail(self, sender: Address) -> Decision | None:
        with contextlib.suppress(asyncio.CancelledError, DNSError):
            await self.dns.query("example.com", "A")
        return None


class NeverEnding:
    def __init__(self, dns: Resolver) -> None:
        self.dns = dns

    @hookimpl
    async def mail(self, sender: Address) -> Decision | None:
        while True:
            try:
                await self.dns.query("example.com", "A")
            except asyncio.CancelledError:
                continue
            return None


class SwallowingAhead:
    def __init__(self, dns: Resolver) -> None:
        self.dns = dns

    @hookimpl(ahead=True)
    async def rcpt(self) -> Decision | None:
        with contextlib.suppress(BaseException):
            await self.dns.query("example.com", "A")
        return None


class LeavingATask:
    def __init__(self) -> None:
        self.tasks: set[asyncio.Task[None]] = set()

    @hookimpl
    async def mail(self) -> None:
        self.tasks.add(asyncio.create_task(self.work()))

    async def work(self) -> None:
        await asyncio.Event().wait()


class LeavingATaskWhenCancelled:
    def __init__(self, dns: Resolver) -> None:
        self.dns = dns

    @hookimpl
    async def mail(self) -> None:
        task = asyncio.create_task(self.work())
        await asyncio.sleep(0)
        await self.dns.query("example.com", "A")
        task.cancel()

    async def work(self) -> None:
        await asyncio.Event().wait()


class KeepingASession:
    def __init__(self) -> None:
        self.last: Any = None

    @hookimpl
    def connect(self, session: Session) -> None:
        self.last = [{"session": session}]


class KeepingAnEnvelopeInItsClass:
    seen: list[Any] = []  # noqa: RUF012, it is what is wrong with it

    @hookimpl
    def mail(self, envelope: Envelope) -> None:
        self.seen.append(lambda: envelope)


class MixingUpClients:
    def __init__(self) -> None:
        self.sender: Address | None = None

    @hookimpl
    def mail(self, sender: Address) -> None:
        self.sender = self.sender or sender

    @hookimpl
    def rcpt(self) -> Decision | None:
        return deny("you again") if str(self.sender) == "a@example.com" else None


class RefusingAtServfail:
    def __init__(self, dns: Resolver) -> None:
        self.dns = dns

    @hookimpl
    async def mail(self, sender: Address) -> Decision | None:
        try:
            found = await self.dns.query(sender.domain or "example.com", "MX")
        except DNSTemporaryError:
            found = ()
        return None if found else deny("no mail server")


class RefusingAtServfailOfAList:
    def __init__(self, dns: Resolver) -> None:
        self.dns = dns

    @hookimpl
    async def rcpt(self) -> Decision | None:
        try:
            return deny("listed") if await self.dns.query("1.2.0.192.bl.example", "A") else None
        except DNSError:
            return deny("listed?")


class AcceptingAtDNSErrors:
    def __init__(self, dns: Resolver) -> None:
        self.dns = dns

    @hookimpl
    async def connect(self, session: Session) -> Decision | None:
        try:
            await self.dns.reverse(session.client)
        except DNSError:
            return accept()
        return None


class RefusingWithoutStore:
    def __init__(self, store: Store) -> None:
        self.store = store

    @hookimpl
    async def rcpt(self) -> Decision | None:
        try:
            await self.store.get("x")
        except StoreError:
            return deny("no memory")
        return None


class TakingWithoutNextHop:
    grants = "delivery"

    def __init__(self, next_hop: NextHops) -> None:
        self.next_hop = next_hop.open([Target.parse("smtp://192.0.2.9:25")])

    @hookimpl
    async def queue(self, envelope: Envelope, message: Message) -> Decision:
        with contextlib.suppress(Exception):
            delivery = await self.next_hop.begin()
            await delivery.mail(str(envelope.sender))
            for recipient in envelope.pending:
                await delivery.rcpt(str(recipient))
            await delivery.data(message.blocks())
            await delivery.release()
        return accept()


class NeverAwaiting:
    """Takes a coroutine for its result, which is always true."""

    def __init__(self, dns: Resolver) -> None:
        self.dns = dns

    @hookimpl
    async def mail(self) -> Decision | None:
        found = self.dns.query("list.example", "A")
        return None if found else deny("no list")


class SilenceTooLate:
    """Waits for silence when the greeting has long been sent."""

    @hookimpl
    async def helo(self, session: Session) -> None:
        await session.silence(6)


class UndocumentedOptions(Options):
    known: int = 1
    """A documented option."""
    unknown: int = 2


class Undocumented:
    Options = UndocumentedOptions

    @hookimpl
    def mail(self) -> None: ...


class TokenOptions(Options):
    token: Secret
    """For the service."""


class ShowingASecret:
    Options = TokenOptions

    def __init__(self, options: TokenOptions) -> None:
        self.token = options.token.reveal()

    def __repr__(self) -> str:
        return f"ShowingASecret({self.token!r})"

    @hookimpl
    def mail(self) -> None: ...


class PasswordOptions(Options):
    password: str = ""
    """For the service."""


class PlainPassword:
    Options = PasswordOptions

    @hookimpl
    def mail(self) -> None: ...


class ReturningTrue:
    @hookimpl
    def mail(self) -> Any:
        return True


class AnnotatedWrongly:
    @hookimpl
    def mail(self) -> bool:  # type: ignore[type-var]
        return None  # type: ignore[return-value]


class UnknownHook:
    @hookimpl
    def mial(self) -> None: ...


class MisspeltDeclaration:
    skip_trused = True

    @hookimpl
    def mail(self) -> None: ...


class WrongDeclaration:
    longest_wait = "soon"

    @hookimpl
    def connect(self) -> None: ...


class FailingDeclaration:
    @property
    def longest_wait(self) -> float:
        return 1 / 0

    @hookimpl
    def connect(self) -> None: ...


class KeywordOnly:
    @hookimpl
    def mail(self, *, sender: Address) -> None: ...


class DyingAtEightBit:
    @hookimpl
    def message(self, message: Message) -> None:
        with message.open() as file:
            file.read().decode("ascii")


class Exiting:
    @hookimpl
    def rcpt(self) -> None:
        sys.exit("enough")


class WritingAhead:
    @hookimpl(ahead=True)
    async def helo(self, session: Session) -> None:
        session.trust("it looks nice")


class ReachingIntoTheCore:
    """Adds a recipient behind the back of the core."""

    @hookimpl
    def rcpt(self, envelope: Envelope, recipient: Address) -> None:
        envelope._recipients = (*envelope.recipients, recipient)


class ReachingIntoTheCoreAfterAWait:
    """Lets a client relay, once it has been waited for."""

    @hookimpl
    async def helo(self, session: Session) -> None:
        await asyncio.sleep(0)
        session._may_relay = True


class Assigning:
    """Sets an attribute of ``Session`` or ``Envelope`` that is only for reading."""

    @hookimpl
    def rcpt(self, envelope: Envelope, recipient: Address) -> None:
        envelope.recipients = (*envelope.recipients, recipient)  # type: ignore[misc]


class AcceptingWithoutTheGrant:
    @hookimpl
    def rcpt(self) -> Decision:
        return accept()


class GrantingNothing:
    grants = "delivery"

    @hookimpl
    def rcpt(self) -> None: ...


class TakingItsTime:
    def __init__(self, clock: Any) -> None:
        self.clock = clock

    @hookimpl
    async def mail(self) -> None:
        await self.clock.sleep(45)


class FailingToStart:
    @hookimpl
    def startup(self) -> None:
        raise RuntimeError("no such file")


class FailingRepr(ShowingASecret):
    def __repr__(self) -> str:
        return str(1 / 0)
