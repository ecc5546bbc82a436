"""Checks of what a plugin makes of services that fail: never an accept, and never a refusal for good.

What it says in a world where a service fails is held against what it says in the worlds where that service works: what
it says in all of them has nothing to do with the service.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace

from gatepost.decisions import Action
from gatepost.testing.conformance.probe import Probe
from gatepost.testing.conformance.sessions import witness
from gatepost.testing.conformance.subject import ANSWERING, EMPTY, RECORDS, UNKNOWN, NotApplicableError, Subject, World
from gatepost.testing.policy import Policy

FAILING = World("a world in which DNS fails", {}, UNKNOWN)
SILENT = replace(FAILING, name="a world in which DNS does not answer", delay=float("inf"))
FINAL = {Action.ACCEPT: "accepts", Action.DENY: "refuses for good"}


async def dns(subject: Subject) -> list[str]:
    """A failure of DNS never becomes an accept or a refusal for good."""
    subject.fresh()
    sound = [await witness(subject, world=world) for world in (ANSWERING, EMPTY)]
    kinds = sorted({kind for probe in sound for _, kind in probe.policy.dns.asked})
    if not kinds:
        raise NotApplicableError("it asks DNS nothing")
    found = [line for world in (FAILING, SILENT) for line in await _compared(subject, world, sound)]
    for kind in kinds:
        without = replace(ANSWERING, name=f"a world without {kind} records", records={**RECORDS, kind: ()})
        failing = replace(ANSWERING, name=f"a world in which {kind} records fail", records={**RECORDS, kind: UNKNOWN})
        found += await _compared(subject, failing, [sound[0], await witness(subject, world=without)])
    return list(dict.fromkeys(found))


async def store(subject: Subject) -> list[str]:
    """A failure of the store never becomes an accept or a refusal for good."""
    subject.fresh()
    if not _wants(subject, "store"):
        raise NotApplicableError("it keeps nothing in the store")
    found: list[str] = []
    for world in (ANSWERING, EMPTY):
        broken = replace(world, name="a world in which the store fails", begin=_break_store)
        found += await _compared(subject, broken, [await witness(subject, world=world)])
    return list(dict.fromkeys(found))


def _break_store(policy: Policy) -> None:
    policy.store.broken.update(policy.loaded.instances)


async def next_hop(subject: Subject) -> list[str]:
    """A next hop that cannot be used never becomes an accept or a refusal for good."""
    subject.fresh()
    sound = await witness(subject)
    if not sound.policy.next_hop.connections or not _wants(subject, "next_hop"):
        raise NotApplicableError("it hands nothing to a next hop")
    found: list[str] = []
    for what, begin in _FAULTS.items():
        world = replace(ANSWERING, name=f"a world in which the next hop {what}", begin=begin)
        found += await _compared(subject, world, [sound], may_accept=False)
    return found


_FAULTS: dict[str, Callable[[Policy], None]] = {
    "is not there": lambda policy: policy.next_hop.drop("connect"),
    "does not answer": lambda policy: policy.next_hop.hang("connect"),
    "refuses us": lambda policy: policy.next_hop.answer("connect", "", 554, "5.7.1 go away"),
    "goes away at MAIL": lambda policy: policy.next_hop.drop("mail"),
    "goes away after the final dot": lambda policy: policy.next_hop.drop("."),
}


def _wants(subject: Subject, service: str) -> bool:
    if not inspect.isclass(subject.offered):
        return False
    return service in inspect.signature(subject.offered).parameters


async def _compared(subject: Subject, world: World, sound: list[Probe], *, may_accept: bool = True) -> list[str]:
    """What it decides in ``world`` that it does not decide in every one of the sound worlds.

    ``may_accept=False``: an accept at queue is wrong there whatever it says elsewhere.
    """
    try:
        probe = await witness(subject, world=world)
    except NotApplicableError:
        return []  # not to start is one way to take it
    found = []
    for key, actions in _decided(probe):
        others = [actions for other in sound for known, actions in _decided(other) if known == key]
        wrong = set(actions) & FINAL.keys()
        if not others or (may_accept or key[1] != "queue"):
            wrong = {action for action in wrong if any(action not in other for other in others)}
        found += [f"it {FINAL[action]} ({key[1]}, at {key[2]}) in {world.name}" for action in FINAL if action in wrong]
    return found


def _decided(probe: Probe) -> Iterator[tuple[tuple[int, str, str], frozenset[Action]]]:
    """What was said in each call; calls of the same phase at the same step are told apart by their number."""
    count: dict[tuple[str, str], int] = {}
    for call in probe.calls:
        known = (call.phase, call.step)
        count[known] = count.get(known, -1) + 1
        yield (count[known], *known), call.actions
