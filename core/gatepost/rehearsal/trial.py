"""The session that ``gatepost try`` plays: a rehearsal over the loaded policy that keeps every reply and ruling.

Waits take no time (``HastyClock``); DNS and next hops are real. Unless the trial is to deliver, a plugin that accepts
every message and forgets it replaces those that deliver, and ``queued`` does not fire.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from gatepost import events
from gatepost.config import Config
from gatepost.decisions import accept
from gatepost.events import Event, Recorder
from gatepost.gate import Chain, Gate, Instance
from gatepost.hookspecs import hookimpl
from gatepost.message import Spool
from gatepost.plugins import Services, declaration_of, load_policy, make_gate, start_plugins
from gatepost.rehearsal.rehearsal import Rehearsal
from gatepost.replies import Reply
from gatepost.rulings import Ruling
from gatepost.runtime import Runtime
from gatepost.services.clock import SystemClock
from gatepost.services.dns import DNS
from gatepost.services.host import NullLog
from gatepost.services.next_hop import NextHops
from gatepost.services.store import open_store
from gatepost.services.virtual_clock import HastyClock
from gatepost.telemetry import Record, reply_text

MESSAGE = "message"
"""The name of the last step: the client sends the message itself."""


class _Recorder:
    """Keeps records and events in the trial."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def keeps(self, event: Event) -> bool:
        """Return True: all records are kept."""
        return True

    def record(self, record: Record) -> None:
        """Keep it."""
        self._trial.records.append(record)

    def event(self, event: Event, /, **facts: object) -> None:
        """Keep it, unless it is for debugging only."""
        if event.level != "debug":
            self._trial.events.append({"event": event.name, "level": event.level, **facts})


class _PluginLog(NullLog):
    """The warnings and errors of a plugin, among the events of the trial."""

    def __init__(self, trial: Trial, name: str) -> None:
        self._trial = trial
        self._name = name

    def warning(self, event: str, **facts: object) -> None:
        """Keep it."""
        self._trial.events.append({"event": event, "level": "warning", **facts, "plugin": self._name})

    def error(self, event: str, **facts: object) -> None:
        """Keep it."""
        self._trial.events.append({"event": event, "level": "error", **facts, "plugin": self._name})


class _Overheard(Gate):
    """A gate that asks like the one it is made from, and keeps all rulings."""

    def __init__(self, gate: Gate) -> None:
        # Gate's constructor would make new chains from a pluggy manager. These are the ones that were loaded.
        self.instances, self.chains, self.score = gate.instances, gate.chains, gate.score
        self.clock, self.recorder, self.deadlines = gate.clock, gate.recorder, gate.deadlines
        self.rulings: list[Ruling] = []

    def begin(self, *arguments: Any, **named: Any) -> Ruling | Coroutine[Any, Any, Ruling]:
        """Ask, and keep the ruling."""
        asked = super().begin(*arguments, **named)
        if not isinstance(asked, Ruling):
            return self._overhear(asked)
        self.rulings.append(asked)
        return asked

    async def _overhear(self, asked: Coroutine[Any, Any, Ruling]) -> Ruling:
        ruling = await asked
        self.rulings.append(ruling)
        return ruling


class _Taker:
    """Replaces the plugins that deliver, and delivers nothing."""

    grants = "delivery"

    @hookimpl
    def queue(self) -> Any:
        """Accept the message and forget it."""
        return accept("not delivered, this is a trial")


