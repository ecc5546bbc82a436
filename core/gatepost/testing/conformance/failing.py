"""Checks of a plugin's decisions when services fail: these must not cause an accept or a permanent refusal.

The decisions in a world where a service fails are compared with those in worlds where it works. A decision that is the
same in all of them does not depend on the service.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from gatepost.decisions import Action
from gatepost.testing.conformance.probe import Probe
from gatepost.testing.conformance.sessions import witness
from gatepost.testing.conformance.subject import ANSWERING, EMPTY, RECORDS, UNKNOWN, NotApplicableError, Subject, World
from gatepost.testing.next_hop import Peer
from gatepost.testing.policy import Policy

FAILING = World("a world in which DNS fails", {}, UNKNOWN)
SILENT = replace(FAILING, name="a world in which DNS does not answer", delay=float("inf"))
FINAL = {Action.ACCEPT: "accepts", Action.DENY: "refuses permanently"}


async def dns(subject: Subject) -> list[str]:
    """A failure of DNS never leads to an accept or a permanent refusal."""
    subject.fresh()
    sound = [await witness(subject, world=world) for world in (ANSWERING, EMPTY)]
    kinds = sorted({kind for probe in sound for _, kind in probe.policy.dns.asked})
    if not kinds:
        raise NotApplicableError("it makes no DNS queries")
    found = [line for world in (FAILING, SILENT) for line in await _compared(subject, world, sound)]
    for kind in kinds:
        without = replace(ANSWERING, name=f"a world without {kind} records", records={**RECORDS, kind: ()})
        failing = replace(ANSWERING, name=f"a world in which {kind} records fail", records={**RECORDS, kind: UNKNOWN})
        found += await _compared(subject, failing, [sound[0], await witness(subject, world=without)])
    return list(dict.fromkeys(found))


async def store(subject: Subject) -> list[str]:
    """A failure of the store never leads to an accept or a permanent refusal."""
    subject.fresh()
    if not _wants(subject, "store"):
        raise NotApplicableError("it does not use the store")
    found: list[str] = []
    for world in (ANSWERING, EMPTY):
        broken = replace(world, name="a world in which the store fails", begin=_break_store)
        found += await _compared(subject, broken, [await witness(subject, world=world)])
    return list(dict.fromkeys(found))


def _break_store(policy: Policy) -> None:
    policy.store.broken.update(policy.loaded.instances)


async def next_hop(subject: Subject) -> list[str]:
    """A failure of the next hop never leads to an accept or a permanent refusal, and no refusal of it to an accept."""
    subject.fresh()
    sound = await witness(subject)
    if not sound.policy.next_hop.connections or not _wants(subject, "next_hop"):
        raise NotApplicableError("it does not use a next hop")
    found: list[str] = []
    for what, begin in _FAULTS.items():
        world = replace(ANSWERING, name=f"a world in which the next hop {what}", begin=begin)
        found += await _compared(subject, world, [sound], may_accept=False)
    speaks_lmtp = any(each.target.startswith("lmtp") for each in sound.policy.next_hop.connections)
    for refusal in _REFUSALS:
        if speaks_lmtp or not refusal.only_lmtp:
            found += await _refused(subject, refusal, sound)
    return found


def _without_connections(policy: Policy) -> Peer:
    """Return the next hop, to which no connection is open any more."""
    policy.next_hop.drop_connections()
    return policy.next_hop


_FAULTS: dict[str, Callable[[Policy], None]] = {
    "is unreachable": lambda policy: _without_connections(policy).drop("connect"),
    "does not answer": lambda policy: _without_connections(policy).hang("connect"),
    "refuses us": lambda policy: _without_connections(policy).answer("connect", "", 554, "5.7.1 go away"),
    "disconnects at MAIL": lambda policy: policy.next_hop.drop("mail"),
    "disconnects after the final dot": lambda policy: policy.next_hop.drop("."),
}
"""Next hops that say nothing about the message: neither an accept nor a permanent refusal may follow."""


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A next hop that refuses the message: for a recipient that it did not take, an accept loses mail."""

    command: str
    code: int
    at: str
    recipient: str = ""
    """The recipient that it refuses; "" for all."""
    only_lmtp: bool = False

    @property
    def is_permanent(self) -> bool:
        """True when a permanent refusal may follow."""
        return self.code >= 500

    def begin(self, policy: Policy) -> None:
        """Make the next hop refuse."""
        policy.next_hop.answer(self.command, self.recipient, self.code, f"{self.code // 100}.3.0 not this one")

    @property
    def world(self) -> World:
        """The world in which it does."""
        whom = f"refuses {self.recipient or 'all'} {'permanently' if self.is_permanent else 'temporarily'} at {self.at}"
        return replace(ANSWERING, name=f"a world in which the next hop {whom}", begin=self.begin)


