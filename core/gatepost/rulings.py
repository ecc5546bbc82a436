"""Rulings: one ``Ruling`` for each phase that was asked, with what each plugin ``Said``.

A ruling tells which plugins were asked, what each answered, how long each took, and which answers were only observed.
``gatepost explain`` prints them from the records (``telemetry.record``).

This module only holds and prints facts; it neither rules nor writes files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mypy_extensions import mypyc_attr

from gatepost.address import Address
from gatepost.decisions import Action, Decision
from gatepost.ids import new_id


class Said:
    """One plugin's part in a ruling, never changed once it is made.

    ``answer`` is the value it returned; ``error`` says why there is no answer (exception, timeout, wrong type), and
    ``skipped`` why it was not asked at all (trusted, circuit open). ``seconds`` is how long the call took. Not a
    dataclass, for the same reason as ``Ruling``.
    """

    __slots__ = ("answer", "answers", "did", "error", "observed", "plugin", "seconds", "skipped", "withheld")

    def __init__(
        self,
        plugin: str,
        answer: Decision | None = None,
        seconds: float = 0.0,
        *,
        error: str = "",
        skipped: str = "",
        observed: bool = False,
        withheld: tuple[str, ...] = (),
        did: tuple[str, ...] = (),
        answers: tuple[tuple[str, Decision], ...] = (),
    ) -> None:
        self.plugin = plugin
        self.answer = answer
        self.seconds = seconds
        self.error = error
        self.skipped = skipped
        self.observed = observed
        self.withheld = withheld
        """Acts of an observed plugin besides its answer (trust, header edits, capabilities), which were not applied."""
        self.did = did
        """Acts of the plugin besides its answer, which were applied, such as trusting the client."""
        self.answers = answers
        """At queue: its answer for each recipient, when it did not give one answer for all."""

    def __repr__(self) -> str:
        return f"Said({self.plugin!r}, {str(self)!r})"

    def __str__(self) -> str:
        if self.skipped:
            return f"skipped: {self.skipped}"
        if self.answers:
            return "; ".join(f"<{recipient}> {decision}" for recipient, decision in self.answers)
        return self.error or "; ".join((str(self.answer or "no opinion"), *self.did))


class Ruling:
    """The outcome of asking one phase.

    Not a dataclass, whose constructor would not be compiled: a message takes eight of these.
    """

    __slots__ = (
        "decision",
        "fault",
        "id",
        "phase",
        "plugin",
        "recipient",
        "repeats",
        "seconds",
        "spoken_at",
        "trace",
        "unasked",
        "vouched",
    )

    def __init__(
        self, phase: str, trace: Iterable[Said | tuple[str, float]] = (), *, recipient: Address | None = None
    ) -> None:
        self.phase = phase
        self.trace = list(trace)
        """In the order of asking; a bare (plugin, seconds) stands for "no opinion", the common and cheap case."""
        self.decision: Decision | None = None
        """The deny, defer or accept that decided; None when no plugin did."""
        self.plugin = ""
        """The plugin that decided; ``score`` and ``gatepost`` are the core's own names."""
        self.fault = False
        """True when the decision stands for an error of ours: 451 4.3.0 without the reason."""
        self.vouched = False
        """At rcpt: True when a plugin said that the recipient is ours."""
        self.recipient = recipient
        self.repeats: Ruling | None = None
        """The delayed refusal that this one repeats to a recipient; None when the phase was asked for it."""
        self.id = ""
        self.seconds = 0.0
        self.spoken_at = ""
        """The later phase at which a delayed refusal is to be spoken."""
        self.unasked: tuple[str, ...] = ()
        """The plugins after the deciding one, which were not asked."""

    def __repr__(self) -> str:
        return f"Ruling({self.facts()})"

    @property
    def said(self) -> tuple[Said, ...]:
        """The part of each plugin, in the order of asking."""
        return tuple(said if isinstance(said, Said) else Said(said[0], seconds=said[1]) for said in self.trace)

    @property
    def refuses(self) -> bool:
        """True when the phase was denied or deferred."""
        return self.decision is not None and self.decision.refuses

    @property
    def refusal(self) -> Decision:
        """The deny or defer that decided. Raises ``ValueError`` when there is no such decision: see ``refuses``."""
        if self.decision is None or not self.decision.refuses:
            raise ValueError(f"{self!r} refuses nothing")
        return self.decision

    @property
    def remarkable(self) -> bool:
        """True when a plugin decided, failed, or was observed to answer."""
        return self.decision is not None or any(said.observed or said.error for said in self.said)

    def identify(self) -> str:
        """Return the id of this ruling's record, made when it is first needed."""
        self.id = self.id or new_id()
        return self.id

    def decide(self, decision: Decision, plugin: str, fault: bool = False) -> None:
        """Let ``plugin`` decide."""
        self.decision, self.plugin, self.fault = decision, plugin, fault

    def repeat(self, decision: Decision, recipient: Address | None) -> Ruling:
        """Return this ruling once more, as ``recipient`` hears it: in the words of ``decision``."""
        ruling = Ruling(self.phase, self.trace, recipient=recipient)
        ruling.repeats = self
        ruling.decide(decision, self.plugin, self.fault)
        ruling.id, ruling.seconds, ruling.vouched = self.id, self.seconds, self.vouched
        ruling.spoken_at, ruling.unasked = self.spoken_at, self.unasked
        return ruling

    def facts(self) -> dict[str, object]:
        """Return the ruling as plain values, for JSON."""
        return {
            "phase": self.phase,
            "recipient": str(self.recipient) if self.recipient else None,
            "outcome": str(self.decision) if self.decision else None,
            "plugin": self.plugin,
            "seconds": round(self.seconds, 6),
            "otherwise": self.without(self.plugin) if self.decision else None,
            "unasked": list(self.unasked),
            "vouched": self.vouched,
            "spoken_at": self.spoken_at,
            "said": [
                {
                    "plugin": said.plugin,
                    "answer": str(said),
                    "seconds": round(said.seconds, 6),
                    "observed": said.observed,
                    "withheld": list(said.withheld),
                }
                for said in self.said
            ],
        }

    def compact(self, observed: list[str]) -> list[object]:
        """Return the ruling in few octets, for the journal: ``expanded`` makes ``facts`` of it again.

        The usual ruling, in which no plugin had an opinion, is three values: phase, microseconds, and the plugins
        with theirs. The names of observed plugins that had one are added to ``observed``.
        """
        decision = self.decision
        outcome = None if decision is None else str(decision)
        trace: list[object] = []
        others_answered = False
        for said in self.trace:
            if not isinstance(said, Said):
                trace.append(said[0])
                trace.append(int(said[1] * 1e6 + 0.5))
                continue
            is_plain = said.answer is decision and not said.did and not said.answers and not said.skipped
            text = outcome if is_plain and outcome is not None else str(said)
            trace.append((said.plugin, text, int(said.seconds * 1e6 + 0.5), said.observed, said.withheld))
            if said.observed:
                if (said.answer or said.answers or said.withheld) and said.plugin not in observed:
                    observed.append(said.plugin)
            elif said.answer is not None and said.plugin != self.plugin:
                others_answered = True
        compact: list[object] = [self.phase, int(self.seconds * 1e6 + 0.5), trace]
        if decision is not None or self.recipient is not None or self.unasked or self.vouched or self.plugin:
            compact += (
                None if self.recipient is None else str(self.recipient),
                outcome,
                self.plugin,
                self.without(self.plugin) if others_answered and decision is not None else None,
                self.unasked,
                self.vouched,
                self.spoken_at,
            )
        return compact

    def without(self, plugin: str) -> str:
        """Return, in words, the outcome if ``plugin`` had been silent and the others had answered the same."""
        rest = [said for said in self.said if said.plugin != plugin and not said.observed and said.answer]
        refusals = [said for said in rest if said.answer and said.answer.refuses]
        if refusals:
            return f"{refusals[0].plugin} would have said {refusals[0].answer}"
        accepted = any(said.answer and said.answer.action is Action.ACCEPT for said in rest)
        return "accepted" if accepted and not self.unasked else _without(self.unasked)


