"""Properties that hold for every policy and every session, tested over generated ones.

The outcome never depends on which look-up ends first. Observing a plugin changes nothing. An error neither accepts nor
refuses for good. Nobody opens a relay, logs in or takes a message without the grant. The order shown is the order run.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gatepost import Address, Session, accept, defer, deny, hookimpl, points
from gatepost.decisions import Action, Decision
from gatepost.gate.chain import arguments_of
from gatepost.gate.instance import Instance
from gatepost.gate.score import Score
from gatepost.session import Envelope
from tests.policy import MESSAGE, Client, Policy, instance
from tests.properties import examples

PHASES = ("connect", "helo", "mail", "rcpt", "data", "headers", "message", "queue")
TIME_LIMIT = 3.0
HANGS = "hangs"
LOOKS = "looks"
"""An answer that depends on what the session is like at the moment of asking."""


@dataclass(frozen=True)
class Part:
    """The behaviour of a generated plugin in one phase."""

    answer: Any
    kind: str = "plain"
    seconds: float = 0.0
    meddles: bool = False
    """True if it trusts the client and edits what it is given."""


@dataclass(frozen=True)
class Plugin:
    """A generated plugin: what it does in each phase, and what it declares."""

    parts: dict[str, Part]
    grants: tuple[str, ...] = ()
    on_error: str = "defer"
    skip_trusted: bool = False
    mode: str = "enforce"
    reject_at: str | None = None


@dataclass(frozen=True)
class Transaction:
    """The commands of a generated client."""

    helo: bool
    sender: str
    recipients: tuple[str, ...]


@dataclass
class Outcome:
    """The outcome of a session: every reply, which plugin took what, and the state afterwards."""

    replies: list[str] = field(default_factory=list)
    taken: list[tuple[str, bytes]] = field(default_factory=list)
    trusted: str = ""


# Generated policies and sessions.

ANSWERS = st.one_of(
    st.none(),
    st.just(LOOKS),
    st.just(accept()),
    st.builds(points, st.sampled_from([-2.0, 1.0, 2.0]), st.sampled_from(["x", "y"])),
    st.sampled_from([deny("no"), defer("later"), deny("gone", disconnect=True), defer("busy", disconnect=True)]),
)
ERRORS = st.sampled_from(
    [ValueError("x"), SystemExit(), asyncio.CancelledError(), HANGS, True, "text", {"a": accept()}]
)
SECONDS = st.sampled_from([0.0, 0.5, 1.5, 2.5])
RECIPIENTS = st.sampled_from(["one@example.org", "two@example.org", "postmaster"])
SESSIONS = st.lists(
    st.builds(
        Transaction,
        helo=st.booleans(),
        sender=st.sampled_from(["a@example.com", "c@example.net", ""]),
        recipients=st.lists(RECIPIENTS, min_size=1, max_size=3).map(tuple),
    ),
    min_size=1,
    max_size=2,
)  # fmt: skip
SCORES = st.sampled_from([None, Score(2.0, 3.0), Score(None, 1.0)])


def parts(answers: st.SearchStrategy[Any]) -> st.SearchStrategy[Part]:
    return st.builds(Part, answers, st.sampled_from(["plain", "async", "ahead"]), SECONDS, st.booleans())


def plugins(
    answers: st.SearchStrategy[Any], phases: tuple[str, ...] = PHASES, **fixed: Any
) -> st.SearchStrategy[Plugin]:
    return st.builds(
        Plugin,
        st.dictionaries(st.sampled_from(phases), parts(answers), min_size=1, max_size=5),
        on_error=st.sampled_from(["defer", "pass"]),
        skip_trusted=st.booleans(),
        reject_at=st.sampled_from([None, "connect", "helo", "mail", "rcpt"]),
        **fixed,
    )


CHAINS = st.lists(plugins(ANSWERS | ERRORS), max_size=4)
GREEDY = st.lists(plugins(st.just(accept()) | ANSWERS | ERRORS, ("rcpt", "data", "queue")), min_size=1, max_size=4)
VOUCHES = Plugin({"rcpt": Part(accept())}, grants=("recipients",))
TAKES = Plugin({"queue": Part(accept("taken"))}, grants=("delivery",))


def is_ahead(phase: str, part: Part) -> bool:
    """No delivery may run ahead."""
    return part.kind == "ahead" and phase != "queue"


# Running them.


class World:
    """A policy of generated plugins, and what they do to it."""

    def __init__(self, chain: list[Plugin], score: Score | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.taken: list[tuple[str, bytes]] = []
        self.policy = Policy(*(self.instance(plugin, f"p{number}") for number, plugin in enumerate(chain)), score=score)

    def instance(self, plugin: Plugin, name: str) -> Instance:
        hooks = {phase: self.hook(plugin, phase, part, name) for phase, part in plugin.parts.items()}
        made = type("Generated", (), {**hooks, "grants": plugin.grants, "skip_trusted": plugin.skip_trusted})()
        return instance(
            made, name, mode=plugin.mode, on_error=plugin.on_error, reject_at=plugin.reject_at, time_limit=TIME_LIMIT
        )

    def hook(self, plugin: Plugin, phase: str, part: Part, name: str) -> Any:
        async def waits(generated: Any, session: Session) -> Any:
            answer = self.act(phase, part, name, session)
            if seconds := 1000.0 if answer is HANGS else part.seconds:
                await self.policy.clock.sleep(seconds)
            return self.say(plugin, phase, name, answer, session)

        def at_once(generated: Any, session: Session) -> Any:
            return self.say(plugin, phase, name, self.act(phase, part, name, session), session)

        if part.kind == "plain":
            return hookimpl(at_once)
        return hookimpl(ahead=True)(waits) if is_ahead(phase, part) else hookimpl(waits)

    def act(self, phase: str, part: Part, name: str, session: Session) -> Any:
        """The effects of a call of a plugin, and its answer."""
        self.asked.append((phase, name))
        if part.meddles and not is_ahead(phase, part):
            session.trust(f"{name} {phase}")
            if session.envelope is not None and session.envelope.message is not None:
                session.envelope.message.prepend(f"X-{name}", phase)
        if part.answer is LOOKS:
            return defer("trusted") if session.trusted else None
        return part.answer

    def say(self, plugin: Plugin, phase: str, name: str, answer: Any, session: Session) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        accepts = isinstance(answer, Decision) and answer.action is Action.ACCEPT
        if phase == "queue" and accepts and "delivery" in plugin.grants:
            assert session.envelope is not None and session.envelope.message is not None
            content = b"".join(session.envelope.message.blocks())
            self.taken.append((name, re.sub(rb"Received: (?s:.*?)\r\n(?=\S)", b"", content)))
        return answer

    async def run(self, session: list[Transaction]) -> Outcome:
        """Return the outcome of ``session``, without the ids, which differ each time."""
        outcome = Outcome(taken=self.taken)
        client = await self.policy.connect()
        await self.hold(client, session, outcome)
        await client.close()
        outcome.trusted = client.session.trusted
        outcome.replies = [re.sub(r"\[[0-9a-z]{10}\]|queued as [0-9a-z]{10}", "ID", reply) for reply in outcome.replies]
        return outcome

    async def hold(self, client: Client, session: list[Transaction], outcome: Outcome) -> None:
        outcome.replies.append(client.banner.wire.decode())
        for number, transaction in enumerate(session):
            lines = [f"EHLO host{number}.example.com"] if transaction.helo or not number else []
            lines += [f"MAIL FROM:<{transaction.sender}>"]
            lines += [f"RCPT TO:<{recipient}>" for recipient in transaction.recipients]
            for line in [*lines, "DATA"]:
                if client.rehearsal.closed:
                    return
                reply = await client.say(line)
                outcome.replies.append(f"{line.split()[0]} {reply.wire.decode()}")
            if reply.code == 354:
                reply = await client.wait_for(client.rehearsal.send(MESSAGE))
                outcome.replies.append(f"dot {reply.wire.decode()}")
            elif not client.rehearsal.closed:
                outcome.replies.append((await client.say("RSET")).wire.decode())


async def outcome_of(chain: list[Plugin], session: list[Transaction], score: Score | None = None) -> Outcome:
    return await World(chain, score).run(session)


def with_seconds(chain: list[Plugin], seconds: list[float]) -> list[Plugin]:
    """The same plugins, whose look-ups take other times."""
    times = itertools.cycle(seconds)
    return [
        replace(plugin, parts={phase: replace(part, seconds=next(times)) for phase, part in plugin.parts.items()})
        for plugin in chain
    ]


@examples(250)
@given(CHAINS, SESSIONS, SCORES, st.lists(SECONDS, min_size=1, max_size=8))
async def test_the_outcome_never_depends_on_which_look_ups_finish_first(
    chain: list[Plugin], session: list[Transaction], score: Score | None, seconds: list[float]
) -> None:
    chain = [VOUCHES, *chain, TAKES]
    assert await outcome_of(chain, session, score) == await outcome_of(with_seconds(chain, seconds), session, score)


@examples(250)
@given(CHAINS, SESSIONS, SCORES, plugins(ANSWERS | ERRORS, mode=st.just("observe")), st.integers(0, 6))
async def test_observing_a_plugin_changes_no_outcome_and_no_side_effect(
    chain: list[Plugin], session: list[Transaction], score: Score | None, observed: Plugin, place: int
) -> None:
    chain = [VOUCHES, *chain, TAKES]
    names = [f"p{number}" for number in range(len(chain))]
    without, watched = World(chain, score), World(chain, score)
    made = watched.instance(observed, "observed")
    instances = list(watched.policy.gate.instances)
    instances.insert(min(place, len(instances)), made)
    watched.policy = Policy(*instances, score=score)
    assert await watched.run(session) == await without.run(session)
    assert [asked for asked in watched.asked if asked[1] in names] == without.asked


@examples(200)
@given(
    st.lists(plugins(st.none() | st.just(accept()) | st.just(defer("later")) | ERRORS), max_size=4),
    SESSIONS,
    st.sampled_from(["recipients", "delivery"]),
    ERRORS,
    st.sampled_from(["defer", "pass"]),
)
async def test_an_error_neither_accepts_nor_refuses_for_good(
    chain: list[Plugin], session: list[Transaction], grant: str, error: Any, on_error: str
) -> None:
    """Nobody denies here, and the one who may grant fails: what is refused is refused for now, what needs it fails."""
    phase = {"recipients": "rcpt", "delivery": "queue"}[grant]
    fails = Plugin({phase: Part(error, "async")}, grants=(grant,), on_error=on_error)
    chain = [fails if plugin.grants == (grant,) else plugin for plugin in (VOUCHES, *chain, TAKES)]
    outcome = await outcome_of(chain, session)
    codes = [(verb, code) for verb, code in map(_verb_and_code, outcome.replies) if code != 503]
    assert not [code for _, code in codes if code >= 500]
    assert outcome.taken == []
    assert ("dot", 250) not in codes
    if grant == "recipients":
        assert ("RCPT", 250) not in codes


def _verb_and_code(reply: str) -> tuple[str, int]:
    found = re.match(r"(?:([A-Za-z]+) )?(\d{3})", reply)
    assert found is not None
    return found[1] or "", int(found[2])


@examples(200)
@given(GREEDY, SESSIONS, SCORES, st.booleans())
async def test_without_a_grant_nobody_opens_a_relay_logs_in_or_takes_a_message(
    chain: list[Plugin], session: list[Transaction], score: Score | None, others: bool
) -> None:
    other_grants = ("logins", "delivery") if others else ()
    world = World([replace(plugin, grants=other_grants) for plugin in chain], score)
    outcome = await world.run(session)
    codes = [_verb_and_code(reply) for reply in outcome.replies]
    assert ("RCPT", 250) not in codes
    assert outcome.taken == []

    logins = Policy(*(instance(_logging_in(plugin), f"p{number}") for number, plugin in enumerate(chain)))
    client = Client(logins, "192.0.2.1")
    ruling = await client.wait_for(logins.gate.ask("auth", (client.session, "PLAIN", object()), client.session))
    assert ruling.decision is None or ruling.decision.refuses

    mail = World([VOUCHES, *(replace(plugin, grants=("recipients",)) for plugin in chain)], score)
    outcome = await mail.run(session)
    assert ("dot", 250) not in [_verb_and_code(reply) for reply in outcome.replies]
    assert outcome.taken == []


def _logging_in(plugin: Plugin) -> Any:
    """A plugin without grants that says at auth what the generated one says first."""
    answer = next((part.answer for part in plugin.parts.values() if part.answer not in (HANGS, LOOKS)), accept())

    def auth(self: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return type("LogsIn", (), {"auth": hookimpl(auth)})()


@examples(250)
@given(CHAINS, st.booleans(), st.sampled_from(PHASES))
async def test_the_order_shown_is_the_order_run(chain: list[Plugin], trusted: bool, phase: str) -> None:
    world = World(chain)
    gate = world.policy.gate
    configured = {f"p{number}": plugin for number, plugin in enumerate(chain)}
    assert list(gate.order(phase)) == [name for name, plugin in configured.items() if phase in plugin.parts]
    client = Client(world.policy, "192.0.2.1")
    client.session._may_relay = trusted
    given = {"session": client.session, "envelope": Envelope(Address.parse("a@example.com"), {})}
    arguments = tuple(given.get(name) for name in arguments_of(phase))
    ruling = await client.wait_for(gate.ask(phase, arguments, client.session))
    assert (*(said.plugin for said in ruling.said), *ruling.unasked) == gate.order(phase)
    in_turn = [name for name in gate.order(phase) if not is_ahead(phase, configured[name].parts[phase])]
    asked = [said.plugin for said in ruling.said if not said.skipped and said.plugin in in_turn]
    assert [name for _, name in world.asked if name in in_turn] == asked
