"""Make unknown clients wait before the greeting, and refuse those that talk first.

**What it does.** After a client has connected, gatepost says nothing for `delay`. A client that sends a byte in that
time is refused at once and disconnected. A client that stays silent is greeted after the delay, and is not held again
for `remember`. With `check_data` a client that sends its message after DATA without waiting for 354 is refused too.

**Why it works.** According to RFC 5321 §3.1 the server speaks first, so a mail server waits, for minutes if need be
(§4.5.3.2.1). A program that depends on throughput does not: it sends its whole dialogue at once, or gives up. The
check reads no message and looks up no name.

**What it costs.** Each unknown client is delayed by `delay` once in `remember`, and takes about 4 KiB while it waits.

**When not to use it.** On a listener for your own users, whose programs should not have to wait. List a monitor or an
old device that talks first in `access`, and put `access` before this plugin: trusted and relaying clients are neither
held nor checked.

**On the wire.** Bytes before the greeting: 554 5.5.1, or 421 4.7.0 with `action = "defer"`. Bytes after DATA: always
554 5.5.1. The connection is closed after each of these replies, which are not postponed to RCPT, as such a client does
not read replies.

**The defaults.** Six seconds is the delay of Postfix's postscreen: long for a spam program, nothing for a mail server.
Thirty days cover everybody who writes once a month. An IPv4 address or an IPv6 /64 is remembered, because one customer
usually has a whole /64. Remembered clients only skip the wait: they are still refused for bytes before the greeting. If
the store fails, clients are held each time, and the checks go on.

**In the log.** `memory_unreadable` and `memory_unwritable` (warnings): the store failed, so a client that has waited
before was held again, or will be.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Literal, TypeGuard

from pydantic import field_validator

from gatepost import Clock, Decision, Duration, Log, Options, Session, Store, StoreError, defer, deny, hookimpl

CLIENT_PATIENCE = 300.0
"""Seconds for which a mail server waits for the greeting (RFC 5321 §4.5.3.2.1)."""
CACHE_SIZE = 16_384
"""Size of the in-process cache of clients that have waited."""

TOO_EARLY = "you talked before the greeting"
REFUSALS = {
    "deny": deny(TOO_EARLY, status="5.5.1", disconnect=True),
    "defer": defer(TOO_EARLY, status="4.7.0", disconnect=True),
}
BEHIND_DATA = deny("you sent your message before 354", status="5.5.1", disconnect=True)


class EarlytalkerOptions(Options):
    """How long clients have to wait, and the reply to those that do not."""

    delay: Duration = 6.0
    """How long an unknown client must be silent before it is greeted: less than 5 minutes."""
    action: Literal["deny", "defer"] = "deny"
    """The reply to a client that talks first: "deny" is 554, "defer" is 421, try again later."""
    remember: Duration = 30 * 86_400.0
    """How long a client that has waited is not held again. With "0s" all clients are held each time."""
    check_data: bool = True
    """Refuse a client that sends its message after DATA without waiting for 354."""

    @field_validator("delay")
    @classmethod
    def _within_patience(cls, delay: float) -> float:
        if delay >= CLIENT_PATIENCE:
            raise ValueError("expected less than 5 minutes: mail servers do not wait longer for a greeting")
        return delay


class Earlytalker:
    """Waits before the greeting, and looks at the octets after DATA."""

    Options = EarlytalkerOptions
    on_error = "pass"
    skip_trusted = True

    def __init__(self, options: EarlytalkerOptions, store: Store, clock: Clock, log: Log) -> None:
        self._options = options
        self._store = store
        self._clock = clock
        self._log = log
        self._cache: OrderedDict[str, float] = OrderedDict()  # finding the oldest key of a dict takes a search
        # A client that was not held has not proved anything worth remembering.
        self._remembers = options.delay > 0 and options.remember > 0

    @property
    def longest_wait(self) -> float:
        """The longest deliberate wait of `connect`, in seconds."""
        return self._options.delay

    @hookimpl
    async def connect(self, session: Session) -> Decision | None:
        if self._remembers and (
            self._is_remembered(self._cache.get(client_key(session))) or await self._has_waited(session)
        ):
            return None if await session.silence(0) else REFUSALS[self._options.action]
        if not await session.silence(self._options.delay):
            return REFUSALS[self._options.action]
        if self._remembers:
            try:
                await self._store.put(client_key(session), self._clock.now(), self._options.remember)
            except StoreError as error:
                self._log.warning("memory_unwritable", error=str(error))
        return None

    @hookimpl
    def data(self, session: Session) -> Decision | None:
        return BEHIND_DATA if "data" in session.early_talk and self._options.check_data else None

    async def _has_waited(self, session: Session) -> bool:
        """Return True when the store remembers the client; if so, cache that."""
        key = client_key(session)
        try:
            waited = await self._store.get(key)
        except StoreError as error:
            self._log.warning("memory_unreadable", error=str(error))
            return False
        if not self._is_remembered(waited):
            return False
        # Only clients that come back are cached, as there may be a flood of new ones.
        if len(self._cache) >= CACHE_SIZE:
            self._cache.popitem(last=False)
        self._cache[key] = waited
        return True

    def _is_remembered(self, waited: object) -> TypeGuard[float]:
        """Return True when this is the time of a wait that still counts by the present options."""
        return isinstance(waited, float) and 0 <= self._clock.now() - waited < self._options.remember


def client_key(session: Session) -> str:
    """Return the key of a client in the store: its IPv4 address, or the /64 of its IPv6 address.

    The limit on connections counts clients in the same way, but exempts loopback.
    """
    if ":" not in session.client:
        return session.client
    return f"{ipaddress.IPv6Address(int(session.ip) >> 64 << 64)}/64"