def _without(unasked: Sequence[str]) -> str:
    """Return the outcome in words if nobody else had answered."""
    return f"unknown: {', '.join(unasked)} would have been asked" if unasked else "nobody would have decided"


def expanded(compact: list[Any]) -> dict[str, object]:
    """Return the facts of a ruling that ``Ruling.compact`` has made short."""
    phase, micro, trace, *rest = compact
    recipient, outcome, plugin, otherwise, unasked, vouched, spoken_at = rest or (None, None, "", None, [], False, "")
    said: list[dict[str, object]] = []
    parts = iter(trace)
    for part in parts:
        name, answer, took, observed, withheld = (
            (part, "no opinion", next(parts), False, []) if isinstance(part, str) else part
        )
        said.append(
            {"plugin": name, "answer": answer, "seconds": took / 1e6, "observed": observed, "withheld": withheld}
        )
    return {
        "phase": phase,
        "recipient": recipient,
        "outcome": outcome,
        "plugin": plugin,
        "seconds": micro / 1e6,
        "otherwise": _without(unasked) if outcome is not None and otherwise is None else otherwise,
        "unasked": unasked,
        "vouched": vouched,
        "spoken_at": spoken_at,
        "said": said,
    }


@mypyc_attr(native_class=False)  # plugins may copy and pickle it
@dataclass(frozen=True, slots=True)
class Receipt:
    """The argument of the ``queued`` hook: where the message went, and the words of our reply."""

    id: str
    text: str
    """The text of our 250, with the next hop's own queue id where it gave one."""
    plugins: tuple[str, ...]
    """The delivery plugins that took recipients."""
