"""Dialogue files (``*.smtp``): the lines of a client and the replies that it must get, played with or without sockets.

    # A sender on the list is refused when the first recipient is named.
    policy: gatepost.toml
    S: 220…
    C: EHLO client.example.com
    S: 250…
    C: MAIL FROM:<x@bad.example>
    C: RCPT TO:<b@example.org>
    S: 250 2.1.0 sender OK
    S: 550 5.7.1 bad.example is not welcome here
    C: QUIT
    S: 221…
    closed

``C:`` is a line of the client. Consecutive lines are sent at once, like those of a pipelining client, and those before
the first ``S:`` are sent before the greeting. After 354 they are lines of the message up to ``C: .``, which the file
must dot-stuff itself. ``raw:`` sends octets written with Python escapes, without adding a line end, through the door
only.

``S:`` is a line of a reply; list each line of a long reply. The id at the end of a refusal is left out. ``…`` or
``...`` at the end stands for the rest of the line, and after a bare code (``250…``) for the rest of the reply.
``closed`` means that the server closes the connection. ``wait 6s`` makes the client silent for 6 s of virtual time.

The settings at the top, in any order: ``policy: FILE``, a configuration next to the dialogue, or its text between two
lines ``---`` (without either, all mail is accepted); ``client: ADDRESS``, by default 127.0.0.1 (the door only plays
loopback addresses); ``dns: NAME KIND RECORD…`` for scripted DNS. Lines that begin with ``#`` are comments.
"""

from __future__ import annotations

import ast
import ipaddress
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from gatepost.testing.client import Client
from gatepost.testing.clock import seconds
from gatepost.testing.policy import Policy
from gatepost.testing.reply import Reply
from gatepost.testing.server import Server, Wire

Kind = Literal["C", "S", "raw", "wait", "closed"]
Driver = Literal["conversation", "door"]

_STEP = re.compile(r"(C|S|raw): ?(.*)")
_SETTING = re.compile(r"(policy|client|dns): *(.+)")
_REST = re.compile(r"(…|\.\.\.)$")
_IDENTIFIER = re.compile(r" \[[0-9a-z]{10}\]$")
_CLOSED = "(the connection is closed)"
_CONTEXT = 8
"""The most lines of the dialogue to show before a difference."""


class DialogueSyntaxError(ValueError):
    """A dialogue file has a syntax error."""


class DifferenceError(AssertionError):
    """The client got another reply than the dialogue says."""


@dataclass(frozen=True, slots=True)
class Step:
    """A line of a dialogue: kind, text, and line number in the file."""

    kind: Kind
    text: str
    line: int

    def __str__(self) -> str:
        return {"wait": f"wait {self.text}", "closed": "closed"}.get(self.kind, f"{self.kind}: {self.text}".rstrip())


@dataclass(frozen=True, slots=True)
class Dialogue:
    """A parsed dialogue file."""

    path: Path
    policy: str | Path | None
    client: str
    dns: tuple[tuple[str, ...], ...]
    steps: tuple[Step, ...]

    @classmethod
    def read(cls, path: Path) -> Dialogue:
        """Parse a file. Raises ``DialogueSyntaxError`` with the line that is wrong."""
        return cls.parse(path.read_text(encoding="utf-8"), path)

    @classmethod
    def parse(cls, text: str, path: Path) -> Dialogue:
        """Parse the text of a file at ``path``, which need not exist."""
        written, settings, steps = _parsed(text, path)
        named = {key: value for key, value in settings if key != "dns"}
        policy = path.parent / named["policy"] if "policy" in named else written
        if not steps:
            raise DialogueSyntaxError(f"{path}: the dialogue is empty")
        dns = tuple(tuple(value.split(maxsplit=2)) for key, value in settings if key == "dns")
        return cls(path, policy, named.get("client", "127.0.0.1"), dns, tuple(steps))

    @property
    def drivers(self) -> tuple[Driver, ...]:
        """The drivers that can play the dialogue."""
        if any(step.kind == "raw" for step in self.steps):
            return ("door",)
        return ("conversation", "door") if ipaddress.ip_address(self.client).is_loopback else ("conversation",)

    async def play(self, driver: Driver = "conversation") -> None:
        """Play the dialogue, without sockets ("conversation") or through the real door on this machine ("door").

        Raises ``DifferenceError`` with the expected and the actual lines.
        """
        plugins = () if self.policy is None else (self.policy,)
        folder = self.path.absolute().parent
        if driver == "conversation":
            policy = Policy(*plugins, folder=folder)
            self._script(policy)
            await _Player(self, _Conversation(policy, self.client)).play()
            await policy.close()
            return
        async with Server(*plugins, folder=folder) as server:
            self._script(server.policy)
            await _Player(self, _Door(server, self.client)).play()

    def _script(self, policy: Policy) -> None:
        policy.dns.name(self.client)  # without a name, so that a dialogue needs no script for plugins that look it up
        for name, kind, *records in self.dns:
            policy.dns.answer(name, kind, *(records if kind.upper() in {"TXT", "MX"} else " ".join(records).split()))


