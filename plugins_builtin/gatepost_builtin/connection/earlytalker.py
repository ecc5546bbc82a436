"""Make a stranger wait before the greeting, and refuse it when it talks first.

**What it does.** After a client has connected, nothing is said for `delay`. A client that sends a byte meanwhile is
refused at once and the connection is closed. A quiet one is greeted after the delay, and is not held again for
`remember`. With `check_data` a client that sends its message behind DATA without waiting for 354 is refused too.

**Why it works.** RFC 5321 §3.1 lets the server speak first, so a mail server waits, minutes if it must (§4.5.3.2.1).
A program that lives on throughput does not: it pours its whole dialogue into the socket, or gives up. No message is
read for this and no name is looked up.

**What it costs.** Each unknown client is late by `delay`, once in `remember`, and holds about 4 KiB while it waits.

**When not to use it.** On a listener for your own users, whose programs should not wait. A monitor or an old device
that talks first must be named in `access`, and `access` must stand before this plugin in the order: trusted and
relaying clients are neither held nor checked.

**On the wire.** Talks before the greeting: 554 5.5.1, or 421 4.7.0 with `action = "defer"`. Bytes behind DATA: always
554 5.5.1. The connection is closed after each of them, and none waits for RCPT: such a client would not hear it.

**The defaults.** Six seconds are what Postfix's postscreen waits: long for a spam engine, nothing for a mail server.
Thirty days keep everybody who writes once a month. What is remembered is an IPv4 address or an IPv6 /64, as one
customer has a whole /64. It saves the wait only: bytes that came before the greeting refuse a remembered client too. A
store that fails costs the memory and not the check.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Literal, TypeGuard

from pydantic import field_validator

from gatepost import Clock, Decision, Duration, Log, Options, Session, Store, StoreError, defer, deny, hookimpl

CLIENT_PATIENCE = 300.0
"""Seconds that a mail server waits for the greeting (RFC 5321 §4.5.3.2.1)."""
AT_HAND = 16_384
"""Clients of which it is at hand when they waited, so that the store need not be asked."""

TOO_EARLY = "you talked before the greeting"
REFUSALS = {
    "deny": deny(TOO_EARLY, status="5.5.1", disconnect=True),
    "defer": defer(TOO_EARLY, status="4.7.0", disconnect=True),
}
BEHIND_DATA = deny("you sent your message before 354", status="5.5.1", disconnect=True)


class EarlytalkerOptions(Options):
    """How long to wait, for whom, and what to tell those who do not."""

    delay: Duration = 6.0
    """How long an unknown client must be silent before it is greeted. Less than 5 minutes."""
    action: Literal["deny", "defer"] = "deny"
    """What a client that talks first is told: "deny" is 554, "defer" is 421, come back later."""
    remember: Duration = 30 * 86_400.0
    """How long a client that waited once is not held again. "0s" holds everybody each time and remembers nothing."""
    check_data: bool = True
    """Refuse a client that sends its message behind DATA without waiting for 354."""

    @field_validator("delay")
    @classmethod
    def _within_patience(cls, delay: float) -> float:
        if delay >= CLIENT_PATIENCE:
            raise ValueError("expected less than 5 minutes: mail servers do not wait longer for a greeting")
        return delay


class Earlytalker:
    """Waits before the greeting, and looks at what stands behind DATA."""

    Options = EarlytalkerOptions
    on_error = "pass"
    skip_trusted = True

    def __init__(self, options: EarlytalkerOptions, store: Store, clock: Clock, log: Log) -> None:
        self._options = options
        self._store = store
        self._clock = clock
        self._log = log
        self._at_hand: OrderedDict[str, float] = OrderedDict()  # of a dict, the oldest would be searched for
        # Who was not held has shown nothing, and is not remembered for it.
        self._remembers = options.delay > 0 and options.remember > 0

    @property
    def longest_wait(self) -> float:
        """Seconds that `connect` may wait on purpose."""
        return self._options.delay

    @hookimpl
    async def connect(self, session: Session) -> Decision | None:
        if self._remembers and (self._is_at_hand(session) or await self._has_waited(session)):
            return None if await session.silence(0) else REFUSALS[self._options.action]
        if not await session.silence(self._options.delay):
            return REFUSALS[self._options.action]
        if self._remembers:
            await self._keep(session)
        return None

    @hookimpl
    def data(self, session: Session) -> Decision | None:
        return BEHIND_DATA if "data" in session.early_talk and self._options.check_data else None

    def _is_at_hand(self, session: Session) -> bool:
        return self._is_remembered(self._at_hand.get(client_key(session)))

    async def _has_waited(self, session: Session) -> bool:
        """Whether the store remembers that the client has waited."""
        key = client_key(session)
        try:
            waited = await self._store.get(key)
        except StoreError as error:
            self._log.warning("memory_unreadable", error=str(error))
            return False
        if not self._is_remembered(waited):
            return False
        self._have_at_hand(key, waited)
        return True

    def _is_remembered(self, waited: object) -> TypeGuard[float]:
        """Whether that is when a client waited, and not too long ago by the options of today."""
        return isinstance(waited, float) and 0 <= self._clock.now() - waited < self._options.remember

    def _have_at_hand(self, key: str, waited: float) -> None:
        """Only of clients that come back: of strangers there may be a flood."""
        if len(self._at_hand) >= AT_HAND:
            self._at_hand.popitem(last=False)
        self._at_hand[key] = waited

    async def _keep(self, session: Session) -> None:
        try:
            await self._store.put(client_key(session), self._clock.now(), self._options.remember)
        except StoreError as error:
            self._log.warning("memory_unwritable", error=str(error))


def client_key(session: Session) -> str:
    """Under which a client is remembered: its IPv4 address, or the /64 of its IPv6 address."""
    if ":" not in session.client:
        return session.client
    return f"{ipaddress.IPv6Address(int(session.ip) >> 64 << 64)}/64"
