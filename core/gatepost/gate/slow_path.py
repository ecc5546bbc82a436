"""The slow path: hooks that need more than a call that answers at once.

``Gate.begin`` calls the hooks of a phase one after the other. It hands the phase to a ``SlowPath`` before the first
hook if any hook of the phase looks ahead, and else at the first hook

* that is observed, or runs in a thread (``blocking``);
* whose plugin's last call failed, so that its circuit breaker may be open or be reset;
* that has to be waited for, or raises;
* that kept the event loop for more than ``STALL_SECONDS``;
* whose answer is no ``Decision`` (a text at greeting, a mapping at queue), or is one that the phase does not take.

The ``SlowPath`` sees that hook through and asks the rest. Each hook has an ``Outcome``: it answered, failed, or was
skipped. The outcome is taken into the ruling, and the first one that decides ends the phase.

**A wait is limited.** Two limits run while a hook is awaited: the plugin's ``time_limit``, to which ``session.silence``
adds what it waits on purpose, and the budget of the phase, which no number of slow plugins may exceed together. One
``Watch`` holds both; its sweep cancels the task. Three waits differ:

* A look-up that runs ahead has had its own limit since the phase began (``lookahead``), so only the budget counts here.
* The handover at queue has its own limits, which depend on whether it has passed its point of no return
  (``concurrency.commitment``): to cut it off behind that point might deliver the message twice.
* The budget stands still while an observed plugin is awaited, so that observing cannot cost a client its ruling.

**A wait is late** when a limit had passed by the time it ended, whatever it ended with. A plugin may swallow its
cancellation and answer, or turn it into another exception; and the sweep comes only once a second. In each case there
is no answer in time, and that is the plugin's failure.

**A wait is abandoned** when the client has left: the door cancelled the task, or noted that it did with
``concurrency.deadlines.abandon``, which no plugin can swallow. No ruling is needed any more, so ``CancelledError``
leaves the phase. It is not the plugin's failure; a circuit that was being tried is free for the next trial.

**A wait is forgiven** when the plugin itself cancelled the task, as a ``TaskGroup`` does when one of its tasks fails.
The task's own count of cancellations would otherwise stay raised, and the next plugin that the sweep cancels would look
like a client that has left. What the plugin itself raises is its failure as usual.

**A failure is blameless** when it says nothing about the plugin: a stranger chooses which names are looked up in DNS,
and five names whose servers do not answer must not open the circuit of a plugin that would refuse the stranger. It
counts as ``on_error`` says, and the circuit does not count it.

This module knows no replies and no order of commands.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
from collections.abc import Iterator
from math import inf
from time import perf_counter
from types import CoroutineType
from typing import Any, Final, NamedTuple

from gatepost import events
from gatepost.concurrency import Commitment, Deadlines, Watch, start_eagerly
from gatepost.decisions import defer
from gatepost.errors import DNSTemporaryError, PluginError, place_of
from gatepost.events import Event, Recorder
from gatepost.gate import lookahead
from gatepost.gate.chain import Chain, Hook, Kind
from gatepost.gate.composition import fault_of, is_trusted, said_by, take
from gatepost.gate.instance import Instance
from gatepost.hookspecs import ALL_RUN
from gatepost.rulings import Ruling, Said
from gatepost.session import Envelope, Session
from gatepost.write_guard import Observed

STALL_SECONDS: Final = 0.1
"""Seconds for which a hook may keep the event loop to itself; beyond that the log names it."""
TRUSTED: Final = "trusted"
"""Why a hook is skipped whose plugin has ``skip_trusted``."""
CIRCUIT_OPEN: Final = "circuit open"
"""Why a hook is skipped whose plugin keeps failing."""

_NONE_AHEAD: Final[dict[Hook, asyncio.Task[Any]]] = {}


class Failure(NamedTuple):
    """Why a call gave no answer that counts."""

    text: str
    blameless: bool = False
    """True when the circuit does not count it."""
    error: BaseException | None = None
    """The exception that it was."""


class Outcome(NamedTuple):
    """The result of calling a hook."""

    answer: Any = None
    """The value returned: an answer, something to wait for, or something that the phase does not take."""
    failure: Failure | None = None
    seconds: float = 0.0
    """How long it took."""
    waited: bool = False
    """True when it was waited for, so that the event loop was free meanwhile."""
    skipped: str = ""
    """Why it was not called."""


def failure_of(error: BaseException, plugin: object) -> Failure:
    """Return the failure that an exception of ``plugin`` counts as, with its place in the plugin's code."""
    if isinstance(error, PluginError):
        text = str(error)
    elif isinstance(error, asyncio.CancelledError):
        text = "CancelledError: raised by the plugin"
    else:
        text = f"{type(error).__name__}: {error}"
    place = place_of(error, plugin)
    return Failure(f"{text} ({place})" if place else text, isinstance(error, DNSTemporaryError), error)