def _parsed(text: str, path: Path) -> tuple[str | None, list[tuple[str, str]], list[Step]]:
    """Return the policy between ``---``, the settings and the steps."""
    policy: list[str] | None = None
    settings: list[tuple[str, str]] = []
    steps: list[Step] = []
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.rstrip() == "---" and not steps:
            inside, policy = not inside, policy or [""] * number  # so that errors have the line numbers of the file
        elif inside and policy is not None:
            policy.append(line)
        elif (found := _SETTING.fullmatch(line)) and not steps:
            settings.append((found[1], found[2].strip()))
        elif line.strip() and not line.startswith("#"):
            steps.append(_step(line, number, path))
    if inside:
        raise DialogueSyntaxError(f"{path}: the policy has no end; write --- below it")
    return (None if policy is None else "\n".join(policy)), settings, steps


def _step(line: str, number: int, path: Path) -> Step:
    if found := _STEP.fullmatch(line):
        kind: Any = found[1]
        step = Step(kind, found[2], number)
        try:
            _octets(step)  # an invalid escape in ``raw:`` is reported with its line
        except (SyntaxError, ValueError) as error:
            raise DialogueSyntaxError(f"{path}:{number}: these octets cannot be read: {error}") from None
        return step
    word, _, rest = line.strip().partition(" ")
    if word == "wait" or (word == "closed" and not rest):
        try:
            seconds(rest or 0)
        except ValueError:
            raise DialogueSyntaxError(f"{path}:{number}: {rest!r} is not a duration such as 6s") from None
        return Step("wait" if word == "wait" else "closed", rest, number)
    raise DialogueSyntaxError(
        f"{path}:{number}: {line.strip()!r} is neither C:, S:, raw:, wait 6s, closed nor # a comment"
    )


class _Side(Protocol):
    """The server, as a player sees it."""

    async def connect(self, early: bool, steps: Sequence[Step]) -> None:
        """Connect. With ``early`` the client sends these lines before the greeting."""

    async def say(self, steps: Sequence[Step]) -> None:
        """Send these lines at once."""

    async def hear(self) -> Reply | str:
        """Return the next reply, or the reason why there is none."""

    async def wait(self, duration: str) -> None:
        """Let virtual time pass."""

    async def leave(self) -> str:
        """End the connection. Return the replies that have not been read."""


