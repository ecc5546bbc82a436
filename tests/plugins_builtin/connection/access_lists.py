"""What the tests of access share: a policy with lists, and clients that come to it."""

from __future__ import annotations

from datetime import date
from typing import Any

from gatepost import deny
from gatepost.plugins import make_gate
from gatepost_builtin.connection.access import Access, AccessOptions
from tests.policy import Policy, delivering, instance, saying, vouching

DAY = 86_400.0
TODAY = date(2027, 1, 15)  # the day on which the virtual clock starts
Entry = dict[str, Any]


class Lines:
    """A log that keeps what it was given."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def note(self, event: str, **facts: object) -> None:
        self.lines.append((event, facts))

    info = warning = error = note

    def named(self, event: str) -> list[dict[str, object]]:
        return [facts for name, facts in self.lines if name == event]


def spam_check(phase: str) -> Any:
    """A check that refuses everybody at ``phase``, and is skipped for who is trusted."""
    return saying(phase, deny("a spam check refuses"), skip_trusted=True)


def policy_of(
    *checks: Any, allow: list[Entry] | None = None, denied: list[Entry] | None = None, files: Any = ()
) -> Policy:
    """A policy of access, ``checks``, and who takes mail."""
    policy = Policy()
    options = AccessOptions.model_validate({"allow": allow or [], "deny": denied or [], "files": files})
    plugin = Access(options, policy.clock, Lines())
    rest = [instance(other, f"other{number}") for number, other in enumerate((*checks, vouching(), delivering()))]
    policy.gate = make_gate([instance(plugin, "access"), *rest], policy.clock, policy.events)
    return policy


def plugin_of(policy: Policy) -> Any:
    return policy.gate.instances[0].plugin


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
