"""A mail server behind the gate that exists in a test only: it records what it is given and answers as it is told.

All of the ``next_hop`` service that a plugin uses is the real one (pool, fail-over, LMTP, what counts as a refusal of
us); only the connection beneath ends here, at a ``Peer``, instead of in a socket. STARTTLS is offered or not, and
never done. RFC 5321, RFC 2033 (LMTP).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from gatepost.errors import NextHopRefusedError, NextHopUnreachableError
from gatepost.services.clock import Clock
from gatepost.services.next_hop import Answer, Dialogue, NextHop, NextHops, Target, Tls

_DEFAULTS = {"connect": "220 ready", "data": "354 go ahead", "quit": "221 2.0.0 bye"}
_DROP, _HANG = 0, -1


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message that the next hop was given whole, whatever it answered to the final dot."""

    sender: str
    """The reverse-path without brackets; "" is the null one."""
    recipients: tuple[str, ...]
    """The recipients that it had accepted, without brackets."""
    content: bytes
    """As it was meant: CRLF line ends, dot-stuffing undone."""
    parameters: str = ""
    """What stood behind the path in MAIL, such as "SIZE=500 BODY=8BITMIME"."""
    target: str = ""
    """The next hop as the plugin wrote it, such as "smtp://mail.example.org:25"."""


@dataclass(slots=True)
class Connection:
    """One connection to the next hop: the command lines that it heard."""

    target: str
    commands: list[str] = field(default_factory=list)
    is_over: bool = False

    @property
    def verbs(self) -> list[str]:
        """The first word of each command."""
        return [command.split(" ")[0] for command in self.commands]


@dataclass(slots=True)
class _Scripted:
    code: int
    text: str
    times: int | None


class Peer:
    """One mail server. It accepts everything until told otherwise.

    ``extensions`` are the keywords of its answer to EHLO. Commands are called "connect" (its greeting), "ehlo", "mail",
    "rcpt", "data", "." (the end of the message), "rset" and "xforward"; ``about`` is the address in the command, with
    LMTP also the recipient for whom "." is answered, or "" for all.
    """

    def __init__(self) -> None:
        self.extensions: list[str] = ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"]
        self.messages: list[Delivered] = []
        """The messages it was given, in that order."""
        self.connections: list[Connection] = []
        self._script: dict[tuple[str, str], list[_Scripted]] = {}
        self._wires: list[_ScriptedWire] = []

    def answer(self, command: str, about: str, code: int, text: str = "", *, times: int | None = None) -> None:
        """Answer ``code`` and ``text`` to a command: ``answer("rcpt", "no@example.org", 550, "5.1.1 no such user")``.

        An enhanced status stands at the beginning of the text. ``times``: only so often, and after that as was told
        before; without it for good.
        """
        script = self._script.setdefault((command.lower(), about), [])
        if times is None:
            script[:] = [each for each in script if each.times is not None]
            script.append(_Scripted(code, text, None))
        else:
            # Those that count stand before the one for good, in the order in which they were told.
            place = next((number for number, each in enumerate(script) if each.times is None), len(script))
            script.insert(place, _Scripted(code, text, times))

    def drop(self, command: str, about: str = "", *, times: int | None = None) -> None:
        """Break the connection instead of answering. At "connect": nobody is there."""
        self.answer(command, about, _DROP, times=times)

    def hang(self, command: str, about: str = "", *, times: int | None = None) -> None:
        """Never answer, so that whoever waits runs into its time limit."""
        self.answer(command, about, _HANG, times=times)

    def drop_connections(self) -> None:
        """Break all connections, as a server that is killed or that has waited long enough."""
        for wire in self._wires:
            wire.end()

    def scripted(self, command: str, about: str = "") -> tuple[int, str]:
        """The code and text for a command, one of those told so often used up."""
        for key in ((command, about), (command, "")):
            for script in self._script.get(key, ()):
                if script.times is None:
                    return script.code, script.text
                if script.times > 0:
                    script.times -= 1
                    return script.code, script.text
        code, _, text = _DEFAULTS.get(command, "250 2.0.0 fine").partition(" ")
        return int(code), text

    def connected(self, wire: _ScriptedWire, connection: Connection) -> None:
        """Keep a connection."""
        self._wires.append(wire)
        self.connections.append(connection)


class ScriptedNextHops(NextHops, Peer):
    """The ``next_hop`` service of a test's policy. It is itself the mail server behind every target.

    Where a test needs several that differ, ``at("smtp://two.example:25")`` is the one at that target alone.
    """

    def __init__(self, clock: Clock, local_hostname: str) -> None:
        NextHops.__init__(self, clock, local_hostname)
        Peer.__init__(self)
        self._peers: dict[str, Peer] = {}

    def at(self, target: str) -> Peer:
        """The mail server at ``target``, written as an option would have it. Raises ``ValueError`` as that would."""
        return self._peers.setdefault(str(Target.parse(target)), Peer())

    def open(
        self,
        targets: Sequence[Target],
        *,
        tls: Tls = "opportunistic",
        pool: int = 10,
        connect_timeout: float = 10.0,
        command_timeout: float = 60.0,
        data_timeout: float = 600.0,
    ) -> NextHop:
        """A client of ``targets``, as the real service makes it."""
        made = _ScriptedNextHop(
            targets,
            clock=self._clock,
            local_hostname=self._local_hostname,
            tls=tls,
            pool=pool,
            connect_timeout=connect_timeout,
            command_timeout=command_timeout,
            data_timeout=data_timeout,
        )
        made.service = self
        self._made.append(made)
        return made

    def peer(self, target: Target) -> Peer:
        """Who is at ``target``."""
        return self._peers.get(str(target), self)


