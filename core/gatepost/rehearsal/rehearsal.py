"""A rehearsal: one session over a gate without sockets, for ``gatepost try`` and for tests.

It drives the same conversation as the doors. On a virtual clock a wait takes no time. On a hasty clock it takes none
either, but DNS and next hops, which are real there, get the time that they need.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from gatepost.conversation import Conversation
from gatepost.errors import PluginError
from gatepost.gate import Gate
from gatepost.message import BLOCK
from gatepost.replies import Reply
from gatepost.rulings import Ruling
from gatepost.runtime import Runtime
from gatepost.session import Session

_DOT_LINE: Final = re.compile(rb"(?:(?<=[\r\n])|\A)\.")


class Rehearsal:
    """One client. ``talks_early``: it does not wait for the greeting. ``listener`` is the listener in the session."""

    def __init__(
        self, gate: Gate, runtime: Runtime, client: str, *, talks_early: bool = False, listener: str = "smtp"
    ) -> None:
        self._talks_early = talks_early
        self._runtime = runtime
        self.session = Session(client, runtime=runtime, door=self, listener=listener)
        self.conversation = Conversation(gate, runtime, self.session)
        self.closed = False
        self._is_connecting = False

    def silence(self, seconds: float) -> asyncio.Future[bool]:
        """Return a future that is True after ``seconds`` of silence, and False at once if the client talks early.

        Raises ``PluginError`` after the connect phase, as a door does.
        """
        if not self._is_connecting:
            raise PluginError("session.silence() is for the connect phase, which is over")
        return asyncio.get_running_loop().create_task(self._is_silent(seconds))

    async def _is_silent(self, seconds: float) -> bool:
        if self._talks_early:
            self.session._early_talk |= {"connect"}
        else:
            gate = self.conversation.gate
            early = gate.early_seconds(seconds)
            await self._runtime.clock.sleep(seconds - early)
            if early:
                gate.look_up_early(self.session)
                await self._runtime.clock.sleep(early)
        return not self._talks_early

    async def connect(self) -> Reply:
        """Connect, and return the banner or a refusal."""
        gate = self.conversation.gate
        ruling = Ruling("connect")
        if gate.chains["connect"]:
            self._is_connecting = True
            try:
                ruling = await gate.ask("connect", (self.session,), self.session)
            finally:
                self._is_connecting = False
        return self._replied(self.conversation.take_connect_ruling(ruling) or await self.conversation.greet())

    async def say(self, line: str | bytes, *, behind: bool = False) -> Reply:
        """Send one command line (without its line end) and return the reply. ``behind``: the client has sent more."""
        octets = line.encode() if isinstance(line, str) else line
        return self._replied(await self.conversation.command(octets, behind))

    async def send(self, content: bytes) -> Reply:
        """Send a message after 354: add dot-stuffing and the final dot, and leave its line ends as they are."""
        if content and not content.endswith(b"\r\n"):
            content += b"\r\n"
        stuffed = _DOT_LINE.sub(b"..", content)  # behind a lone CR or LF too, which ends a line like CRLF
        await self.feed(stuffed + b".\r\n")
        return await self.end()

    async def end(self) -> Reply:
        """Return the reply to the final dot, which has been fed."""
        reply = self._replied(await self.conversation.end_of_data())
        await self.conversation.transaction.finish_message()
        return reply

    async def feed(self, octets: bytes) -> bytes:
        """Feed octets of DATA, in blocks as from a socket. Return those that follow the end of data."""
        rest = None
        for start in range(0, len(octets), BLOCK):
            reader = self.conversation.transaction.reader
            assert reader is not None, "not in DATA"
            rest = reader.feed(octets[start : start + BLOCK])
            if reader.headers_done:
                await self.conversation.transaction.headers()
        return b"" if rest is None else rest

    async def close(self) -> None:
        """Disconnect."""
        self.closed = True
        await self.conversation.close()

    def _replied(self, reply: Reply) -> Reply:
        self.conversation.after_reply()
        self.closed = self.closed or reply.close
        return reply
