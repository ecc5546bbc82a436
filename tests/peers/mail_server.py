"""A scripted SMTP or LMTP server for tests: it listens on loopback, answers as told, and records everything.

    async with MailServer(extensions=["SIZE 1000"], answers={"RCPT TO:<b@x>": "550 5.1.1 no such user"}) as server:
        ...  # connect to server.url
        assert server.messages[0].content == b"..."

It checks nothing that a client does; tests examine ``connections`` and ``messages``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast

from tests.patience import PATIENCE
from tests.peers.ports import reserved_port

DROP = "drop"
"""Closes the connection in place of an answer."""

HANG = "hang"
"""Sends no answer until the client disconnects."""


Script = str | Sequence[str]

DEFAULTS = {"DATA": "354 go ahead", "QUIT": "221 2.0.0 bye", "GREETING": "220 peer ready", "STARTTLS": "220 2.0.0 go"}


@dataclass
class Delivered:
    """A message that arrived completely; dot-stuffing is undone."""

    mail: str
    recipients: list[str]
    content: bytes


@dataclass
class Dialogue:
    """The command lines of one client, and the envelope of its current transaction."""

    commands: list[str] = field(default_factory=list)
    mail: str = ""
    recipients: list[str] = field(default_factory=list)
    is_over: bool = False
    is_encrypted: bool = False

    def verbs(self) -> list[str]:
        """The first word of each command."""
        return [command.split(" ")[0] for command in self.commands]


class MailServer:
    """The server, which listens while its ``async with`` block runs.

    ``answers`` maps a whole command line or, with lower priority, a verb (``"MAIL"``) to the answer; the default is
    250. ``"GREETING"`` stands for the greeting, ``"."`` for the answer to the final dot, which LMTP gives for each
    recipient, and ``". <rcpt@x>"`` for that of one recipient. An answer is the text of a reply (its lines separated by
    LF), DROP or HANG. The answers of a list are used one after another, the last of them any number of times.

    ``extensions`` are the EHLO keywords; ``tls`` adds STARTTLS. ``path`` is a Unix socket to listen on. The server
    drops the connection after ``drop_after`` octets of content, once it has sent the answer ``"CONTENT"``, if there is
    one. After ``pause_after`` octets it sets ``is_paused`` and stops reading until ``resume`` is set.
    """

    def __init__(
        self,
        *,
        lmtp: bool = False,
        extensions: Iterable[str] = ("PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"),
        answers: Mapping[str, Script] | None = None,
        tls: ssl.SSLContext | None = None,
        path: str = "",
        drop_after: int | None = None,
        pause_after: int | None = None,
    ) -> None:
        self.lmtp = lmtp
        self.extensions = list(extensions)
        self.answers: dict[str, Script] = dict(answers or {})
        self.path = path
        self.port = 0
        self.connections: list[Dialogue] = []
        self.messages: list[Delivered] = []
        self.resume = asyncio.Event()
        self.is_paused = asyncio.Event()
        self.tls = tls
        self.drop_after = drop_after
        self.pause_after = pause_after
        self._server: asyncio.Server | None = None
        self._reserved = ExitStack()
        self._writers: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        """The URL of this server as a next hop."""
        place = self.path or f"127.0.0.1:{self.port}"
        return f"{'lmtp' if self.lmtp else 'smtp'}://{place}"

    async def __aenter__(self) -> Self:
        if not self.path:
            # Held while the server is stopped too: it must come back on the same port.
            self.port = self._reserved.enter_context(reserved_port())
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        await self.stop()
        self._reserved.close()

    async def listen(self) -> None:
        """Listen, after ``stop()`` at the same place as before."""
        if self.path:
            self._server = await asyncio.start_unix_server(self._serve, self.path, limit=2**26)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**26)

    async def stop(self) -> None:
        """Stop listening and drop all clients, as if the server had been killed."""
        assert self._server is not None
        self._server.close()
        await self.drop_clients()

    async def drop_clients(self) -> None:
        """Drop all clients but continue to listen."""
        tasks = list(self._writers.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something happens at this server that makes the condition true."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(condition)

    async def say_unasked(self, text: str) -> None:
        """Send all clients a line that answers no command."""
        for writer in self._writers:
            writer.write(text.encode() + b"\r\n")
            await writer.drain()

    async def note_change(self) -> None:
        """Wake the callers of ``until``."""
        async with self._changed:
            self._changed.notify_all()

    def answer(self, *occasions: str) -> str:
        """Return the scripted answer for the first of these occasions that has one, else the default answer."""
        for occasion in occasions:
            script = self.answers.get(occasion)
            if isinstance(script, str):
                return script
            if script is not None:
                self.answers[occasion] = script[1:] or script
                return script[0]
        return self._default_answer(occasions[-1])

    def _default_answer(self, verb: str) -> str:
        if verb == ("LHLO" if self.lmtp else "EHLO"):
            lines = ["peer.example", *self.extensions, *(["STARTTLS"] if self.tls else [])]
            return "\n".join([*(f"250-{line}" for line in lines[:-1]), f"250 {lines[-1]}"])
        return DEFAULTS.get(verb, "250 2.0.0 fine" if verb not in ("EHLO", "LHLO") else "502 5.5.1 not here")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._writers[writer] = task
        client = _Client(self, reader, writer)
        self.connections.append(client.dialogue)
        try:
            with suppress(ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError, ssl.SSLError):
                await client.converse()
        finally:
            del self._writers[writer]
            writer.transport.abort()
            client.dialogue.is_over = True
            await self.note_change()


class _Client:
    """The server's side of one connection."""

    def __init__(self, server: MailServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.dialogue = Dialogue()
        self._server = server
        self._reader = reader
        self._writer = writer

    async def converse(self) -> None:
        """Answer commands up to QUIT. Raises ConnectionError or IncompleteReadError if the connection ends before."""
        verb = ""
        await self._say("GREETING")
        while verb != "QUIT":
            command = (await self._reader.readuntil(b"\r\n")).decode().removesuffix("\r\n")
            verb = command.split(" ")[0].upper()
            self.dialogue.commands.append(command)
            await self._server.note_change()
            await self._follow(verb, command, await self._say(command, verb))
            await self._server.note_change()

    async def _follow(self, verb: str, command: str, reply: str) -> None:
        dialogue = self.dialogue
        if verb == "STARTTLS" and reply.startswith("220"):
            assert self._server.tls is not None
            await self._writer.start_tls(self._server.tls)
            dialogue.is_encrypted = True
        elif verb == "MAIL":
            dialogue.mail = command
        elif verb == "RCPT" and reply.startswith("2"):
            dialogue.recipients.append(command.partition("<")[2].rpartition(">")[0])
        elif verb == "DATA" and reply.startswith("354"):
            await self._take_message()
        if verb in ("RSET", "EHLO", "LHLO", "DATA"):
            dialogue.mail, dialogue.recipients = "", []

    async def _take_message(self) -> None:
        dialogue, server = self.dialogue, self._server
        server.messages.append(Delivered(dialogue.mail, dialogue.recipients, await self._content()))
        await server.note_change()
        for occasion in [f". <{recipient}>" for recipient in dialogue.recipients] if server.lmtp else [""]:
            await self._say(occasion, ".")

    async def _content(self) -> bytes:
        """Read up to the final dot, which is a dot between two CRLF and nothing else; undo dot-stuffing."""
        content = bytearray()
        at_line_start = True
        while (line := await self._reader.readuntil(b"\n")) != b".\r\n" or not at_line_start:
            content += line.removeprefix(b".") if at_line_start else line
            at_line_start = line.endswith(b"\r\n")
            if self._server.drop_after is not None and len(content) >= self._server.drop_after:
                await self._break_off()
            if self._server.pause_after is not None and len(content) >= self._server.pause_after:
                await self._pause()
        return bytes(content)

    async def _pause(self) -> None:
        transport = cast(asyncio.Transport, self._writer.transport)
        transport.pause_reading()
        self._server.is_paused.set()
        await self._server.resume.wait()
        transport.resume_reading()

    async def _break_off(self) -> None:
        if "CONTENT" in self._server.answers:
            await self._say("CONTENT")
            # Read the rest: if the connection were aborted with octets unread, the client might lose the answer.
            await self._reader.read()
        raise ConnectionAbortedError

    async def _say(self, *occasions: str) -> str:
        reply = self._server.answer(*occasions)
        if reply == HANG:
            await self._reader.read()
        if reply in (DROP, HANG):
            raise ConnectionAbortedError
        self._writer.write(reply.replace("\n", "\r\n").encode("utf-8", "surrogateescape") + b"\r\n")
        await self._writer.drain()
        return reply
