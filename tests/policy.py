"""Helpers for tests of the core beyond the kit of plugin authors: no stand-ins, unchecked instances, bare replies.

A test of a plugin uses ``gatepost.testing`` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatepost import Decision, Message, accept, hookimpl, testing
from gatepost.gate.gate import Gate
from gatepost.gate.instance import Instance, Mode
from gatepost.gate.score import Score
from gatepost.plugins.contract import declaration_of
from gatepost.plugins.load import Policy as LoadedPolicy
from gatepost.replies import Reply
from gatepost.testing import MESSAGE, saying
from gatepost.testing.loading import policy_of
from gatepost.testing.recording import GateEvents as Events

__all__ = ["MESSAGE", "Client", "Events", "Keeps", "Policy", "delivering", "instance", "saying", "vouching"]


class Policy(testing.Policy):
    """A gate over plugin objects, and what it needs around it. ``Policy(a, b)`` asks a, then b.

    Keyword arguments of ``instance`` set what the configuration would: ``Policy(instance(plugin, mode="observe"))``.
    ``site`` are attributes of the site.
    """

    def __init__(
        self,
        *plugins: Any,
        score: Score | None = None,
        limits: Mapping[str, Any] | None = None,
        clock: Any = None,
        folder: Any = None,
        **runtime: Any,
    ) -> None:
        self._points = score
        super().__init__(
            *plugins,
            bare=True,
            dns="lenient",
            startup=False,
            limits=limits,
            clock=clock,
            spool=folder,
            failures="expected",
        )
        for name, value in runtime.items():
            setattr(self.runtime, name, value)

    def _load(self, plugins: tuple[Any, ...]) -> LoadedPolicy:
        instances = [
            plugin
            if isinstance(plugin, Instance)
            else instance(plugin, name=f"{type(plugin).__name__.lower()}{number}")
            for number, plugin in enumerate(plugins)
        ]
        return policy_of(instances, self.services, self.events, self._points)

    @property
    def gate(self) -> Gate:
        """The gate; a test may put another one in its place."""
        return self.loaded.default

    @gate.setter
    def gate(self, gate: Gate) -> None:
        self.loaded.default = gate

    async def connect(self, client: str = "192.0.2.1", **how: Any) -> Client:
        """A client that has connected; its banner is in ``client.banner``."""
        made = Client(self, client, **how)
        await made.connect()
        return made


class Client(testing.Client):
    """A client whose replies are the conversation's own."""

    def __init__(self, policy: Policy, address: str, **how: Any) -> None:
        super().__init__(policy, policy.gate, address, **{"talks_early": False, "listener": "smtp", "port": 0, **how})

    async def _heard(self, work: Any) -> Any:
        return await self.wait_for(work)

    async def say(self, line: str | bytes, *, behind: bool = False) -> Any:
        """Send a command line. A test of the core may do so when the connection is closed, unlike a plugin's test."""
        return await self._heard(self.rehearsal.say(line, behind=behind))

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


def instance(plugin: Any, name: str = "", **settings: Any) -> Instance:
    """Return a configured plugin with its declarations and with ``settings``, which nothing has checked."""
    declaration = declaration_of(plugin)
    settings["mode"] = Mode(settings.get("mode", "enforce"))
    settings.setdefault("on_error", declaration.on_error)
    return Instance(name or type(plugin).__name__.lower(), plugin, declaration, **settings)


class Keeps:
    """Vouches for every recipient, takes every message, and keeps the last one as it leaves."""

    grants = ("recipients", "delivery")

    def __init__(self) -> None:
        self.content = b""

    @hookimpl
    def rcpt(self) -> Decision:
        return accept()

    @hookimpl
    def queue(self, message: Message) -> Decision:
        self.content = b"".join(message.blocks())
        return accept()


def vouching() -> Any:
    """Vouches for every recipient."""
    return saying("rcpt", accept(), grants="recipients")


def delivering(text: str = "taken") -> Any:
    """Takes every message and forgets it."""
    return saying("queue", accept(text), grants="delivery")