class _ScriptedNextHop(NextHop):
    """The real client, which connects to a ``Peer``."""

    service: ScriptedNextHops

    async def _connect(self, target: Target) -> Dialogue:
        peer = self.service.peer(target)
        wire = _ScriptedWire(peer, target, self._clock, self._command_timeout)
        verb = "EHLO" if target.protocol == "smtp" else "LHLO"
        code, text = peer.scripted("connect")
        if code == 220:
            code, text = wire.heard(f"{verb} {self._local_hostname}", "ehlo")
        if code != 250:
            wire.end()
        if code <= 0:
            if code == _HANG:
                await self._clock.sleep(self._connect_timeout)
            raise NextHopUnreachableError(f"{target}: nobody answers")
        if code != 250:
            kind = NextHopUnreachableError if code == 421 else NextHopRefusedError
            raise kind(f"{target}: {Answer.of(code, [text])}")
        if self._tls_required and not target.path and "STARTTLS" not in peer.extensions:
            raise NextHopRefusedError(f"{target}: TLS is required and it does not offer STARTTLS")
        keywords = {name.upper(): value for name, _, value in (line.partition(" ") for line in peer.extensions)}
        return Dialogue(target, cast(Any, wire), keywords, self._command_timeout)


class _ScriptedWire:
    """In place of the transport of a ``Dialogue``: what is written goes to the peer, whose answers are replies.

    It is its own transport, since a dialogue asks that for its end only.
    """

    def __init__(self, peer: Peer, target: Target, clock: Clock, patience: float) -> None:
        self.transport = self
        self.has_ended = False
        self.closed = asyncio.Event()
        self._peer = peer
        self._lmtp = target.protocol == "lmtp"
        self._clock = clock
        self._patience = patience
        self._connection = Connection(str(target))
        self._answers: list[tuple[int, str]] = []
        self._sender = self._parameters = ""
        self._recipients: list[str] = []
        self._content: bytearray | None = None
        peer.connected(self, self._connection)

    @property
    def has_unread(self) -> bool:
        """Whether there is an answer that nobody has read."""
        return bool(self._answers)

    async def write(self, octets: bytes) -> None:
        """Hear a command line, or a block of the message."""
        if self.has_ended:
            raise ConnectionResetError("it closed the connection")
        if self._content is None:
            line = octets.decode().removesuffix("\r\n")
            answer = self.heard(line, line.partition(" ")[0].lower())
            if answer[0] != _DROP:
                self._answers.append(answer)
            return
        self._content += octets
        if self._content.endswith(b"\r\n.\r\n") or self._content == b".\r\n":
            self._take_message()

    async def reply(self) -> Answer:
        """The next answer. ConnectionError: there will be none; TimeoutError: nor in time."""
        if not self._answers:
            raise ConnectionResetError("it closed the connection")
        code, text = self._answers.pop(0)
        if code == _HANG:
            await self._clock.sleep(self._patience)
            raise TimeoutError
        return Answer.of(code, [text])

    def heard(self, line: str, command: str) -> tuple[int, str]:
        """Take note of a command and find the answer to it."""
        self._connection.commands.append(line)
        path = line.partition("<")[2].rpartition(">")[0]
        code, text = self._peer.scripted(command, path)
        if command == "mail":
            self._sender, self._parameters = path, line.rpartition(">")[2].strip()
        elif command == "rcpt" and 200 <= code < 300:
            self._recipients.append(path)
        elif command == "data" and code == 354:
            self._content = bytearray()
        elif command in ("rset", "ehlo"):
            self._sender, self._recipients = "", []
        if code == _DROP:
            self.end()
        return code, text

    def _take_message(self) -> None:
        assert self._content is not None
        stuffed = b"\r\n" + bytes(self._content).removesuffix(b".\r\n")
        content = stuffed.replace(b"\r\n..", b"\r\n.")[2:]
        recipients, self._recipients, self._content = tuple(self._recipients), [], None
        self._peer.messages.append(
            Delivered(self._sender, recipients, content, self._parameters, self._connection.target)
        )
        for recipient in recipients if self._lmtp else ("",):
            answer = self._peer.scripted(".", recipient)
            if answer[0] == _DROP:
                self.end()
                return
            self._answers.append(answer)

    # The transport.

    def is_closing(self) -> bool:
        """Whether the connection is over."""
        return self.has_ended

    def abort(self) -> None:
        """Break it."""
        self.end()

    def close(self) -> None:
        """End it."""
        self.end()

    def end(self) -> None:
        """The connection is over."""
        self.has_ended = self._connection.is_over = True
        self.closed.set()
