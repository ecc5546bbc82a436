"""The sessions to play, of ordinary and of hostile clients.

RFC 5321 §4.1 (commands), §4.5.3.1 (sizes); RFC 6531 (addresses outside ASCII).
"""

from __future__ import annotations

import asyncio
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gatepost.errors import PluginError
from gatepost.services.virtual_clock import settle
from gatepost.testing.client import MESSAGE, Client
from gatepost.testing.conformance.probe import Probe
from gatepost.testing.conformance.subject import ANSWERING, NotApplicableError, Subject, World
from gatepost.testing.policy import Policy

_UNAWAITED = re.compile(r"coroutine '(.*)' was never awaited")

PAUSE = 600.0
"""Virtual seconds between two visits, so that a plugin that asks clients to come back later sees them again."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A client with its commands, and the message that it sends after each DATA."""

    client: str
    lines: tuple[str, ...]
    content: bytes = MESSAGE


def _mail(sender: str, *recipients: str, parameters: str = "") -> tuple[str, ...]:
    return (f"MAIL FROM:<{sender}>{parameters}", *(f"RCPT TO:<{each}>" for each in recipients), "DATA")


CHATTING = ("NOOP", "HELP", "VRFY postmaster", "XFOO bar")
ORDINARY = (
    Visit(
        "192.0.2.1",
        (
            "EHLO client.example.com",
            *CHATTING,
            *_mail("a@example.com", "b@example.org", "c@example.org"),
            "RSET",
            *_mail("", "b@example.org"),
            "QUIT",
        ),
    ),
    Visit("192.0.2.1", ("EHLO client.example.com", *_mail("a@example.com", "b@example.org"), "QUIT")),
)
"""A client that sends two messages and comes back ten minutes later."""
ANOTHER = Visit("198.51.100.7", ("HELO other.example.net", *_mail("x@example.net", "y@example.org"), "QUIT"))

_NAMES = ("[192.0.2.1]", "-", "..", "%s%n{0}", "a" * 400, "ü" * 100, "xn--", "$(id)", "\u202egro.elpmaxe", "a\\b'\"")
_ADDRESSES = (
    '"a b"@example.com',
    '"\\"@"@example.com',
    "a@[192.0.2.1]",
    "a@[IPv6:2001:db8::1]",
    "a" * 64 + "@" + ".".join(("b" * 60,) * 3) + ".com",
    "a+%{}'|/..=x@xn--exmple-cua.com",
    "ü@exämple.com",
    "Postmaster",
)
_MESSAGES = {
    "an empty message": b"",
    "a message without a header": b"\r\nHello.\r\n",
    "a header without an end": b"Subject: hi\r\n",
    "8-bit octets": b"Subject: \xe4\xf6\xfc\r\nFrom: \xff\xfe <a@example.com>\r\n\r\n"
    + bytes(range(128, 256))
    + b"\r\n",
    "UTF-8": "Subject: Grüße 漢字\r\nFrom: ü@exämple.com\r\n\r\nGrüße\r\n".encode(),
    "a very long line": b"Subject: " + b"a" * 900 + b"\r\n\r\n" + b"b" * 100_000 + b"\r\n",
    "a very long header": b"".join(b"X-%d: %s\r\n" % (number, b"v" * 70) for number in range(800)) + b"\r\nx\r\n",
    "broken encodings": b"Subject: =?utf-8?q?=ff?= =?x?b?!!?=\r\nDate: never\r\nTo: ;,:<@\r\n\r\nx\r\n",
    "broken MIME": b'Content-Type: multipart/mixed; boundary="\r\nContent-Transfer-Encoding: base64\r\n\r\n--\r\n!\r\n',
    "MIME within MIME": b"".join(
        b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (depth, depth) for depth in range(120)
    ),
    "a message of 300 KiB": b"Subject: big\r\n\r\n" + (b"x" * 76 + b"\r\n") * 3900,
}
HOSTILE = (
    *(Visit("192.0.2.1", (f"EHLO {name}", f"VRFY {name}", f"NOOP {name}", f"X{name}", "QUIT")) for name in _NAMES),
    *(
        Visit("2001:db8::1", ("EHLO [IPv6:2001:db8::1]", *_mail(each, each, "b@example.org", parameters=" SMTPUTF8")))
        for each in _ADDRESSES
    ),
    *(
        Visit("192.0.2.1", ("EHLO client.example.com", *_mail("a@example.com", "b@example.org")), content)
        for content in _MESSAGES.values()
    ),
    Visit("192.0.2.1", ("EHLO x", "MAIL FROM:<a@example.com>")),
    Visit("192.0.2.1", ()),
)
_SHOWN = {content: name for name, content in _MESSAGES.items()}


async def witness(
    subject: Subject,
    visits: tuple[Visit, ...] = ORDINARY,
    world: World = ANSWERING,
    cancel: tuple[str, int] | None = None,
) -> Probe:
    """Play ``visits`` one after the other, and return the probe with the calls of the plugin.

    Raises ``NotApplicableError`` when the plugin does not start in this world.
    """
    before = asyncio.all_tasks()
    policy = await start_policy(subject, world)
    probe = Probe(policy, subject.name, cancel)
    with _note_unawaited(probe):
        await _visit(probe, visits)
    await _note_tasks(probe, before, "after the end")
    return probe


async def _visit(probe: Probe, visits: tuple[Visit, ...]) -> None:
    policy, started = probe.policy, asyncio.all_tasks()
    try:
        for visit in visits:
            await _play(probe, visit)
            await _note_tasks(probe, started, "after a session")
            await policy.clock.advance(PAUSE)
        await policy.close()
    except AssertionError as error:
        probe.trouble.append(f"at {probe.step}: {error}")


@contextmanager
def _note_unawaited(probe: Probe) -> Iterator[None]:
    """Record the coroutines that were made and never awaited, of which Python only warns."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", r"coroutine .* was never awaited", RuntimeWarning)
        yield
    found = (_UNAWAITED.search(str(each.message)) for each in caught)
    probe.unawaited = [name[1].replace(".<locals>", "") for name in found if name]


async def start_policy(subject: Subject, world: World = ANSWERING) -> Policy:
    """Return a started policy with the plugin. Raises ``NotApplicableError`` when it does not start."""
    policy = subject.policy(world)
    try:
        await policy.start()
    except (PluginError, AssertionError):
        raise NotApplicableError(f"it does not start in {world.name}: see start") from None
    world.begin(policy)
    return policy


async def _play(probe: Probe, visit: Visit) -> None:
    probe.step = f"a connection from {visit.client}"
    client = await probe.policy.connect(visit.client)
    for line in visit.lines:
        if not client.closed:
            await say(probe, client, line, visit.content)
    probe.step = "the end of the connection"
    await client.close()


async def say(probe: Probe, client: Client, line: str, content: bytes = MESSAGE) -> tuple[int, str | None]:
    """Send a line, or DATA with the message; return code and status of the reply."""
    shown = line if len(line) <= 60 else f"{line[:60]}…"
    probe.step = f"DATA with {_SHOWN[content]}" if line == "DATA" and content in _SHOWN else shown
    reply = await (client.data(content) if line == "DATA" else client.say(line))
    return reply.code, reply.status


async def _note_tasks(probe: Probe, known: set[asyncio.Task[object]], when: str) -> None:
    """Record the tasks that are left, and cancel them."""
    await settle()
    left = asyncio.all_tasks() - known
    for task in left:
        name = getattr(task.get_coro(), "__qualname__", repr(task))
        probe.left.append(f"{name.replace('.<locals>', '')}, {when}")
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=1.0)
