"""A next hop for tests: it records the messages it is given and answers as the test says.

Everything of the ``next_hop`` service that a plugin uses is real (pool, fail-over, LMTP, which answers count as a
refusal of us). Only the connection ends at a ``Peer`` instead of a socket. STARTTLS can be offered but is never
performed. RFC 5321, RFC 2033 (LMTP).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from gatepost.errors import NextHopRefusedError, NextHopUnreachableError
from gatepost.events import NULL_RECORDER, Recorder
from gatepost.services.clock import Clock
from gatepost.services.next_hop import Answer, NextHop, NextHops, SmtpConnection, Target

_DEFAULTS = {"connect": "220 ready", "data": "354 go ahead", "quit": "221 2.0.0 bye"}
_DROP, _HANG = 0, -1
"""Codes in a script that are no answers: break the connection, and never answer."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A complete message that the next hop received, whatever it answered to the final dot."""

    sender: str
    """The reverse-path without brackets; "" is the null reverse-path."""
    recipients: tuple[str, ...]
    """The recipients that the next hop had accepted, without brackets."""
    content: bytes
    """The content with CRLF line ends and without dot-stuffing."""
    parameters: str = ""
    """The parameters of MAIL, such as "SIZE=500 BODY=8BITMIME"."""
    target: str = ""
    """The target of the next hop, such as "smtp://mail.example.org:25"."""


@dataclass(slots=True)
class Connection:
    """One connection to the next hop, with the command lines that arrived over it."""

    target: str
    commands: list[str] = field(default_factory=list)
    is_over: bool = False

    @property
    def verbs(self) -> list[str]:
        """The first word of each command."""
        return [command.split(" ")[0] for command in self.commands]


@dataclass(slots=True)
class _Scripted:
    """An answer of the script, and how many times more to give it (None: always)."""

    code: int
    text: str
    times: int | None


class Peer:
    """One mail server, which accepts everything unless the test says otherwise.

    ``extensions`` are the keywords in its answer to EHLO. Commands are named "connect" (the greeting), "ehlo", "mail",
    "rcpt", "data", "." (the end of the message), "rset" and "xforward". ``about`` is the address in the command (in
    LMTP also the recipient that "." is answered for), or "" for all.
    """

    def __init__(self) -> None:
        self.extensions: list[str] = ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"]
        self.messages: list[Delivered] = []
        """The messages it has received, in order."""
        self.connections: list[Connection] = []
        self._script: dict[tuple[str, str], list[_Scripted]] = {}
        self._wires: list[_ScriptedWire] = []

    def answer(self, command: str, about: str, code: int, text: str = "", *, times: int | None = None) -> None:
        """Answer ``code`` and ``text`` to a command: ``answer("rcpt", "no@example.org", 550, "5.1.1 no such user")``.

        The text may begin with an enhanced status code. With ``times`` the answer is given that many times, then the
        one set before applies again; without it the answer is permanent.
        """
        script = self._script.setdefault((command.lower(), about), [])
        if times is None:
            script[:] = [each for each in script if each.times is not None]
            script.append(_Scripted(code, text, None))
        else:
            # Counted answers precede the permanent one, in the order in which they were set.
            place = next((number for number, each in enumerate(script) if each.times is None), len(script))
            script.insert(place, _Scripted(code, text, times))

    def drop(self, command: str, about: str = "", *, times: int | None = None) -> None:
        """Break the connection instead of answering. At "connect" the server is unreachable."""
        self.answer(command, about, _DROP, times=times)

    def hang(self, command: str, about: str = "", *, times: int | None = None) -> None:
        """Never answer, so that the client runs into its timeout."""
        self.answer(command, about, _HANG, times=times)

    def drop_connections(self) -> None:
        """Break all connections, as a server does that is killed or closes idle connections."""
        for wire in self._wires:
            wire.end()

    def scripted(self, command: str, about: str = "") -> tuple[int, str]:
        """Return the code and text for a command. A counted answer is used up by this."""
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
        """Register a new connection."""
        self._wires.append(wire)
        self.connections.append(connection)