class _Server:
    """The argument of ``startup``. It repeats no job, because the session ends at once."""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname

    def every(self, seconds: float, job: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Ignore the job."""


async def play(config: Config, flags: Flags) -> Trial:
    """Play the session. Raises ``ConfigError`` or ``PluginError`` if the policy cannot be loaded or started."""
    trial = Trial()
    recorder, clock = _Recorder(trial), HastyClock()
    async with _services(config, flags, trial, clock, recorder) as services:
        policy = load_policy(config, services, recorder)
        await start_plugins(policy, _Server(config.hostname))
        gate = _Overheard(policy.gates.get(flags.listener, policy.default))
        would_deliver = () if flags.deliver else gate.order("queue")
        if not flags.deliver:
            gate.chains = {**gate.chains, "queued": Chain("queued")}
            if gate.chains["queue"]:  # without a plugin that delivers the message is refused, as it would be
                taker = make_gate([Instance("(nobody)", _Taker(), declaration_of(_Taker))], clock, recorder)
                gate.chains["queue"] = taker.chains["queue"]
        runtime = Runtime(
            hostname=config.hostname,
            clock=clock,
            resolver=services.dns,
            store=services.store.namespace("gatepost"),
            spool=Spool(None),
            limits=config.limits,
            recorder=recorder,
            line_ends=config.line_ends,
            trusted_results=frozenset(config.trusted_results),
        )
        client = Rehearsal(gate, runtime, flags.ip, talks_early=flags.early, listener=flags.listener or "smtp")
        await _Player(trial, gate, clock, client).play(flags)
        if trial.steps[-1].said == MESSAGE and not trial.steps[-1].is_refused:
            trial.would_deliver = would_deliver
    return trial


@contextlib.asynccontextmanager
async def _services(
    config: Config, flags: Flags, trial: Trial, clock: HastyClock, recorder: Recorder
) -> AsyncIterator[Services]:
    """Open the services of the trial. DNS and next hops are real, so their clock is real too."""
    world = SystemClock()
    dns = DNS([str(server) for server in config.dns.servers], timeout=config.dns.timeout, clock=world)
    services = Services(
        dns=dns,
        store=open_store(config.store.url if flags.store else "memory:", clock, recorder),
        clock=clock,
        next_hop=NextHops(world, config.hostname),
        log=lambda name: _PluginLog(trial, name),
    )
    await services.store.open()
    try:
        yield services
    finally:
        await services.next_hop.close()
        await dns.close()
        await services.store.close()


class _Player:
    """Plays the session and keeps its steps."""

    def __init__(self, trial: Trial, gate: _Overheard, clock: HastyClock, client: Rehearsal) -> None:
        self._trial = trial
        self._gate = gate
        self._clock = clock
        self._client = client

    async def play(self, flags: Flags) -> None:
        """Connect, EHLO, MAIL, RCPT, DATA, the message; a refusal ends it, except that of one recipient of several."""
        try:
            await self._dialogue(flags)
        finally:
            if not self._client.closed:
                await self._client.close()

    async def _dialogue(self, flags: Flags) -> None:
        client = self._client
        if not await self._step(f"connect from {flags.ip}", client.connect()):
            return
        international = not "".join((flags.sender, *flags.recipients)).isascii()
        for line in (f"EHLO {flags.helo}", f"MAIL FROM:<{flags.sender}>" + " SMTPUTF8" * international):
            if not await self._step(line, client.say(line)):
                return
        taken = [
            await self._step(f"RCPT TO:<{recipient}>", client.say(f"RCPT TO:<{recipient}>"))
            for recipient in flags.recipients or ("postmaster",)
            if not client.closed
        ]
        if any(taken) and not client.closed and await self._step("DATA", client.say("DATA")):
            await self._step(MESSAGE, client.send(_content(flags)))

    async def _step(self, said: str, work: Coroutine[Any, Any, Reply]) -> bool:
        """Do one thing. Return True when it was not refused."""
        trial, gate = self._trial, self._gate
        # The rulings, records and skipped time that come after these belong to this step.
        asked, recorded, skipped = len(gate.rulings), len(trial.records), self._clock.skipped
        reply = await work
        refused = [record for record in trial.records[recorded:] if record.event == events.REFUSED.name]
        step = Step(said, reply_text(reply), reply.code, gate.rulings[asked:], self._clock.skipped - skipped)
        if step.is_refused:
            step.plugin = refused[-1].plugin if refused else "gatepost"
        trial.steps.append(step)
        return not step.is_refused


def _content(flags: Flags) -> bytes:
    """Return the given message as a client would send it, else a short one."""
    if flags.content is not None:
        # A file of this system has bare line feeds; one that has CRLF somewhere is sent as it is.
        return flags.content if b"\r\n" in flags.content else flags.content.replace(b"\n", b"\r\n")
    to = ", ".join(flags.recipients) or "postmaster"
    lines = (f"From: {flags.sender}", f"To: {to}", "Subject: a trial", f"Date: {formatdate()}", "", "Hello.", "")
    return "\r\n".join(lines).encode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Flags:
    """The session as the command line describes it."""

    ip: str
    helo: str
    sender: str
    recipients: tuple[str, ...]
    content: bytes | None
    early: bool
    listener: str
    deliver: bool
    store: bool


@dataclass(slots=True)
class Step:
    """One thing that the client did, and its outcome."""

    said: str
    reply: str
    code: int
    rulings: list[Ruling]
    waited: float
    """Seconds that plugins would have made the client wait."""
    plugin: str = ""
    """The plugin that refused it; ``gatepost`` is the core itself."""

    @property
    def is_refused(self) -> bool:
        """True for a reply of 4xx or 5xx."""
        return self.code >= 400

    def facts(self) -> dict[str, object]:
        """Return it as plain values, for JSON."""
        rulings = [ruling.facts() for ruling in self.rulings]
        return {
            "said": self.said,
            "reply": self.reply,
            "refused_by": self.plugin,
            "waited": round(self.waited, 3),
            "rulings": rulings,
        }


@dataclass(slots=True)
class Trial:
    """A session from connect to its end."""

    steps: list[Step] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    events: list[dict[str, object]] = field(default_factory=list)
    would_deliver: tuple[str, ...] = ()
    """The plugins that would have been asked to deliver; () if they were asked, or if a refusal came before."""

    @property
    def refusals(self) -> list[Step]:
        """The steps that were refused."""
        return [step for step in self.steps if step.is_refused]

    @property
    def accepted(self) -> bool:
        """True when the message was accepted, or would be, for all recipients."""
        return not self.refusals

    @property
    def outcome(self) -> str:
        """The outcome as a sentence."""
        if not self.accepted:
            refused = self.refusals[0]
            return f"refused by {refused.plugin} at {refused.said}: {refused.reply}"
        if self.would_deliver:
            return f"would be handed to: {', '.join(self.would_deliver)}"
        return f"accepted: {self.steps[-1].reply}"

    def facts(self) -> dict[str, object]:
        """Return it as plain values, for JSON."""
        return {
            "accepted": self.accepted,
            "outcome": self.outcome,
            "would_deliver": self.would_deliver,
            "waited": round(sum(step.waited for step in self.steps), 3),
            "steps": [step.facts() for step in self.steps],
            "events": self.events,
        }
