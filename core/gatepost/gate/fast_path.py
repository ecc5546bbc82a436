"""How the hooks of a phase are asked: one after the other, in order, and nobody after the one who decides.

This is the usual way, in which nobody waits. Where a hook has to be waited for, fails, or needs more than a call,
``ask_in_order`` stops and hands it over. What is done then stands in ``unfinished``, which has the rest asked here
again; how answers compose stands in ``composition``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from time import perf_counter
from types import CoroutineType
from typing import Any, Final, NamedTuple

from gatepost.address import Address
from gatepost.concurrency import begin
from gatepost.decisions import Decision, accept
from gatepost.gate.chain import Hook
from gatepost.gate.composition import compose, fault_of
from gatepost.hookspecs import ALL_RUN
from gatepost.rulings import Ruling, Said
from gatepost.session import Envelope, Session

_now: Final = perf_counter  # compiled, what is final is at hand, and what is imported is searched for
_COROUTINE: Final = CoroutineType

STALL: Final = 0.1
"""A hook that runs longer than this at a stretch, in seconds, is named in the log: it stops every other client."""


class Unfinished(NamedTuple):
    """A hook that is not done with, and what has come of it so far."""

    hook: Hook
    called: bool = False
    answer: Any = None
    """What it returned: something to wait for, or something that it may not say."""
    error: BaseException | None = None
    """What it raised."""
    seconds: float = 0.0
    """How long it ran."""


def ask_in_order(
    hooks: Iterator[Hook], ruling: Ruling, arguments: tuple[Any, ...], session: Session, envelope: Envelope | None
) -> Unfinished | None:
    """Ask ``hooks`` from where that iterator stands. None: the phase is over, and what was said is in ``ruling``.

    Else the hook that is not done with; those after it have not been asked.
    """
    trace = ruling.trace
    unfinished = None
    began = start = _now()
    for hook in hooks:
        if hook.guarded and exempt(session, envelope, ruling.recipient):
            trace.append(Said(hook.name, skipped="trusted", observed=hook.observed))
            continue
        if not hook.direct or hook.instance.circuit.failures:
            unfinished = Unfinished(hook)
            break
        try:
            answer = hook.function(*hook.pick(arguments))
            if type(answer) is _COROUTINE:
                answer = begin(answer)
        except BaseException as error:  # no plugin ends a session, nor the process
            unfinished = Unfinished(hook, True, None, error, _now() - start)
            break
        now = _now()
        seconds = now - start
        if seconds > STALL or (answer is not None and not _is_usual(answer, ruling.phase, hook)):
            unfinished = Unfinished(hook, True, answer, None, seconds)
            break
        start = now
        if answer is None and not session._did and (envelope is None or not envelope._did):
            trace.append((hook.name, seconds))
        elif take(ruling, hook, answer, seconds, session, envelope):
            ruling.unasked = tuple([hook.name for hook in hooks])
            break
    ruling.seconds += start - began
    return unfinished


def exempt(session: Session, envelope: Envelope | None, recipient: Address | None) -> bool:
    """True when hooks that are guarded are not asked: about this client, this transaction, or ``recipient``."""
    if session.trusted or session.may_relay:
        return True
    return envelope is not None and envelope.exempt(recipient)


def _is_usual(answer: object, phase: str, hook: Hook) -> bool:
    return type(answer) is Decision and fault_of(phase, hook.instance, answer) is None


def take(ruling: Ruling, hook: Hook, answer: Any, seconds: float, session: Session, envelope: Envelope | None) -> bool:
    """Take what ``hook`` said, and what else it did, into ``ruling``. True when it decides."""
    did, session._did = session._did, ()
    if envelope is not None and envelope._did:
        did, envelope._did = (*did, *envelope._did), ()
    if answer is None and not did:
        ruling.trace.append((hook.name, seconds))
        return False
    said = said_by(hook, answer, seconds, did)
    ruling.trace.append(said)
    return answer is not None and ruling.phase not in ALL_RUN and compose(ruling, hook.name, answer, session, envelope)


def said_by(hook: Hook, answer: Any, seconds: float, did: tuple[str, ...] = ()) -> Said:
    """What ``hook`` said, and what else it ``did``, for the record."""
    if isinstance(answer, Decision):
        return Said(hook.name, answer, seconds, did=did)
    if isinstance(answer, str):
        return Said(hook.name, accept(answer), seconds, did=did)
    if isinstance(answer, Mapping):
        answers = tuple((str(recipient), decision) for recipient, decision in answer.items())
        return Said(hook.name, seconds=seconds, did=did, answers=answers)
    return Said(hook.name, seconds=seconds, did=did)
