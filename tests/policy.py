"""What unit tests of the gate and of plugins share: a policy without sockets, on a virtual clock, with scripted DNS."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gatepost import DNSTemporaryError, accept, hookimpl
from gatepost.chain import Instance, Mode
from gatepost.composition import Score
from gatepost.config.model import Limits
from gatepost.decisions import Reply
from gatepost.plugins import make_gate
from gatepost.rehearsal import Rehearsal
from gatepost.rulings import Record
from gatepost.services.clock import VirtualClock, settle
from gatepost.services.dns import Resolver, reversed_address
from gatepost.services.store import MemoryBackend
from gatepost.site import Site
from gatepost.spool import Spool

MESSAGE = b"From: a@example.com\r\nTo: b@example.org\r\nSubject: hello\r\n\r\nHello.\r\n"


class Events:
    """A recorder that keeps all it is told."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.events: list[tuple[str, dict[str, object]]] = []

    def record(self, record: Record) -> None:
        self.records.append(record)

    def event(self, name: str, level: str = "info", **facts: object) -> None:
        self.events.append((name, facts))

    def named(self, name: str) -> list[dict[str, object]]:
        """The facts of all events called ``name``."""
        return [facts for event, facts in self.events if event == name]


class ScriptedDNS(Resolver):
    """DNS from a table: (name, kind) → answers, or an exception to raise. Everything else does not exist.

    ``delays`` holds virtual seconds for a (name, kind); ``asked`` what was asked.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.answers: dict[tuple[str, str], tuple[str, ...] | Exception] = {}
        self.delays: dict[tuple[str, str], float] = {}
        self.asked: list[tuple[str, str]] = []
        self._clock = clock

    async def query(self, name: str, kind: str, *, timeout: float | None = None) -> tuple[str, ...]:
        question = (name.rstrip(".").lower(), kind)
        self.asked.append(question)
        delay = self.delays.get(question, 0.0)
        if timeout is not None and delay > timeout:
            await self._clock.sleep(timeout)
            raise DNSTemporaryError(f"no answer for {name} in {timeout:g} s")
        if delay:
            await self._clock.sleep(delay)
        answer = self.answers.get(question, ())
        if isinstance(answer, Exception):
            raise answer
        return answer

    def name(self, address: str, *names: str) -> None:
        """Give ``address`` names that lead back to it."""
        zone = "ip6.arpa" if ":" in address else "in-addr.arpa"
        self.answers[f"{reversed_address(address)}.{zone}", "PTR"] = names
        for name in names:
            self.answers[name, "AAAA" if ":" in address else "A"] = (address,)


class Policy:
    """A gate over plugin objects, and what it needs around it. ``Policy(a, b)`` asks a, then b.

    Keyword arguments of ``instance`` set what the configuration would: ``Policy(instance(plugin, mode="observe"))``.
    """

    def __init__(
        self,
        *plugins: Any,
        score: Score | None = None,
        limits: Mapping[str, Any] | None = None,
        clock: Any = None,
        **site: Any,
    ) -> None:
        self.clock = clock or VirtualClock()
        self.dns = ScriptedDNS(self.clock)
        self.store = MemoryBackend(self.clock)
        self.events = Events()
        self.site = Site(
            hostname="mx.example.org",
            clock=self.clock,
            resolver=self.dns,
            marks=self.store.namespace("gatepost"),
            spool=Spool(site.pop("folder", None)),
            limits=Limits.model_validate(dict(limits or {})),
            recorder=self.events,
            **site,
        )
        instances = [
            plugin
            if isinstance(plugin, Instance)
            else instance(plugin, name=f"{type(plugin).__name__.lower()}{number}")
            for number, plugin in enumerate(plugins)
        ]
        self.gate = make_gate(instances, self.clock, self.events, score=score)

    async def connect(self, client: str = "192.0.2.1", **how: Any) -> Client:
        """A client that has connected; its banner is in ``client.banner``."""
        made = Client(self, client, **how)
        made.banner = await made.wait_for(made.rehearsal.connect())
        return made


class Client:
    """A client of a policy: says commands, gets replies, and moves the clock when everybody waits."""

    def __init__(self, policy: Policy, client: str, **how: Any) -> None:
        self.policy = policy
        self.rehearsal = Rehearsal(policy.gate, policy.site, client, **how)
        self.session = self.rehearsal.session
        self.banner: Reply
        self.waited = 0.0

    async def wait_for(self, work: Any) -> Any:
        """Run ``work``, moving the clock to the next timer whenever nothing else happens."""
        before = self.policy.clock.monotonic()
        task = asyncio.ensure_future(work)
        await settle()
        while not task.done():
            await settle()  # what needs no time takes none
            if not task.done() and not await self.policy.clock.jump():
                await asyncio.sleep(0.001)  # a thread is at work
        self.waited = self.policy.clock.monotonic() - before
        return await task

    async def say(self, line: str | bytes, **how: Any) -> Reply:
        """One command, one reply."""
        return await self.wait_for(self.rehearsal.say(line, **how))

    async def ehlo(self, name: str = "client.example.com") -> Reply:
        return await self.say(f"EHLO {name}")

    async def mail(self, sender: str = "a@example.com", parameters: str = "") -> Reply:
        return await self.say(f"MAIL FROM:<{sender}> {parameters}".strip())

    async def rcpt(self, recipient: str = "b@example.org") -> Reply:
        return await self.say(f"RCPT TO:<{recipient}>")

    async def data(self, content: bytes = MESSAGE) -> Reply:
        """DATA and the message: the reply to the final dot, or to DATA when that is refused."""
        reply = await self.say("DATA")
        return await self.wait_for(self.rehearsal.send(content)) if reply.code == 354 else reply

    async def transaction(
        self, sender: str = "a@example.com", recipient: str = "b@example.org", content: bytes = MESSAGE
    ) -> Reply:
        """EHLO if needed, MAIL, RCPT, DATA: the last reply, or the first refusal."""
        if not self.session.helo:
            await self.ehlo()
        for reply in (await self.mail(sender), await self.rcpt(recipient)):
            if reply.code >= 400:
                return reply
        return await self.data(content)

    async def close(self) -> None:
        await self.wait_for(self.rehearsal.close())


def instance(plugin: Any, name: str = "", **settings: Any) -> Instance:
    """A configured plugin, with what its class declares and ``settings`` over it."""
    grants = getattr(plugin, "grants", ())
    settings["mode"] = Mode(settings.get("mode", "enforce"))
    settings.setdefault("on_error", getattr(plugin, "on_error", "defer"))
    return Instance(
        name=name or type(plugin).__name__.lower(),
        plugin=plugin,
        grants=frozenset((grants,) if isinstance(grants, str) else grants),
        skip_trusted=getattr(plugin, "skip_trusted", False),
        longest_wait=getattr(plugin, "longest_wait", 0.0),
        **settings,
    )


def saying(phase: str, answer: Any, **declared: Any) -> Any:
    """A plugin object that says ``answer`` at ``phase``. ``declared`` are class attributes such as ``grants``."""

    def hook(self: Any) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    return type("Saying", (), {phase: hookimpl(hook), **declared})()


def vouching() -> Any:
    """Vouches for every recipient."""
    return saying("rcpt", accept(), grants="recipients")


def delivering(text: str = "taken") -> Any:
    """Takes every message and forgets it."""
    return saying("queue", accept(text), grants="delivery")