class ScriptedNextHops(NextHops, Peer):
    """The ``next_hop`` service of a policy under test. It is itself the mail server at every target.

    If a test needs several different ones, ``at("smtp://two.example:25")`` is the mail server at that target only.
    """

    def __init__(self, clock: Clock, local_hostname: str, recorder: Recorder = NULL_RECORDER) -> None:
        NextHops.__init__(self, clock, local_hostname, recorder)
        Peer.__init__(self)
        self._peers: dict[str, Peer] = {}

    def branch(self) -> NextHops:
        """Return this very service: a test looks at one, whatever the number of policies."""
        return self

    def at(self, target: str) -> Peer:
        """Return the mail server at ``target``, written as in options. Raises ``ValueError`` if it is invalid."""
        return self._peers.setdefault(str(Target.parse(target)), Peer())

    def open(self, targets: Sequence[Target], **settings: Any) -> NextHop:
        """Return a client of ``targets`` with the settings of ``NextHops.open``."""
        opened = _ScriptedNextHop(
            targets, clock=self._clock, local_hostname=self._local_hostname, recorder=self._recorder, **settings
        )
        opened.service = self
        self._opened.append(opened)
        return opened

    def peer(self, target: Target) -> Peer:
        """Return the mail server at ``target``."""
        return self._peers.get(str(target), self)


class _ScriptedNextHop(NextHop):
    """The real client, but it connects to a ``Peer``."""

    service: ScriptedNextHops

    async def _connect(self, target: Target) -> SmtpConnection:
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
        return SmtpConnection(target, cast(Any, wire), keywords, self._command_timeout)


class _ScriptedWire:
    """A substitute for the wire of an ``SmtpConnection``: octets written go to the peer, and its answers come back.

    It is its own transport, because a connection uses the transport only to close it.
    """

    def __init__(self, peer: Peer, target: Target, clock: Clock, patience: float) -> None:
        self.transport = self
        self.has_ended = False
        self.closed = asyncio.Event()
        self.expected = 1
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
        """True when there is an answer that has not been read."""
        return bool(self._answers)

    def write(self, octets: bytes) -> bool:
        """Receive commands or a block of the message. Never asks to wait."""
        if self.has_ended:
            raise ConnectionResetError("it closed the connection")
        if self._content is None:
            for line in octets.decode().removesuffix("\r\n").split("\r\n"):
                answer = self.heard(line, line.partition(" ")[0].lower())
                if answer[0] == _DROP:
                    return False
                self._answers.append(answer)
            return False
        self._content += octets
        if self._content.endswith(b"\r\n.\r\n") or self._content == b".\r\n":
            content, self._content = self._content, None
            self._take_message(content)
        return False

    async def drain(self, seconds: float) -> None:
        """Do nothing: it never asks to wait."""

    async def reply(self, seconds: float) -> Answer:
        """Return the next answer. Raises ConnectionError when none will come, TimeoutError when the peer hangs."""
        if not self._answers:
            raise ConnectionResetError("it closed the connection")
        code, text = self._answers.pop(0)
        if code == _HANG:
            await self._clock.sleep(self._patience)
            raise TimeoutError
        return Answer.of(code, [text])

    def heard(self, line: str, command: str) -> tuple[int, str]:
        """Record a command and return its answer."""
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

    def _take_message(self, received: bytearray) -> None:
        stuffed = b"\r\n" + bytes(received).removesuffix(b".\r\n")
        content = stuffed.replace(b"\r\n..", b"\r\n.")[2:]
        recipients, self._recipients = tuple(self._recipients), []
        self._peer.messages.append(
            Delivered(self._sender, recipients, content, self._parameters, self._connection.target)
        )
        for recipient in recipients if self._lmtp else ("",):
            answer = self._peer.scripted(".", recipient)
            if answer[0] == _DROP:
                self.end()
                return
            self._answers.append(answer)

    # The methods of a transport.

    def is_closing(self) -> bool:
        """Return True when the connection is closed."""
        return self.has_ended

    def abort(self) -> None:
        """Close the connection at once."""
        self.end()

    def close(self) -> None:
        """Close the connection."""
        self.end()

    def end(self) -> None:
        """Mark the connection as closed."""
        self.has_ended = self._connection.is_over = True
        self.closed.set()