class _Player:
    """Plays the steps and compares the replies."""

    def __init__(self, dialogue: Dialogue, side: _Side) -> None:
        self._dialogue = dialogue
        self._side = side
        self._heard: list[str] = []
        """The remaining lines of the reply that is being compared, with their codes."""

    async def play(self) -> None:
        groups = list(_grouped(self._dialogue.steps))
        early = [step for step in groups[0] if step.kind in ("C", "raw")]
        await self._side.connect(bool(early), early)
        for group in groups[1:] if early else groups:
            if group[0].kind in ("C", "raw"):
                self._nothing_left(group[0])
                await self._side.say(group)
                continue
            for step in group:
                await self._follow(step)
        self._nothing_left(self._dialogue.steps[-1])
        if left := await self._side.leave():
            self._differ(Step("closed", "", self._dialogue.steps[-1].line + 1), left.splitlines())

    async def _follow(self, step: Step) -> None:
        if step.kind == "wait":
            await self._side.wait(step.text)
        elif step.kind == "closed":
            self._nothing_left(step)
            if (reply := await self._side.hear()) != _CLOSED:
                self._differ(step, str(reply).splitlines())
        else:
            await self._compare(step)

    async def _compare(self, step: Step) -> None:
        if not self._heard:
            self._heard = str(await self._side.hear()).splitlines()
        line = self._heard[0]
        if _REST.search(step.text):
            wanted = _REST.sub("", step.text)
            if wanted.isdigit() and line.startswith(wanted):  # a bare code stands for all lines of the reply
                self._heard = []
                return
            agrees = line.startswith(wanted)
        else:
            agrees = step.text == _IDENTIFIER.sub("", line)
        if not agrees:
            self._differ(step, self._heard)
        del self._heard[0]

    def _nothing_left(self, step: Step) -> None:
        """Fail if the last reply had more lines than the dialogue."""
        if self._heard:
            self._differ(step, self._heard)

    def _differ(self, step: Step, heard: list[str]) -> None:
        before = [f"  {each}" for each in self._dialogue.steps if each.line < step.line][-_CONTEXT:]
        got = [f"+ S: {line}" if line[:3].isdigit() else f"+ {line}" for line in heard]
        raise DifferenceError(
            "\n".join([f"{self._dialogue.path.name}:{step.line}: this was not said", *before, f"- {step}", *got])
        )


def _grouped(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """Yield the steps in groups: consecutive ones of the client, and those between them."""
    group: list[Step] = []
    for step in steps:
        if group and (step.kind in ("C", "raw")) != (group[0].kind in ("C", "raw")):
            yield group
            group = []
        group.append(step)
    yield group


class _Conversation:
    """The conversation without sockets."""

    def __init__(self, policy: Policy, address: str) -> None:
        self._policy = policy
        self._address = address
        self._client: Client
        self._replies: list[Reply] = []

    async def connect(self, early: bool, steps: Sequence[Step]) -> None:
        self._client = await self._policy.connect(self._address, talks_early=early)
        self._replies.append(self._client.banner)
        await self.say(steps)

    async def say(self, steps: Sequence[Step]) -> None:
        lines = [step.text.encode() for step in steps]
        while lines and not self._client.closed:
            if self._client.rehearsal.conversation.transaction.reader is None:
                line = lines.pop(0)
                self._replies.append(await self._client.say(line, behind=bool(lines)))
            else:
                await self._send(lines)

    async def _send(self, lines: list[bytes]) -> None:
        """Send the lines of a message and remove them from ``lines``."""
        end = lines.index(b".") + 1 if b"." in lines else len(lines)
        content, lines[:end] = lines[:end], []
        await self._client.feed(b"".join(line + b"\r\n" for line in content))
        if content[-1] == b".":
            self._replies.append(await self._client.end())

    async def hear(self) -> Reply | str:
        if self._replies:
            return self._replies.pop(0)
        return _CLOSED if self._client.closed else "(nothing: the server waits for the client)"

    async def wait(self, duration: str) -> None:
        await self._policy.clock.advance(duration)

    async def leave(self) -> str:
        if not self._client.closed:
            await self._client.close()
        return "\n".join(map(str, self._replies))


class _Door:
    """The real door over a socket."""

    def __init__(self, server: Server, address: str) -> None:
        self._server = server
        self._address = address
        self._wire: Wire

    async def connect(self, early: bool, steps: Sequence[Step]) -> None:
        self._wire = await self._server.connect(self._address, early=b"".join(map(_octets, steps)))

    async def say(self, steps: Sequence[Step]) -> None:
        self._wire.send(b"".join(map(_octets, steps)))

    async def hear(self) -> Reply | str:
        octets = await self._wire.octets()
        return Reply.read(octets) if octets else _CLOSED

    async def wait(self, duration: str) -> None:
        await self._wire.settle()
        await self._server.policy.clock.advance(duration)

    async def leave(self) -> str:
        with suppress(OSError):  # the server may have closed the connection already
            self._wire.half_close()
        return (await self._wire.rest()).decode("ascii")


def _octets(step: Step) -> bytes:
    if step.kind != "raw":
        return step.text.encode() + b"\r\n"
    octets: bytes = ast.literal_eval("b'" + step.text.replace("'", "\\'") + "'")
    return octets
