"""What is done with a hook that is not just called and has answered: one that waits, fails, or stops everybody else,
one whose circuit is not known to be closed, one that is observed, runs in a thread, or has looked ahead.

``Asking`` is one phase of one session from there on. It sets the limits of time, says what an error counts as, and has
the rest asked in the usual way: see ``asking``. It knows no replies and no order of commands.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Iterator
from math import inf
from time import perf_counter
from typing import Any, NoReturn

from gatepost import events
from gatepost.concurrency import Deadlines, Watch
from gatepost.decisions import defer
from gatepost.errors import DNSTemporaryError, PluginError
from gatepost.events import Event, Recorder
from gatepost.gate import lookahead
from gatepost.gate.chain import Chain, Hook, Kind
from gatepost.gate.composition import fault_of
from gatepost.gate.fast_path import STALL, Unfinished, ask_in_order, exempt, said_by, take
from gatepost.gate.instance import Instance
from gatepost.hookspecs import ALL_RUN
from gatepost.rulings import Ruling, Said
from gatepost.session import Envelope, Session
from gatepost.write_guard import acting, begin_observing, withheld

_NONE_AHEAD: dict[Hook, asyncio.Task[Any]] = {}


class SlowPath:
    """One phase of one session, since a hook was not done with, or because some look ahead."""

    __slots__ = (
        "_ahead",
        "_arguments",
        "_blameless",
        "_chain",
        "_deadlines",
        "_decided",
        "_envelope",
        "_hooks",
        "_left",
        "_recorder",
        "_ruling",
        "_session",
        "_watch",
    )

    def __init__(
        self,
        chain: Chain,
        hooks: Iterator[Hook],
        ruling: Ruling,
        arguments: tuple[Any, ...],
        session: Session,
        envelope: Envelope | None,
        deadlines: Deadlines,
        recorder: Recorder,
    ) -> None:
        self._chain = chain
        self._hooks = hooks
        self._ruling = ruling
        self._arguments = arguments
        self._session = session
        self._envelope = envelope
        self._deadlines = deadlines
        self._recorder = recorder
        self._ahead = _NONE_AHEAD
        self._watch: Watch | None = None
        self._left: float | None = None
        self._blameless = self._decided = False

    async def go_on(self, unfinished: Unfinished | None = None) -> Ruling:
        """See ``unfinished`` through, and ask those after it; without one: look ahead, and ask everybody.

        Raises ``CancelledError`` when the client leaves meanwhile, and nothing else.
        """
        try:
            if unfinished is None:
                self._look_ahead()
                await asyncio.sleep(0)  # so that they see the session as it is now, whatever the others do to it
                unfinished = self._ask_rest()
            while unfinished is not None:
                if unfinished.called or self._admits(unfinished.hook):
                    hook, start = unfinished.hook, perf_counter() - unfinished.seconds
                    answer, failure = self._called(unfinished)
                    unfinished = None  # thousands may wait here
                    if waits := inspect.isawaitable(answer):
                        try:
                            self._limit(hook)
                            answer = await answer
                            failure = self._lateness(hook)
                        except BaseException as error:  # no plugin ends a session, nor the process
                            failure = self._failure(error, hook, waited=True)
                    self._take(hook, answer, failure, perf_counter() - start, waits)
                unfinished = self._ask_rest()
        finally:
            self._end()
        return self._ruling

    def _ask_rest(self) -> Unfinished | None:
        """Ask those who have not been asked, unless somebody has decided."""
        if self._decided:
            self._ruling.unasked = tuple([hook.name for hook in self._hooks])
            return None
        return ask_in_order(self._hooks, self._ruling, self._arguments, self._session, self._envelope)

    def _look_ahead(self) -> None:
        """Start the look-ups of this phase that will be asked, as far as that is known now."""
        self._ahead = {
            hook: lookahead.start(hook, self._arguments, self._deadlines)
            for hook in self._chain.ahead
            if hook.instance.circuit.closed
            and not (hook.guarded and exempt(self._session, self._envelope, self._ruling.recipient))
        }

    def _admits(self, hook: Hook) -> bool:
        """False when ``hook`` is not asked: its circuit is open, which counts as an error."""
        circuit = hook.instance.circuit
        if circuit.closed or circuit.allows(self._deadlines.now()):
            return True
        self._ruling.trace.append(Said(hook.name, skipped="circuit open", observed=hook.observed))
        self._count_error(hook.instance)
        return False

    def _called(self, unfinished: Unfinished) -> tuple[Any, str | None]:
        """What the hook has returned, and what went wrong. Calls it if nobody has."""
        hook = unfinished.hook
        if unfinished.error is not None:
            return None, self._failure(unfinished.error, hook)
        if unfinished.called:
            return unfinished.answer, None
        try:
            return self._call(hook), None
        except BaseException as error:  # no plugin ends a session, nor the process
            return None, self._failure(error, hook)

    def _call(self, hook: Hook) -> Any:
        arguments = begin_observing(self._arguments) if hook.observed else self._arguments
        if hook.kind is Kind.BLOCKING:
            work = functools.partial(contextvars.copy_context().run, _run_blocking, hook, arguments)
            return hook.instance.threads.run(work)
        if hook.kind is Kind.AHEAD:
            return self._ahead.pop(hook, None) or lookahead.start(hook, arguments, self._deadlines)
        return hook.function(*hook.pick(arguments))

    # Waiting.

    def _limit(self, hook: Hook) -> None:
        """Put the wait that begins now under the limits of the plugin and of the phase."""
        if self._watch is None:
            self._watch = self._deadlines.watch(self._chain.budget)
        watch, now = self._watch, self._deadlines.now()
        self._session._watch = watch
        if hook.observed:  # the time that it takes is not taken from the others
            self._left = watch.budget - now
            watch.budget = inf
        if hook.kind is Kind.AHEAD or self._chain.phase == "queue":  # one has a watch of its own, the other no limit
            watch.deadline = watch.budget
        else:
            watch.deadline = now + hook.instance.time_limit + self._session._allowance
        self._session._allowance = 0.0

    def _lateness(self, hook: Hook) -> str | None:
        """Why an answer that was waited for does not count. Raises ``CancelledError`` when the client has left.

        A plugin may swallow its cancellation and answer all the same.
        """
        watch = self._watch
        if watch is None:
            return None
        self._session._watch = None
        now = self._deadlines.now()
        late = watch.take_back(now)
        if self._left is not None:
            watch.budget = watch.deadline = now + self._left
            self._left = None
        if watch.abandoned:
            self._abandon(hook)
        watch.forgive()
        return str(lookahead.late(hook)) if late else None

    def _failure(self, error: BaseException, hook: Hook, waited: bool = False) -> str:
        """What went wrong, in words. Raises ``CancelledError`` when it is the client that left, not the plugin's fault.

        Only the task's own count tells a cancellation from outside from one that a plugin raises.
        """
        if isinstance(error, GeneratorExit) and asyncio.current_task() is None:
            raise error  # this very coroutine is closed, with its loop
        if isinstance(error, asyncio.CancelledError) and self._watch is not None and self._watch.cancelled_by_others:
            self._abandon(hook)
        if waited and (late := self._lateness(hook)) is not None:
            return late
        # A stranger chooses which names are looked up: five that nobody answers for must not open a circuit.
        self._blameless = isinstance(error, DNSTemporaryError)
        if isinstance(error, PluginError):
            return str(error)
        if isinstance(error, asyncio.CancelledError):
            return "CancelledError: raised by the plugin"
        return f"{type(error).__name__}: {error}"

    def _abandon(self, hook: Hook) -> NoReturn:
        hook.instance.circuit.abandoned()
        raise asyncio.CancelledError

    # What has come of it.

    def _take(self, hook: Hook, answer: Any, failure: str | None, seconds: float, waited: bool) -> None:
        """Take what ``hook`` said, or that it failed, into the ruling."""
        ruling, instance = self._ruling, hook.instance
        ruling.seconds += seconds
        if seconds > STALL and not waited and hook.on_loop:
            self._event(events.STALL, plugin=hook.name, seconds=round(seconds, 3))
        if failure is None and answer is not None:
            failure = fault_of(ruling.phase, instance, answer)
        if failure is not None:
            self._take_error(hook, failure, seconds)
            return
        if instance.circuit.failures:
            self._take_recovery(instance)
        if hook.observed:
            said = said_by(hook, answer, seconds)
            said.observed, said.withheld = True, withheld(self._arguments)
            ruling.trace.append(said)
        else:
            self._decided = take(ruling, hook, answer, seconds, self._session, self._envelope)

    def _take_recovery(self, instance: Instance) -> None:
        """It has failed before, and now it answers."""
        if not instance.circuit.closed:
            self._event(events.CIRCUIT_CLOSED, plugin=instance.name)
        instance.circuit.succeeded()

    def _take_error(self, hook: Hook, error: str, seconds: float) -> None:
        instance = hook.instance
        kept_back = withheld(self._arguments)
        self._ruling.trace.append(
            Said(hook.name, seconds=seconds, error=error, observed=hook.observed, withheld=kept_back)
        )
        self._event(events.PLUGIN_FAILED, plugin=hook.name, error=error, id=self._ruling.identify())
        if self._blameless:
            self._blameless = False
            instance.circuit.abandoned()
        elif instance.circuit.failed(self._deadlines.now()):
            self._event(events.CIRCUIT_OPENED, plugin=hook.name)
        self._count_error(instance)

    def _count_error(self, instance: Instance) -> None:
        """What an error counts as: never accept, never a permanent refusal. A spent budget always defers."""
        phase = self._chain.phase
        spent = self._watch is not None and self._deadlines.now() >= self._watch.budget
        defers = instance.on_error != "pass" and not instance.observed
        if phase in ALL_RUN or phase == "greeting" or not (spent or defers):
            return
        name = "gatepost" if spent else instance.name
        self._ruling.decide(defer("local error, try again later", 451, "4.3.0"), name, fault=True)
        self._decided = True

    def _event(self, event: Event, **facts: object) -> None:
        self._recorder.event(event, phase=self._chain.phase, session=self._session.id, **facts)

    def _end(self) -> None:
        """Stop what is no longer needed: the phase is over, or the client has left."""
        if self._watch is not None:
            self._deadlines.release(self._watch)
            self._session._watch = None
        for task in self._ahead.values():
            task.cancel()
        if self._chain.observes:
            acting.set(None)  # the client may have left in the midst of an observed plugin


def _run_blocking(hook: Hook, arguments: tuple[Any, ...]) -> Any:
    try:
        return hook.function(*hook.pick(arguments))
    except (SystemExit, KeyboardInterrupt, StopIteration) as error:  # a future cannot carry these
        raise PluginError(f"{type(error).__name__}: {error}") from error