_ONE_OF_TWO = "c@example.org"
_REFUSALS = (
    *(_Refusal("mail", code, "MAIL") for code in (451, 550)),
    *(_Refusal("rcpt", code, "RCPT") for code in (450, 550)),
    *(_Refusal("rcpt", code, "RCPT", _ONE_OF_TWO) for code in (450, 550)),
    *(_Refusal("data", code, "DATA") for code in (451, 554)),
    *(_Refusal(".", code, "the final dot") for code in (451, 554)),
    *(_Refusal(".", code, "the final dot", _ONE_OF_TWO, only_lmtp=True) for code in (451, 554)),
)


async def _refused(subject: Subject, refusal: _Refusal, sound: Probe) -> list[str]:
    """Return the accepts of what the next hop has refused, and permanent refusals of what may be tried again."""
    probe = await witness(subject, world=refusal.world)
    wrong = {Action.ACCEPT} if refusal.is_permanent else set(FINAL)
    found = [
        f"it {FINAL[action]} ({call.where}) for {recipient} in {refusal.world.name}"
        for call in probe.calls
        for recipient, action in call.answered.items()
        if action in wrong and recipient == (refusal.recipient or recipient)
    ]
    if not refusal.is_permanent:
        found += [
            f"it {FINAL[Action.DENY]} ({key[1]}, at {key[2]}) in {refusal.world.name}"
            for key, actions in _decided(probe)
            if key[1] != "queue" and Action.DENY in actions and Action.DENY not in dict(_decided(sound)).get(key, ())
        ]
    return list(dict.fromkeys(found))


def _wants(subject: Subject, service: str) -> bool:
    if not inspect.isclass(subject.offered):
        return False
    return service in inspect.signature(subject.offered).parameters


async def _compared(subject: Subject, world: World, sound: list[Probe], *, may_accept: bool = True) -> list[str]:
    """Return the final decisions in ``world`` that the plugin does not make in all of the sound worlds.

    With ``may_accept=False``, an accept at queue is always a violation.
    """
    try:
        probe = await witness(subject, world=world)
    except NotApplicableError:
        return []  # a plugin may refuse to start in such a world
    found = []
    for key, actions in _decided(probe):
        others = [actions for other in sound for known, actions in _decided(other) if known == key]
        wrong = set(actions) & FINAL.keys()
        if not others or (may_accept or key[1] != "queue"):
            wrong = {action for action in wrong if any(action not in other for other in others)}
        found += [f"it {FINAL[action]} ({key[1]}, at {key[2]}) in {world.name}" for action in FINAL if action in wrong]
    return found


def _decided(probe: Probe) -> Iterator[tuple[tuple[int, str, str], frozenset[Action]]]:
    """Yield the actions of each call, with a key: number, phase and step. The number counts equal phases and steps."""
    count: dict[tuple[str, str], int] = {}
    for call in probe.calls:
        known = (call.phase, call.step)
        count[known] = count.get(known, -1) + 1
        yield (count[known], *known), call.actions
