"""The records of a session: one for each outcome, with every ruling that led to it.

An outcome is a refusal, an accepted message or the end of the session. Where nobody keeps the records of an outcome
(``recorder.keeps``), none is made of it. A reply whose refusal has been recorded bears the record's id (``Reply.id``):
by it the conversation knows which refusals no plugin was asked for, and which it therefore has to record itself.

It neither asks the gate nor chooses a reply: see ``phases``.
"""

from __future__ import annotations

from gatepost import events
from gatepost.address import Address
from gatepost.events import Event
from gatepost.hookspecs import PHASES
from gatepost.ids import new_id
from gatepost.replies import Reply
from gatepost.rulings import Ruling
from gatepost.runtime import Runtime
from gatepost.session import Session
from gatepost.telemetry import RECIPIENTS_KEPT, Record, reply_text


class Records:
    """The records of one session."""

    __slots__ = ("_runtime", "_session")

    def __init__(self, runtime: Runtime, session: Session) -> None:
        self._runtime = runtime
        self._session = session

    def add_refusal(
        self, ruling: Ruling, reply: Reply, recipient: Address | None = None, sender: str | None = None
    ) -> None:
        """Record that ``ruling`` led to the refusal ``reply``.

        ``recipient`` is given when it alone was refused, ``sender`` when the refused MAIL has left no envelope.
        """
        if self._runtime.recorder.keeps(events.REFUSED):
            record = self._record(events.REFUSED, ruling.id, ruling.phase, ruling.plugin, reply, ruling, recipient)
            if sender is not None:
                record.sender = sender
            record.seconds = ruling.seconds
            self._runtime.recorder.record(record)

    def add_refused_command(self, reply: Reply, line: bytes) -> None:
        """Record that the command ``line`` broke a rule of SMTP or met a limit, without a plugin being asked."""
        if self._runtime.recorder.keeps(events.REFUSED):
            verb = line.partition(b" ")[0][:20].decode("ascii", "replace").lower()
            phase = verb if verb in PHASES else "unknown_command"
            record = self._record(events.REFUSED, new_id(), phase, "gatepost", reply)
            record.seconds = 0.0
            self._runtime.recorder.record(record)

    def add_refused_message(self, reply: Reply, size: int) -> None:
        """Record that a message of ``size`` octets broke a rule of SMTP or met a limit."""
        if self._runtime.recorder.keeps(events.REFUSED):
            record = self._record(events.REFUSED, reply.id, "data", "gatepost", reply)
            record.size = size
            self._runtime.recorder.record(record)

    def add_accepted_message(self, ruling: Ruling, reply: Reply, identifier: str, size: int) -> None:
        """Record that a plugin has taken responsibility for a message of ``size`` octets."""
        if self._runtime.recorder.keeps(events.ACCEPTED):
            record = self._record(events.ACCEPTED, identifier, "queue", ruling.plugin, reply, ruling)
            record.size, record.seconds = size, ruling.seconds
            self._runtime.recorder.record(record)

    def add_end(self, last_reply: Reply | None) -> None:
        """Record that the session has ended; ``last_reply`` is what the door said if it was the door that ended it."""
        if self._runtime.recorder.keeps(events.DISCONNECTED):
            self._runtime.recorder.record(
                self._record(events.DISCONNECTED, self._session.id, "disconnect", "", last_reply)
            )

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
        recipients = (only,) if only is not None else envelope._recipients if envelope else ()
        rulings = session._rulings + envelope._rulings if envelope else session._rulings
        if led_to is not None:  # it comes last, and a delayed refusal is told once: as it was spoken
            first = led_to.repeats
            rulings = (*[ruling for ruling in rulings if ruling is not led_to and ruling is not first], led_to)
        return Record(
            id=identifier,
            at=self._runtime.clock.now(),
            event=event.name,
            session=session.id,
            client=session._client,
            helo=session._helo,
            sender=str(envelope._sender) if envelope else None,
            recipients=tuple([str(recipient) for recipient in recipients[:RECIPIENTS_KEPT]]),
            phase=phase,
            plugin=plugin,
            reply=reply_text(reply) if reply else "",
            rulings=rulings,
            seconds=self._runtime.clock.monotonic() - session.started,
            trusted=session.trusted or (envelope.why_trusted(recipients) if envelope else ""),
            recipient_count=len(recipients),
            next_hop=envelope._taken_by if envelope else "",
            failed_next_hops=envelope._failed_hops if envelope else (),
        )