class SlowPath:
    """One phase of one session, from the first hook on that needs more than a call."""

    __slots__ = (
        "_ahead",
        "_arguments",
        "_chain",
        "_deadlines",
        "_envelope",
        "_recorder",
        "_ruling",
        "_session",
        "_watch",
    )

    def __init__(
        self,
        chain: Chain,
        ruling: Ruling,
        arguments: tuple[Any, ...],
        session: Session,
        envelope: Envelope | None,
        deadlines: Deadlines,
        recorder: Recorder,
    ) -> None:
        self._chain = chain
        self._ruling = ruling
        self._arguments = arguments
        self._session = session
        self._envelope = envelope
        self._deadlines = deadlines
        self._recorder = recorder
        self._ahead = _NONE_AHEAD
        self._watch: Watch | None = None

    async def ask(self, hooks: Iterator[Hook], first: Hook | None = None, outcome: Outcome | None = None) -> Ruling:
        """Ask ``first``, unless its call already came to ``outcome``, then the ``hooks`` after it; return the ruling.

        The answer in ``outcome`` may be an awaitable: the hook was called and now has to be waited for.

        Raises ``CancelledError`` when the client leaves meanwhile, and nothing else.
        """
        try:
            if self._chain.ahead:
                self._look_ahead()
                await asyncio.sleep(0)  # the look-ups see the session before any other plugin changes it
            hook = first or next(hooks, None)
            while hook is not None:
                observed = Observed(self._arguments) if hook.observed else None
                outcome = outcome or self._call(hook, observed)
                answer = outcome.answer
                if inspect.isawaitable(answer):
                    # Waiting is inline and holds little: thousands of clients may be waiting here.
                    start = perf_counter() - outcome.seconds
                    outcome = None
                    watch = self._begin_wait(hook)
                    try:
                        answer = await answer
                    except BaseException as error:  # no plugin ends a session, nor the process
                        failure = self._end_wait(hook, watch, error)
                    else:
                        failure = self._end_wait(hook, watch)
                    outcome = Outcome(answer, failure, perf_counter() - start, waited=True)
                decided = self._take(hook, outcome, observed)
                hook = None if decided else next(hooks, None)
                outcome = None
        finally:
            if self._watch is not None:
                self._deadlines.release(self._watch)
                self._session._watch = None
            for task in self._ahead.values():  # of a phase that was decided, or whose client has left
                task.cancel()
        self._ruling.unasked = tuple([unasked.name for unasked in hooks])
        return self._ruling

    # Calling.

    def _look_ahead(self) -> None:
        """Start this phase's look-ups, as far as it is known by now that they will be asked."""
        self._ahead = {
            hook: lookahead.start(hook, self._arguments, self._deadlines)
            for hook in self._chain.ahead
            if hook.instance.circuit.closed and not self._skips(hook)
        }

    def _skips(self, hook: Hook) -> bool:
        return hook.skips_trusted and is_trusted(self._session, self._envelope, self._ruling.recipient)

    def _call(self, hook: Hook, observed: Observed | None) -> Outcome:
        """Call ``hook``, or say why it is skipped."""
        if self._skips(hook):
            return Outcome(skipped=TRUSTED)
        if not hook.instance.circuit.allows(self._deadlines.now()):
            return Outcome(skipped=CIRCUIT_OPEN)
        start = perf_counter()
        try:
            answer = self._invoke(hook, self._arguments) if observed is None else self._observe(hook, observed)
            if type(answer) is CoroutineType:
                answer = start_eagerly(answer)
        except BaseException as error:  # no plugin ends a session, nor the process
            return Outcome(failure=failure_of(error, hook.instance.plugin), seconds=perf_counter() - start)
        return Outcome(answer, seconds=perf_counter() - start)

    def _invoke(self, hook: Hook, arguments: tuple[Any, ...]) -> Any:
        if hook.kind is Kind.BLOCKING:
            return _in_thread(hook, arguments)
        if hook.kind is Kind.AHEAD:
            # One that was not started may be asked by now: a circuit has closed, a client is no longer trusted.
            return self._ahead.pop(hook, None) or lookahead.start(hook, arguments, self._deadlines)
        return hook.function(*hook.pick(arguments))

    async def _observe(self, hook: Hook, observed: Observed) -> Any:
        """Call an observed hook and wait for it, while all that it changes is withheld."""
        with observed:
            answer = self._invoke(hook, observed.arguments)
            return await answer if inspect.isawaitable(answer) else answer

    # Waiting: see the module's docstring.

    @property
    def _commitment(self) -> Commitment | None:
        """The point of no return of the handover, when this is the phase that hands over."""
        return self._envelope._commitment if self._chain.phase == "queue" and self._envelope is not None else None

    def _begin_wait(self, hook: Hook) -> Watch:
        """Limit the wait that begins now."""
        session, now, commitment = self._session, self._deadlines.now(), self._commitment
        watch = self._watch or self._deadlines.watch(self._chain.budget, commitment)
        session._watch = self._watch = watch
        if commitment is not None and not hook.observed:
            seconds = commitment.deadline - now
        elif hook.kind is Kind.AHEAD or (self._chain.phase == "queue" and not hook.observed):
            seconds = inf
        else:
            seconds = hook.instance.time_limit + session._allowance
        # Set by ``session.silence`` and spent now: a later call of it by this plugin moves the deadline itself.
        session._allowance = 0.0
        watch.begin_wait(now, seconds, suspend_budget=hook.observed)
        return watch

    def _end_wait(self, hook: Hook, watch: Watch, error: BaseException | None = None) -> Failure | None:
        """Return why what was waited for does not count, if so. Raises ``CancelledError`` when the client has left."""
        if isinstance(error, GeneratorExit) and not _in_task():
            raise error  # not the plugin's: this very coroutine is being closed, with its loop
        self._session._watch = None
        late = watch.end_wait(self._deadlines.now())
        if watch.abandoned or (isinstance(error, asyncio.CancelledError) and watch.cancelled_by_others):
            hook.instance.circuit.inconclusive()
            raise asyncio.CancelledError
        watch.forgive()
        # Whatever it ended with, even with an answer: that came too late.
        if late:
            commitment = None if hook.observed else self._commitment
            return Failure(str(lookahead.late(hook) if commitment is None else commitment.late()))
        return None if error is None else failure_of(error, hook.instance.plugin)

    # Taking outcomes into the ruling.

    def _take(self, hook: Hook, outcome: Outcome, observed: Observed | None) -> bool:
        """Take ``outcome`` into the ruling. Return True when it decides."""
        ruling, instance, seconds = self._ruling, hook.instance, outcome.seconds
        if outcome.skipped:
            ruling.trace.append(Said(hook.name, skipped=outcome.skipped, observed=hook.observed))
            # An open circuit counts as an error does; that a client is trusted is no error.
            return outcome.skipped == CIRCUIT_OPEN and self._error_decides(instance)
        ruling.seconds += seconds
        if seconds > STALL_SECONDS and hook.on_loop and not outcome.waited:
            self._event(events.STALL, plugin=hook.name, seconds=round(seconds, 3))
        withheld = observed.withheld if observed is not None else ()
        failure = outcome.failure
        if failure is None and outcome.answer is not None:
            fault = fault_of(ruling.phase, instance, outcome.answer)
            failure = None if fault is None else Failure(fault)
        if failure is not None:
            said = Said(hook.name, seconds=seconds, error=failure.text, observed=hook.observed, withheld=withheld)
            ruling.trace.append(said)
            return self._failure_decides(instance, failure)
        if instance.circuit.failures:
            if not instance.circuit.closed:
                self._event(events.CIRCUIT_CLOSED, plugin=instance.name)
            instance.circuit.succeeded()
        if observed is None:
            return take(ruling, hook.name, outcome.answer, seconds, self._session, self._envelope)
        said = said_by(hook.name, outcome.answer, seconds, observed=True, withheld=withheld)
        ruling.trace.append(said)
        if outcome.answer is not None or withheld:
            answer = "; ".join((*(() if outcome.answer is None else (str(said),)), *withheld))
            self._event(events.OBSERVED, plugin=hook.name, answer=answer, client=self._session.client)
        return False

    def _failure_decides(self, instance: Instance, failure: Failure) -> bool:
        """Log a failure and let the circuit count it. Return True when it decides."""
        identifier = self._ruling.identify()
        self._event(events.PLUGIN_FAILED, plugin=instance.name, error=failure.text, id=identifier)
        if failure.error is not None:
            self._event(events.PLUGIN_TRACEBACK, plugin=instance.name, id=identifier, traceback=failure.error)
        if failure.blameless:
            instance.circuit.inconclusive()
        elif instance.circuit.failed(self._deadlines.now()):
            self._event(events.CIRCUIT_OPENED, plugin=instance.name)
        return self._error_decides(instance)

    def _error_decides(self, instance: Instance) -> bool:
        """Defer where an error counts as that: it is never an accept and never a permanent refusal.

        A spent budget always defers, since the plugins after this one cannot be asked any more.
        """
        phase = self._chain.phase
        # At greeting the first text decides, so not all hooks run; but the client gets the banner in any case.
        spent = self._watch is not None and self._deadlines.now() >= self._watch.budget
        defers = instance.on_error != "pass" and not instance.observed
        if phase in ALL_RUN or phase == "greeting" or not (spent or defers):
            return False
        name = "gatepost" if spent else instance.name
        self._ruling.decide(defer("local error, try again later", 451, "4.3.0"), name, fault=True)
        return True

    def _event(self, event: Event, **facts: object) -> None:
        self._recorder.event(event, phase=self._chain.phase, session=self._session.id, **facts)


async def _in_thread(hook: Hook, arguments: tuple[Any, ...]) -> Any:
    """Run a blocking hook in a thread.

    An exception comes from there as a value: a future would throw it into the coroutines that wait for it, and compiled
    ones forget its traceback, which names the place in the plugin's code.
    """
    work = functools.partial(contextvars.copy_context().run, _run_blocking, hook, arguments)
    answer, error = await hook.instance.threads.run(work)
    if error is not None:
        raise error
    return answer


def _run_blocking(hook: Hook, arguments: tuple[Any, ...]) -> tuple[Any, BaseException | None]:
    try:
        return hook.function(*hook.pick(arguments)), None
    except (SystemExit, KeyboardInterrupt, StopIteration) as error:  # a coroutine cannot raise these
        failed = PluginError(f"{type(error).__name__}: {error}")
        failed.__cause__ = error
        return None, failed
    except BaseException as error:
        return None, error


def _in_task() -> bool:
    try:
        return asyncio.current_task() is not None
    except RuntimeError:  # no loop runs
        return False
