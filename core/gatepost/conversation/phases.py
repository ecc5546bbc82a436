"""The proceedings of a session: its rulings, from the question to the record.

It asks the gate, keeps what it ruled, speaks a refusal now or at the phase where it is due, and records each outcome.
The conversation says when; this says in which words. It changes no state of the dialogue.

Design, section 3 (delayed refusals); RFC 5321 §4.2 (replies).
"""

from __future__ import annotations

from typing import Any, Final

from gatepost import events
from gatepost.address import Address
from gatepost.decisions import defer, deny
from gatepost.events import Event
from gatepost.gate import Gate
from gatepost.hookspecs import PHASES
from gatepost.ids import new_id
from gatepost.replies import Reply, internal_error, refusal
from gatepost.rulings import Ruling
from gatepost.runtime import Runtime
from gatepost.session import Envelope, Session
from gatepost.telemetry import Record, reply_text

SPOKEN: Final = {"connect": 0, "helo": 1, "mail": 2, "rcpt": 3}
"""The phases at which a refusal may be spoken (``reject_at``), in order."""
KEPT: Final = 100
"""Rulings that a session, and each of its transactions, keeps for the record; the oldest go first."""


class Proceedings:
    """The rulings of one session."""

    __slots__ = ("_gate", "_runtime", "_session", "_to_tell", "recorded")

    def __init__(self, gate: Gate, runtime: Runtime, session: Session) -> None:
        self._gate = gate
        self._runtime = runtime
        self._session = session
        self._to_tell: list[Ruling] = []
        self.recorded = 0
        """How many outcomes have been recorded."""

    def tell_rulings(self) -> None:
        """The reply is written: tell ``ruled`` what led to it."""
        if self._to_tell:
            told, self._to_tell = self._to_tell, []
            for ruling in told:
                self._gate.tell("ruled", (self._session, ruling))

    async def ask(
        self,
        phase: str,
        arguments: tuple[Any, ...],
        envelope: Envelope | None = None,
        recipient: Address | None = None,
    ) -> Ruling:
        """Ask a phase and keep its ruling. A phase that nobody implements costs nothing."""
        if not self._gate.chains[phase]:
            return Ruling(phase, recipient=recipient)
        asked = self._gate.begin(phase, arguments, self._session, envelope, recipient)
        ruling = asked if isinstance(asked, Ruling) else await asked
        self.keep(ruling, envelope)
        return ruling

    async def tell_all(self, phase: str, arguments: tuple[Any, ...], envelope: Envelope | None = None) -> None:
        """Run a phase in which all run and nobody decides."""
        if self._gate.chains[phase]:
            await self._gate.ask(phase, arguments, self._session, envelope)

    def keep(self, ruling: Ruling, envelope: Envelope | None = None) -> None:
        """Keep a ruling for the record of what it leads to."""
        holder: Session | Envelope = self._session if envelope is None else envelope
        kept = holder._rulings
        holder._rulings = (*kept, ruling) if len(kept) < KEPT else (*kept[1 - KEPT :], ruling)
        if self._gate.chains["ruled"] and ruling.remarkable:
            self._to_tell.append(ruling)

    def speak_or_delay(self, ruling: Ruling, sender: str | None = None) -> Reply | None:
        """Speak a refusal of connect, helo or mail now, or keep it for the phase at which it is to be spoken."""
        assert ruling.decision is not None
        instance = self._gate.instance(ruling.plugin)
        default = "connect" if ruling.phase == "connect" else "rcpt"
        spoken_at = (instance and instance.reject_at) or default
        if ruling.decision.disconnect or SPOKEN[spoken_at] <= SPOKEN[ruling.phase]:
            return self.speak(ruling, sender=sender)
        ruling.spoken_at = spoken_at
        self._session._delayed = (*self._session._delayed, ruling)
        return None

    def speak_due(self, phase: str, recipient: Address | None = None, sender: str | None = None) -> Reply | None:
        """Speak the delayed refusal that is due at ``phase``: the first permanent one, else the first temporary one."""
        if not self._session._delayed:
            return None
        if self._session.may_relay:
            self._session._delayed = ()
        due = [ruling for ruling in self._session._delayed if SPOKEN[ruling.spoken_at] <= SPOKEN[phase]]
        if not due:
            return None
        chosen = next((ruling for ruling in due if ruling.decision and ruling.decision.permanent), due[0])
        assert chosen.decision is not None
        again = deny if chosen.decision.permanent else defer
        # A ruling of its own, since each recipient that hears it has a record of its own; with the codes of ``phase``.
        # The first has the id that a failing plugin's line in the log has.
        decision = again(chosen.decision.text, status=chosen.decision.status)
        spoken = chosen.repeated(decision, recipient)
        chosen.id = ""
        return self.speak(spoken, recipient, phase, sender)

    def speak(
        self, ruling: Ruling, recipient: Address | None = None, phase: str = "", sender: str | None = None
    ) -> Reply:
        """The reply of a refusal, in the words of ``phase`` if it is not its own, and its record."""
        assert ruling.decision is not None
        phase = phase or ruling.phase
        if ruling.fault:
            reply = internal_error(ruling.identify(), close=phase == "connect")
        else:
            reply = refusal(phase, ruling.decision, ruling.identify())
        self.refused(ruling, reply, recipient, sender)
        return reply

    def refused(
        self, ruling: Ruling, reply: Reply, recipient: Address | None = None, sender: str | None = None
    ) -> None:
        """Record a refusal: of ``recipient`` alone, or of ``sender``, who have no place in the envelope."""
        if ruling not in self._to_tell:
            self._to_tell.append(ruling)
        if self._keeps(events.REFUSED):
            record = self._record(events.REFUSED, ruling.id, ruling.phase, ruling.plugin, reply, ruling, recipient)
            if sender is not None:
                record.sender = sender
            record.seconds = ruling.seconds
            self._runtime.recorder.record(record)

    def refused_data(self, reply: Reply, identifier: str, size: int) -> None:
        """Record that a message of ``size`` octets broke a rule of the wire."""
        if self._keeps(events.REFUSED):
            record = self._record(events.REFUSED, identifier, "data", "gatepost", reply)
            record.size = size
            self._runtime.recorder.record(record)

    def refused_by_rule(self, reply: Reply, line: bytes) -> None:
        """Record that a command broke a rule of the wire, or met a limit, and no plugin was asked for it."""
        if self._keeps(events.REFUSED):
            verb = line.partition(b" ")[0][:20].decode("ascii", "replace").lower()
            phase = verb if verb in PHASES else "unknown_command"
            record = self._record(events.REFUSED, new_id(), phase, "gatepost", reply)
            record.seconds = 0.0
            self._runtime.recorder.record(record)

    def accepted(self, ruling: Ruling, reply: Reply, identifier: str, size: int) -> None:
        """Record that a message of ``size`` octets is in durable hands."""
        if self._keeps(events.ACCEPTED):
            record = self._record(events.ACCEPTED, identifier, "queue", ruling.plugin, reply, ruling)
            record.size, record.seconds = size, ruling.seconds
            self._runtime.recorder.record(record)

    def disconnected(self, last_reply: Reply | None) -> None:
        """Record that the session has ended, with what the door said if it ended it."""
        if self._keeps(events.DISCONNECTED):
            self._runtime.recorder.record(
                self._record(events.DISCONNECTED, self._session.id, "disconnect", "", last_reply)
            )

    def _keeps(self, event: Event) -> bool:
        """Count an outcome. False when nobody keeps a record of it, so that none need be made."""
        self.recorded += 1
        return self._runtime.recorder.keeps(event)

    def _record(
        self,
        event: Event,
        identifier: str,
        phase: str,
        plugin: str,
        reply: Reply | None,
        led_to: Ruling | None = None,
        only: Address | None = None,
    ) -> Record:
        session, envelope = self._session, self._session.envelope
        recipients = (only,) if only is not None else envelope.recipients if envelope else ()
        rulings = session._rulings + envelope._rulings if envelope else session._rulings
        if led_to is not None:  # last; and a delayed one is told once, as it was spoken
            rulings = (*[ruling for ruling in rulings if ruling.trace is not led_to.trace], led_to)
        return Record(
            id=identifier,
            at=self._runtime.clock.now(),
            event=event.name,
            session=session.id,
            client=session.client,
            helo=session.helo,
            sender=str(envelope.sender) if envelope else None,
            recipients=tuple([str(recipient) for recipient in recipients]),
            phase=phase,
            plugin=plugin,
            reply=reply_text(reply) if reply else "",
            rulings=rulings,
            seconds=self._runtime.clock.monotonic() - session.started,
            trusted=session.trusted or (envelope.trusted if envelope else ""),
        )
