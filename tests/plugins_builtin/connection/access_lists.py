"""Helpers that the tests of access share: a policy with lists, and clients that connect to it."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from gatepost import deny
from gatepost.testing import Policy, instance, saying
from gatepost_builtin.connection.access import Access

DAY = 86_400.0
TODAY = date(2027, 1, 15)  # the day on which the virtual clock starts
Entry = dict[str, Any]


def spam_check(phase: str) -> Any:
    """A check that refuses everybody at ``phase``, and is skipped for who is trusted."""
    return saying(phase, deny("a spam check refuses"), skip_trusted=True)


def policy_of(
    *checks: Any,
    allow: list[Entry] | None = None,
    denied: list[Entry] | None = None,
    files: Any = (),
    bare: bool = False,
    clock: Any = None,
    failures: Literal["fail", "expected"] = "fail",
    **table: Any,
) -> Policy:
    """A policy of access, ``checks``, and who takes mail unless it is ``bare``."""
    access = instance(Access, "access", allow=allow or [], deny=denied or [], files=files, **table)
    return Policy(access, *checks, dns="lenient", bare=bare, clock=clock, failures=failures)


def plugin_of(policy: Policy) -> Any:
    return policy.plugin("access")


async def send(
    policy: Policy,
    client: str = "192.0.2.1",
    sender: str = "a@example.com",
    recipient: str = "b@example.org",
    helo: str = "client.example.com",
) -> int:
    """The code that one transaction of a new connection ends with."""
    made = await policy.connect(client)
    if made.banner.code == 220:
        await made.ehlo(helo)
        return (await made.transaction(sender, recipient)).code
    return made.banner.code
