"""The check that two clients who are connected at the same time are kept apart.

A plugin object serves all clients. What it keeps of one in ``self`` is seen by the next one, and the classic mistake is
``self.sender = sender`` at MAIL and a verdict about ``self.sender`` at RCPT. It shows only when the commands of two
clients alternate, and then only if their verdicts differ. So this check looks twice:

* It plays two clients alone, then together in three orders: either of them first at each step, and both at once, so
  that both wait in one phase. Each must get the replies that it got alone. They differ in all that they say, and in
  one of the worlds only one of them has records in DNS.
* It watches the attributes of the plugin: a value that was set to what one client had said, and is read while another
  client is served, is that client's.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

from gatepost.address import Address
from gatepost.plugins import hooks_of
from gatepost.replies import Reply as CoreReply
from gatepost.services.dns import reversed_address
from gatepost.session import Envelope, Session
from gatepost.testing.client import Client
from gatepost.testing.clock import wait_for
from gatepost.testing.conformance.probe import Probe
from gatepost.testing.conformance.sessions import ANOTHER, ORDINARY, Visit, start_policy
from gatepost.testing.conformance.subject import ANSWERING, RECORDS, NotApplicableError, Subject, World
from gatepost.testing.policy import Policy
from gatepost.testing.reply import Reply

FIRST, SECOND = ORDINARY[1], ANOTHER
"""Two clients with the same number of commands."""
ONE_LISTED = replace(
    ANSWERING,
    name="a world in which only one client has records in DNS",
    records={},
    of_names=(("example.com", RECORDS), (reversed_address(FIRST.client), RECORDS)),
)

_DIGITS = re.compile(r"[0-9]+")

Said = tuple[int, str | None, str]
"""What a client is told: code, status, and the text of a refusal."""


async def apart(subject: Subject) -> list[str]:
    """A client does not change the replies to another one that is connected at the same time."""
    subject.fresh()
    found: list[str] = []
    for world in (ANSWERING, ONE_LISTED):
        found += await _compared(subject, world)
    return list(dict.fromkeys(found))


async def _compared(subject: Subject, world: World) -> list[str]:
    """Return a sentence for each value that one client leaves for the other, or the first reply that differs."""
    alone = await _alone(subject, world)
    if alone != await _alone(subject, world):
        raise NotApplicableError("its answers differ from run to run")
    for order in (_first_before, _second_before, _at_once):
        together, mixed_up = await _together(subject, world, order)
        if mixed_up:
            return mixed_up
        for visit, expected, got in zip((FIRST, SECOND), alone, together, strict=True):
            for line, one, other in zip(("its connection", *visit.lines), expected, got, strict=False):
                if one != other:
                    told = f"at {line} a client gets {_shown(other)} if another one is connected"
                    return [f"{told}, otherwise {_shown(one)}"]
    return []


def _shown(said: Said) -> str:
    code, status, text = said
    return f"{code} {status or ''} {text}".strip()


# Playing.


class _Player:
    """A client that takes its steps one by one."""

    def __init__(self, client: Client, visit: Visit) -> None:
        self.client = client
        self.said: list[Said] = []
        self._visit = visit

    async def step(self, number: int) -> None:
        """Connect as step 0, then say one command after the other."""
        rehearsal = self.client.rehearsal
        if number == 0:
            reply = await rehearsal.connect()
        elif rehearsal.closed:
            return
        else:
            line = self._visit.lines[number - 1]
            reply = await rehearsal.say(line)
            if line == "DATA" and reply.code == 354:
                reply = await rehearsal.send(self._visit.content)
        self.said.append(_said(reply))


def _said(answer: CoreReply) -> Said:
    """Return a reply without what differs from run to run: ids, and numbers such as seconds to wait."""
    reply = Reply.read(answer.wire)
    return reply.code, reply.status, "" if reply.accepted else _DIGITS.sub("#", reply.text)


async def _first_before(first: Coroutine[Any, Any, None], second: Coroutine[Any, Any, None]) -> None:
    await first
    await second


async def _second_before(first: Coroutine[Any, Any, None], second: Coroutine[Any, Any, None]) -> None:
    await second
    await first


async def _at_once(first: Coroutine[Any, Any, None], second: Coroutine[Any, Any, None]) -> None:
    await asyncio.gather(first, second)


def _client(policy: Policy, visit: Visit) -> Client:
    return Client(policy, policy.gate, visit.client, talks_early=False, listener="smtp", port=0)


async def _alone(subject: Subject, world: World) -> tuple[list[Said], list[Said]]:
    return (await _played(subject, world, FIRST)), (await _played(subject, world, SECOND))


async def _played(subject: Subject, world: World, visit: Visit) -> list[Said]:
    """Return the replies to a client that is alone."""
    policy = await start_policy(subject, world)
    Probe(policy, subject.name)
    player = _Player(_client(policy, visit), visit)
    for number in range(len(visit.lines) + 1):
        await wait_for(player.step(number), policy.clock)
    await player.client.close()
    await policy.close()
    return player.said


async def _together(subject: Subject, world: World, order: Any) -> tuple[tuple[list[Said], list[Said]], list[str]]:
    """Return the replies to both clients, and a sentence for each attribute that one leaves for the other."""
    policy = await start_policy(subject, world)
    watched = _Watched(policy.plugin(subject.name))
    Probe(policy, subject.name, serving=watched.serving)
    players = [_Player(_client(policy, visit), visit) for visit in (FIRST, SECOND)]
    for number in range(len(FIRST.lines) + 1):
        await wait_for(order(*(player.step(number) for player in players)), policy.clock)
    for player in players:
        await player.client.close()
    await policy.close()
    return (players[0].said, players[1].said), watched.findings


# Watching.


class _Watched:
    """The attributes of a plugin object, while two clients are served.

    The object gets a subclass of its class that looks on, if it is an ordinary object. ``serving`` is the variable in
    which the probe says whom the plugin is asked about.
    """

    def __init__(self, plugin: Any) -> None:
        self.serving: ContextVar[tuple[Any, ...]] = ContextVar("serving", default=())
        self.findings: list[str] = []
        self._set: dict[str, Session] = {}
        """The session that an attribute was set for, if it was set to what its client had said."""
        if any(True for _ in hooks_of(type(plugin))):
            with suppress(TypeError):  # a class that cannot have such a subclass
                plugin.__class__ = self._subclass(type(plugin))

    def _subclass(self, kind: Any) -> type:
        def write(this: Any, name: str, value: Any) -> None:
            kind.__setattr__(this, name, value)
            session = self._session
            self._set.pop(name, None)
            if session is not None and any(value is each for each in _words(self.serving.get())):
                self._set[name] = session

        def read(this: Any, name: str) -> Any:
            session, owner = self._session, self._set.get(name)
            if session is not None and owner is not None and owner is not session:
                finding = f"self.{name} holds what one client has said when another one is served"
                self.findings.append(f"{finding}: keep it in session.notes(self)")
                del self._set[name]
            return kind.__getattribute__(this, name)

        body = {"__slots__": (), "__setattr__": write, "__getattribute__": read, "__module__": kind.__module__}
        return type(kind.__name__, (kind,), body)

    @property
    def _session(self) -> Session | None:
        return next((each for each in self.serving.get() if isinstance(each, Session)), None)


def _words(arguments: tuple[Any, ...]) -> Iterator[Any]:
    """Yield what the client of a call has said, and what holds it."""
    for each in arguments:
        if isinstance(each, Session):
            yield from (each, each.client, *filter(None, (each.helo,)))
        elif isinstance(each, Envelope):
            yield from (each, each.sender, *each.recipients)
        elif isinstance(each, Address | str) and each:
            yield each
