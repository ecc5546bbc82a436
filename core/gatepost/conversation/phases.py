"""The phases of a session: each is asked of the gate, and its ruling kept; a refusal is spoken now or later.

A refusal at connect, helo or mail may be delayed until the phase that ``reject_at`` names (rcpt by default for helo and
mail), so that its record names the recipients, and mail to postmaster gets through (RFC 5321 §4.5.1). It then waits in
``session._delayed`` and is repeated to each recipient, with a record for each.

``conversation`` and ``transaction`` say when a phase is asked; this module says in which words it refuses. It changes
no state of the session's commands. RFC 5321 §4.2 (replies).
"""

from __future__ import annotations

from typing import Any, Final

from gatepost.address import Address
from gatepost.conversation.records import Records
from gatepost.decisions import defer, deny
from gatepost.gate import Gate
from gatepost.replies import Reply, internal_error, refusal
from gatepost.rulings import Ruling
from gatepost.session import Envelope, Session

SPOKEN: Final = {"connect": 0, "helo": 1, "mail": 2, "rcpt": 3}
"""The phases at which a refusal may be spoken (``reject_at``), in order."""
KEPT: Final = 100
"""The number of rulings that a session, and each of its transactions, keeps for the record; the oldest go first."""


class Phases:
    """The phases of one session."""

    __slots__ = ("_gate", "_session", "records", "to_tell")

    def __init__(self, gate: Gate, session: Session, records: Records) -> None:
        self._gate = gate
        self._session = session
        self.records = records
        self.to_tell: list[Ruling] = []
        """The rulings that ``ruled`` is to be told when the reply is written: see ``tell_rulings``."""

    async def ask(
        self,
        phase: str,
        arguments: tuple[Any, ...],
        envelope: Envelope | None = None,
        recipient: Address | None = None,
    ) -> Ruling:
        """Ask a phase and keep its ruling. A phase that no plugin implements costs nothing."""
        if not self._gate.chains[phase]:
            return Ruling(phase, recipient=recipient)
        asked = self._gate.begin(phase, arguments, self._session, envelope, recipient)
        ruling = asked if isinstance(asked, Ruling) else await asked
        self.keep(ruling, envelope)
        return ruling

    async def tell_all(self, phase: str, arguments: tuple[Any, ...], envelope: Envelope | None = None) -> None:
        """Run a phase in which every implementation runs and nobody decides."""
        if self._gate.chains[phase]:
            await self._gate.ask(phase, arguments, self._session, envelope)

    def keep(self, ruling: Ruling, envelope: Envelope | None = None) -> None:
        """Keep a ruling of the transaction ``envelope``, or of the session, for the record of what it leads to."""
        holder: Session | Envelope = self._session if envelope is None else envelope
        kept = holder._rulings
        holder._rulings = (*kept, ruling) if len(kept) < KEPT else (*kept[1 - KEPT :], ruling)
        if self._gate.chains["ruled"] and ruling.remarkable:
            self.to_tell.append(ruling)

    def tell_rulings(self) -> None:
        """Tell ``ruled`` what led to the reply, now that it is written."""
        told, self.to_tell = self.to_tell, []
        for ruling in told:
            self._gate.tell("ruled", (self._session, ruling))

    def speak_or_delay(self, ruling: Ruling, sender: str | None = None) -> Reply | None:
        """Refuse at connect, helo or mail: return the reply, or None when it is to be spoken at a later phase."""
        instance = self._gate.instance(ruling.plugin)  # None for the core's own rulings, which take the default
        default = "connect" if ruling.phase == "connect" else "rcpt"
        spoken_at = (instance and instance.reject_at) or default
        if ruling.refusal.disconnect or SPOKEN[spoken_at] <= SPOKEN[ruling.phase]:
            return self.speak(ruling, sender=sender)
        ruling.spoken_at = spoken_at
        self._session._delayed = (*self._session._delayed, ruling)
        return None

    def forget_delayed(self, phase: str) -> None:
        """Forget the delayed refusals of ``phase``, which is about to be asked again."""
        self._session._delayed = tuple([ruling for ruling in self._session._delayed if ruling.phase != phase])

    def speak_due(self, phase: str, sender: str | None = None) -> Reply | None:
        """Speak the delayed refusal that is due at ``phase``, if there is one."""
        due = self.due(phase)
        return None if due is None else self.speak(due, None, phase, sender)

    def due(self, phase: str, recipient: Address | None = None) -> Ruling | None:
        """Return the delayed refusal that is due at ``phase``: the first permanent one, else the first temporary."""
        if self._session.may_relay:  # authenticated after HELO: what was held against a stranger is void
            self._session._delayed = ()
        due = [ruling for ruling in self._session._delayed if SPOKEN[ruling.spoken_at] <= SPOKEN[phase]]
        if not due:
            return None
        chosen = next((ruling for ruling in due if ruling.refusal.permanent), due[0])
        refused = chosen.refusal
        # A ruling of its own for each recipient that hears it, since each has a record of its own. Its code is that of
        # ``phase``: one given for HELO or MAIL might not fit. The first repetition takes the id over, under which a
        # failing plugin was logged; those after it get new ids.
        decision = (deny if refused.permanent else defer)(refused.text, status=refused.status)
        spoken = chosen.repeat(decision, recipient)
        chosen.id = ""
        return spoken

    def speak(
        self, ruling: Ruling, recipient: Address | None = None, phase: str = "", sender: str | None = None
    ) -> Reply:
        """Return the reply of a refusal, with the codes of ``phase`` if that is not its own, and record it."""
        phase = phase or ruling.phase
        if ruling.fault:
            reply = internal_error(ruling.identify(), close=phase == "connect")
        else:
            reply = refusal(phase, ruling.refusal, ruling.identify())
        self.refuse(ruling, reply, recipient, sender)
        return reply

    def refuse(self, ruling: Ruling, reply: Reply, recipient: Address | None = None, sender: str | None = None) -> None:
        """Record that ``ruling`` led to ``reply``, and tell ``ruled`` of it also when it came from the core itself."""
        if ruling not in self.to_tell:
            self.to_tell.append(ruling)
        self.records.add_refusal(ruling, reply, recipient, sender)
