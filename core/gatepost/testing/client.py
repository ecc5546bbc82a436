"""A client of a policy under test: sends commands without a socket, reads replies, and lets virtual time pass.

It uses the same conversation as the doors, so it gets the replies that a real client would. RFC 5321 §3 (commands).
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from gatepost import events, replies
from gatepost.rehearsal import Rehearsal
from gatepost.replies import PHASE_CODES
from gatepost.rulings import Ruling
from gatepost.session import Session
from gatepost.telemetry import Record
from gatepost.testing.clock import wait_for
from gatepost.testing.reply import Reply

if TYPE_CHECKING:
    from gatepost.gate import Gate
    from gatepost.testing.policy import Policy

MESSAGE = b"From: a@example.com\r\nTo: b@example.org\r\nSubject: hello\r\n\r\nHello.\r\n"
"""The message to send when a test does not provide one."""


class Client:
    """A client, made by ``Policy.connect``."""

    def __init__(
        self,
        policy: Policy,
        gate: Gate,
        address: str,
        *,
        talks_early: bool,
        listener: str,
        port: int,
        may_relay: bool = False,
    ) -> None:
        self.policy = policy
        self.rehearsal = Rehearsal(gate, policy.runtime, address, talks_early=talks_early, listener=listener)
        self.session: Session = self.rehearsal.session
        """The session with its ``envelope``, as plugins see it."""
        self.session._port, self.session._may_relay = port, may_relay
        self.banner: Reply
        """The first reply: the greeting, or a refusal."""
        self.waited = 0.0
        """The virtual seconds that the last command took."""

    @property
    def closed(self) -> bool:
        """True when either side has closed the connection."""
        return self.rehearsal.closed

    async def connect(self) -> Reply:
        """Connect. ``Policy.connect`` does this."""
        self.banner = await self._heard(self.rehearsal.connect())
        return self.banner

    async def say(self, line: str | bytes, *, behind: bool = False) -> Reply:
        """Send a command line, given without its line end. ``behind`` means that the client has sent more already.

        Raises ``AssertionError`` when the connection is closed, and when a plugin has made a DNS query that the test
        has no answer for.
        """
        assert not self.closed, f"{line!r} cannot be sent: the connection is closed"
        return await self._heard(self.rehearsal.say(line, behind=behind))

    async def ehlo(self, name: str = "client.example.com") -> Reply:
        """Send EHLO."""
        return await self.say(f"EHLO {name}")

    async def helo(self, name: str = "client.example.com") -> Reply:
        """Send HELO."""
        return await self.say(f"HELO {name}")

    async def mail(self, sender: str = "a@example.com", parameters: str = "") -> Reply:
        """Send MAIL. ``sender`` is without brackets; "" is the null reverse-path."""
        return await self.say(f"MAIL FROM:<{sender}> {parameters}".strip())

    async def rcpt(self, recipient: str = "b@example.org") -> Reply:
        """Send RCPT. ``recipient`` is without brackets."""
        return await self.say(f"RCPT TO:<{recipient}>")

    async def data(self, content: bytes = MESSAGE) -> Reply:
        """Send DATA and the message; return the reply to the final dot, or to DATA if that is refused.

        The content is dot-stuffed and gets its final dot, but is not changed otherwise. The hooks ``queued`` and
        ``reset`` have run when this returns.
        """
        reply = await self.say("DATA")
        return await self._heard(self.rehearsal.send(content)) if reply.code == 354 else reply

    async def transaction(
        self, sender: str = "a@example.com", recipient: str = "b@example.org", content: bytes = MESSAGE
    ) -> Reply:
        """Send EHLO if needed, MAIL, RCPT, DATA and the message; return the last reply or the first refusal."""
        if not self.session.helo and not (reply := await self.ehlo()).accepted:
            return reply
        if not (reply := await self.mail(sender)).accepted or not (reply := await self.rcpt(recipient)).accepted:
            return reply
        return await self.data(content)

    async def quit(self) -> Reply:
        """Send QUIT and close the connection."""
        reply = await self.say("QUIT")
        await self.close()
        return reply

    async def close(self) -> None:
        """Close the connection, so that ``reset`` and ``disconnect`` run."""
        await self.wait_for(self.rehearsal.close())

    async def wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Await ``work`` while virtual time passes, and return its result."""
        clock = self.policy.clock
        before = clock.monotonic()
        outcome = await wait_for(work, clock)
        self.waited = clock.monotonic() - before
        self.policy.check()
        return outcome

    async def feed(self, octets: bytes) -> None:
        """Send octets of a message after 354 unchanged. After the final dot call ``end``."""
        await self.wait_for(self.rehearsal.feed(octets))

    async def end(self) -> Reply:
        """Return the reply to the final dot that was sent by ``feed``."""
        return await self._heard(self.rehearsal.end())

    async def _heard(self, work: Coroutine[Any, Any, replies.Reply]) -> Reply:
        """Return the reply that results from ``work``, with the rulings that led to it."""
        known, recorded = set(self._rulings()), len(self.policy.records)
        reply = await self.wait_for(work)
        # The rulings of a transaction that has ended are no longer in the session, but its record has them.
        records = [each for each in self.policy.records[recorded:] if each.session == self.session.id]
        every = [ruling for record in records for ruling in record.rulings] + self._rulings()
        rulings = tuple(ruling for ruling in dict.fromkeys(every) if ruling not in known and _says(ruling))
        return Reply.read(
            reply.wire, closed=self.closed or reply.close, ruling=_leading(records, rulings), rulings=rulings
        )

    def _rulings(self) -> list[Ruling]:
        """Return the rulings in the session and its envelope."""
        envelope = self.session.envelope
        return [*self.session._rulings, *(envelope._rulings if envelope else ())]


def _says(ruling: Ruling) -> bool:
    """Return True when a plugin was asked, or the core has decided by itself."""
    return bool(ruling.trace) or ruling.decision is not None


def _leading(records: list[Record], rulings: tuple[Ruling, ...]) -> Ruling | None:
    """Return the ruling that led to a reply: that of the refusal, or the last one of a phase that has a reply."""
    for record in records:
        if record.event == events.REFUSED.name:
            return next((ruling for ruling in record.rulings if ruling.id == record.id), None)
    return next((ruling for ruling in reversed(rulings) if ruling.phase in PHASE_CODES), None)
