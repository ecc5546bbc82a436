"""A rehearsal: one session over a gate without sockets, for ``gatepost try`` and for tests.

It drives the very conversation that the doors drive. With a virtual clock a wait takes no time.
"""

from __future__ import annotations

import asyncio

from gatepost.conversation import Conversation
from gatepost.decisions import Reply
from gatepost.gate import Gate
from gatepost.message import BLOCK
from gatepost.rulings import Ruling
from gatepost.session import Session
from gatepost.site import Site


class Rehearsal:
    """One client. ``talks_early``: it does not wait for the greeting. ``listener`` is what the session is told."""

    def __init__(
        self, gate: Gate, site: Site, client: str, *, talks_early: bool = False, listener: str = "smtp"
    ) -> None:
        self._talks_early = talks_early
        self._site = site
        self.session = Session(client, site=site, door=self, listener=listener)
        self.conversation = Conversation(gate, site, self.session)
        self.closed = False

    def silence(self, seconds: float) -> asyncio.Future[bool]:
        """The client is silent, unless it talks early."""
        silent: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self._talks_early:
            self.session.early_talk |= {"connect"}
            silent.set_result(False)
        else:
            self._site.clock.call_later(seconds, lambda: silent.done() or silent.set_result(True))  # type: ignore[func-returns-value]
        return silent

    async def connect(self) -> Reply:
        """Connect: the banner, or a refusal."""
        gate = self.conversation.gate
        ruling = Ruling("connect")
        if gate.chains["connect"]:
            ruling = await gate.ask("connect", (self.session,), self.session)
        return self._replied(self.conversation.opened(ruling) or await self.conversation.greet())

    async def say(self, line: str | bytes, *, behind: bool = False) -> Reply:
        """Say one command line (without its line end) and hear the reply. ``behind``: more has been sent already."""
        octets = line.encode() if isinstance(line, str) else line
        return self._replied(await self.conversation.command(octets, behind))

    async def send(self, content: bytes) -> Reply:
        """Send a message after 354, dot-stuffed and ended here. Its line ends go as they are."""
        if content and not content.endswith(b"\r\n"):
            content += b"\r\n"
        stuffed = content.replace(b"\r\n.", b"\r\n..")
        await self.feed((b"." if stuffed.startswith(b".") else b"") + stuffed + b".\r\n")
        return self._replied(await self.conversation.end_of_data())

    async def feed(self, octets: bytes) -> bytes:
        """Feed octets of DATA as they come from a socket. Returns what follows the end of data."""
        rest = None
        for start in range(0, len(octets), BLOCK):
            intake = self.conversation.intake
            assert intake is not None, "not in DATA"
            rest = intake.feed(octets[start : start + BLOCK])
            if intake.headers_done:
                await self.conversation.headers()
        return b"" if rest is None else rest

    async def close(self) -> None:
        """Leave."""
        self.closed = True
        await self.conversation.close()

    def _replied(self, reply: Reply) -> Reply:
        self.conversation.replied()
        self.closed = self.closed or reply.close
        return reply
