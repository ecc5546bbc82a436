"""Checks of a plugin's calls: its answers, its exceptions, and the time for which it blocks others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gatepost.decisions import accept
from gatepost.gate import STALL_SECONDS, Kind, kind_of
from gatepost.hookspecs import PHASES, QueueAnswer, hookimpl
from gatepost.plugins import declared_grants, hooks_of
from gatepost.session import Envelope
from gatepost.testing.conformance.probe import Call, Probe
from gatepost.testing.conformance.sessions import HOSTILE, ORDINARY, witness
from gatepost.testing.conformance.subject import ANSWERING, EMPTY, UNKNOWN, NotApplicableError, Subject, World

SILENT = World("a world in which DNS does not answer", {}, UNKNOWN, delay=float("inf"))


async def answers(subject: Subject) -> list[str]:
    """Its answers suit the phase: a decision or None, text at greeting, a mapping at queue."""
    subject.playable()
    calls = [call for world in (ANSWERING, EMPTY) for call in (await witness(subject, world=world)).calls]
    faults = [
        f"it {call.fault} ({call.where})" for call in calls if call.fault and "without the grant" not in call.fault
    ]
    faults += _unasked(await witness(subject, world=TAKEN)) if "delivery" in declared_grants(subject.offered) else []
    return list(dict.fromkeys(faults))


class _TakingTheFirst:
    """Takes the first recipient of a message for several."""

    grants = "delivery"

    @hookimpl
    def queue(self, envelope: Envelope) -> QueueAnswer:
        """Take it."""
        return {envelope.pending[0]: accept()} if len(envelope.pending) > 1 else None


TAKEN = replace(ANSWERING, name="a world in which another plugin has taken a recipient", before=(_TakingTheFirst,))


def _unasked(probe: Probe) -> list[str]:
    """Return a sentence for each recipient that it answers for or delivers to although another plugin has taken it."""
    found = [
        f"its queue answers for {recipient}, which is not in envelope.pending: another plugin has taken it"
        for call in probe.calls
        if call.phase == "queue" and isinstance(call.answer, Mapping)
        for recipient in map(str, call.answer)
        if recipient not in call.pending
    ]
    pending = [call.pending for call in probe.calls if call.phase == "queue"]
    for message, asked in zip(probe.policy.next_hop.messages, pending, strict=False):
        twice = [recipient for recipient in message.recipients if recipient not in asked]
        found += [f"it delivers to {recipient} once more, which another plugin has taken" for recipient in twice]
    return found


async def ordinary(subject: Subject) -> list[str]:
    """It completes ordinary sessions without an exception, and leaves the core's state alone."""
    subject.playable()
    probes = [await witness(subject, world=world) for world in (ANSWERING, EMPTY)]
    changed = {
        f"its {call.phase} changes {name}, which is the core's"
        for p in probes
        for call in p.calls
        for name in call.changed
    }
    unawaited = {f"it never awaits {name}" for probe in probes for name in probe.unawaited}
    return _raised(probes) + sorted(changed) + sorted(unawaited)


async def hostile(subject: Subject) -> list[str]:
    """It handles empty, 8-bit, very long and hostile input."""
    subject.playable()
    known = {(call.phase, repr(call.error)) for call in (await witness(subject)).raised}
    probe = await witness(subject, HOSTILE)
    probe.calls = [call for call in probe.calls if (call.phase, repr(call.error)) not in known]
    return _raised([probe])


def _raised(probes: list[Probe]) -> list[str]:
    found = [f"it raises {_worded(call)}" for probe in probes for call in probe.raised]
    return list(dict.fromkeys(found)) + [trouble for probe in probes for trouble in probe.trouble]


def _worded(call: Call) -> str:
    error = call.error
    return f"{type(error).__name__}: {error} ({call.where})" if str(error) else f"{type(error).__name__} ({call.where})"


async def stalls(subject: Subject) -> list[str]:
    """It never blocks the event loop, and so all other clients, for longer than 100 ms."""
    subject.playable()
    slow: dict[str, float] = {}
    for visits in (ORDINARY, HOSTILE):
        if not slow and (slow := _slow(await witness(subject, visits))):
            # A single stall may be due to the load of the machine or to an import, so measure again.
            again = _slow(await witness(subject, visits))
            slow = {phase: min(seconds, again[phase]) for phase, seconds in slow.items() if phase in again}
    return [
        f"its {phase} blocks the event loop for {seconds * 1000:.0f} ms: await, or mark a plain def blocking=True"
        for phase, seconds in slow.items()
    ]


def _slow(probe: Probe) -> dict[str, float]:
    """Return the phases that blocked for too long, with the longest time in seconds."""
    longest: dict[str, float] = {}
    for call in probe.calls:
        longest[call.phase] = max(longest.get(call.phase, 0.0), call.longest)
    return {phase: seconds for phase, seconds in longest.items() if seconds > STALL_SECONDS}


async def ahead(subject: Subject) -> list[str]:
    """A look-up that runs ahead does not write to the session."""
    subject.playable()
    hooks = [function for phase, function in hooks_of(subject.offered) if phase in PHASES]
    if not any(kind_of(function, function.gatepost_impl) is Kind.AHEAD for function in hooks):
        raise NotApplicableError("it has no look-up that runs ahead")
    found: list[str] = []
    for call in (await witness(subject)).calls:
        found += [f"its {call.phase} must not write to the session: {what}" for what in call.wrote]
    return list(dict.fromkeys(found))


async def time_limit(subject: Subject) -> list[str]:
    """It answers within its time limit, even when DNS does not answer."""
    subject.playable()
    found: list[str] = []
    for world in (ANSWERING, SILENT):
        probe = await witness(subject, world=world)
        late = [facts for facts in probe.policy.events.named("plugin_failed") if "no answer within" in str(facts)]
        found += [f"its {facts['phase']} gives {facts['error']}, in {world.name}" for facts in late]
    return list(dict.fromkeys(found))
