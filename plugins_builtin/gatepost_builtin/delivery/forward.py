"""Hand messages to a mail server behind this one, by SMTP or LMTP.

**What it does.** It takes every recipient of its `domains` and hands the message over while the client waits: 250 is
said only after the next hop has said it. With `verify` every recipient is played to the next hop at once (MAIL, RCPT)
and its real answer passed on.

```toml
[plugins.forward]
to = ["smtp://127.0.0.1:10025", "smtp://192.0.2.10:25"]    # tried in this order
```

**Why it works.** The next hop knows its mailboxes, and its word is the client's. An unknown mailbox is refused in the
session, so no bounce is ever made and no queue kept here.

SIZE, 8BITMIME and SMTPUTF8 are passed on; a message that needs what the next hop lacks is refused, never converted.
With `xforward` a Postfix that offers XFORWARD learns who our client is, for its log and its own checks.

**What it costs.** A connection to the next hop for each transaction under way; idle ones are kept for half a minute and
used again.

**When not to use it.** Towards a listener of the next hop that lets us relay: give it one with empty mynetworks.

**On the wire.** What the next hop refuses is refused for good only where it speaks of the mail: at MAIL, RCPT and the
end of the message. When it cannot be reached (451 4.4.1) or refuses us (451 4.4.0, with a warning in the log), the
client tries again later. 554 5.6.3 and 553 5.6.7 say that the next hop lacks 8BITMIME or SMTPUTF8.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Literal

from pydantic import Field, field_validator

from gatepost import (
    Address,
    AddressError,
    Decision,
    Delivery,
    Duration,
    Envelope,
    Log,
    Message,
    NextHopAnswer,
    NextHopError,
    NextHopRefusedError,
    NextHops,
    NextHopUnreachableError,
    Options,
    Session,
    Target,
    accept,
    defer,
    deny,
    hookimpl,
)


class ForwardOptions(Options):
    """Where messages go, and how."""

    to: str | tuple[str, ...]
    """The next hop: `smtp://host:port`, `lmtp://host:port` or `lmtp:///path/to/socket`; or a list, tried in order."""

    domains: frozenset[str] = frozenset()
    """Recipient domains that go there. Empty: all."""

    verify: bool = True
    """Ask the next hop about each recipient while the client waits, and pass its answer on."""

    xforward: bool = True
    """Tell the next hop about our client when it offers XFORWARD."""

    pool: int = Field(10, ge=0)
    """Idle connections that are kept for each target. More are opened when they are needed."""

    tls: Literal["opportunistic", "required", "off"] = "opportunistic"
    """Use STARTTLS: when it is offered and with any certificate; always and with a valid one; or never."""

    connect_timeout: Duration = 10.0
    """How long to wait for a connection and for its greeting."""

    command_timeout: Duration = 60.0
    """How long to wait for the answer to a command, and for each block of the message to be taken."""

    data_timeout: Duration = 600.0
    """How long to wait for the answer to the final dot."""

    @field_validator("to")
    @classmethod
    def _are_targets(cls, to: str | tuple[str, ...]) -> str | tuple[str, ...]:
        texts = (to,) if isinstance(to, str) else to
        if not texts:
            raise ValueError("the list of targets is empty")
        for text in texts:
            Target.parse(text)
        return to

    @field_validator("domains")
    @classmethod
    def _as_addresses_have_them(cls, domains: frozenset[str]) -> frozenset[str]:
        try:
            return frozenset(Address.parse(f"postmaster@{domain}").domain for domain in domains)
        except AddressError as error:
            raise ValueError(f"not all are domains: {error}") from error


class Forward:
    """Plays recipients to the next hop at rcpt, and hands the message over at queue."""

    Options = ForwardOptions
    grants = "delivery"

    def __init__(self, options: ForwardOptions, next_hop: NextHops, log: Log) -> None:
        texts = (options.to,) if isinstance(options.to, str) else options.to
        targets = [Target.parse(text) for text in texts]
        self.options = options
        self.log = log
        self.name = ", ".join(texts)
        self.next_hops = tuple(f"{target.host}:{target.port}" for target in targets if target.host)
        self.takes_everything = not options.domains
        self.next_hop = next_hop.open(
            targets,
            tls=options.tls,
            pool=options.pool,
            connect_timeout=options.connect_timeout,
            command_timeout=options.command_timeout,
            data_timeout=options.data_timeout,
        )

    @hookimpl
    async def rcpt(self, session: Session, envelope: Envelope, recipient: Address) -> Decision | None:
        if not self._goes_there(recipient):
            return None
        if envelope.next_hop not in ("", self.name):
            return defer("this recipient goes elsewhere, send it in a transaction of its own", 452, "4.5.3")
        refusal = await self._verify(session, envelope, recipient) if self.options.verify else None
        if refusal is None:
            # Not before: a refused recipient must not keep others from going elsewhere.
            envelope.claim(self.name)
        return refusal

    @hookimpl
    async def queue(self, session: Session, envelope: Envelope, message: Message) -> Mapping[Address, Decision] | None:
        recipients = tuple(recipient for recipient in envelope.pending if self._goes_there(recipient))
        if not recipients:
            return None
        try:
            return await self._hand_over(session, envelope, message, recipients)
        except NextHopError as error:
            return dict.fromkeys(recipients, self._failed(error))

    @hookimpl
    def reset(self, envelope: Envelope) -> Awaitable[None] | None:
        held = self._take_held(envelope)
        return held.release() if held is not None else None

    def _goes_there(self, recipient: Address) -> bool:
        # The bare postmaster has no domain and is everybody's (RFC 5321 §4.5.1).
        return not self.options.domains or recipient.domain in self.options.domains or not recipient.domain

    async def _verify(self, session: Session, envelope: Envelope, recipient: Address) -> Decision | None:
        """Play a recipient to the next hop: a refusal, or None. What concerns the whole transaction is asked once."""
        notes = envelope.notes(self)
        if "refusal" not in notes:
            try:
                return await self._play(session, envelope, recipient)
            except NextHopError as error:
                notes["refusal"] = self._failed(error)
        refusal: Decision = notes["refusal"]
        return refusal

    async def _play(self, session: Session, envelope: Envelope, recipient: Address) -> Decision | None:
        notes = envelope.notes(self)
        if "delivery" in notes:
            try:
                return await _say_rcpt(notes["delivery"], recipient)
            except NextHopUnreachableError:
                # The next hop gave up waiting for our client. Nothing is sent yet, so begin again, once. What was
                # played before is played again at the hand-over, since it does not fit then.
                del notes["delivery"]
        begun = await self._begin(session, envelope, envelope.size or None, envelope.body == "8BITMIME")
        if isinstance(begun, Decision):
            notes["refusal"] = begun
            return begun
        notes["delivery"] = begun
        return await _say_rcpt(begun, recipient)

    async def _begin(
        self, session: Session, envelope: Envelope, size: int | None, body8bit: bool
    ) -> Delivery | Decision:
        """Begin a transaction with the next hop up to MAIL, or say why the message cannot go there."""
        delivery = await self.next_hop.begin()
        try:
            if self.options.xforward:
                await delivery.xforward(_about(session, envelope))
            refusal = _needs_smtputf8(delivery, envelope.sender)
            if refusal is None:
                answer = await delivery.mail(
                    str(envelope.sender), size=size, body8bit=body8bit, smtputf8=envelope.smtputf8
                )
                refusal = _refusal(answer)
        except BaseException:
            delivery.close()
            raise
        if refusal is None:
            return delivery
        await delivery.release()
        return refusal

    async def _hand_over(
        self, session: Session, envelope: Envelope, message: Message, recipients: Sequence[Address]
    ) -> Mapping[Address, Decision]:
        held = self._take_held(envelope)
        if held is not None:
            try:
                if _fits(held, envelope, message, recipients):
                    return await _send(held, message, recipients)
            except NextHopUnreachableError:
                if held.dot_sent:
                    raise
            finally:
                await held.release()
        eight_bit = message.eight_bit or envelope.body == "8BITMIME"
        begun = await self._begin(session, envelope, message.size_out, eight_bit)
        if isinstance(begun, Decision):
            return dict.fromkeys(recipients, begun)
        try:
            refused = {recipient: await _say_rcpt(begun, recipient) for recipient in recipients}
            answers = {recipient: refusal for recipient, refusal in refused.items() if refusal is not None}
            rest = [recipient for recipient in recipients if recipient not in answers]
            return answers | await _send(begun, message, rest) if rest else answers
        finally:
            await begun.release()

    def _take_held(self, envelope: Envelope) -> Delivery | None:
        """The delivery on which recipients were verified, which is ours to end from now on."""
        held: Delivery | None = envelope.notes(self).pop("delivery", None)
        return held

    def _failed(self, error: NextHopError) -> Decision:
        """It is never the client's fault, and the client need not know our network: the log does."""
        self.log.warning("next_hop_failed", next_hop=self.name, error=str(error))
        if isinstance(error, NextHopRefusedError):
            return defer("the mail server behind this one does not let us in", 451, "4.4.0")
        return defer("the mail server behind this one cannot be reached", 451, "4.4.1")


def _fits(delivery: Delivery, envelope: Envelope, message: Message, recipients: Sequence[Address]) -> bool:
    """Whether what was played at rcpt is what is to be sent now.

    Recipients that another plugin refused afterwards, or that were taken the last time, must not get it.
    """
    declared = envelope.body == "8BITMIME" or not message.eight_bit
    return declared and set(delivery.accepted) == {str(recipient) for recipient in recipients}


async def _say_rcpt(delivery: Delivery, recipient: Address) -> Decision | None:
    return _needs_smtputf8(delivery, recipient) or _refusal(await delivery.rcpt(str(recipient)))


async def _send(delivery: Delivery, message: Message, recipients: Sequence[Address]) -> dict[Address, Decision]:
    """Send the message to recipients that were accepted. RFC 6152 §3: no 8-bit to a server without 8BITMIME."""
    if message.eight_bit and "8BITMIME" not in delivery.extensions:
        lacking = deny("the mail server behind this one takes no 8-bit message", 554, "5.6.3")
        return dict.fromkeys(recipients, lacking)
    answers = await delivery.data(message.blocks())
    return {recipient: _decision(answers[str(recipient)]) for recipient in recipients}


def _needs_smtputf8(delivery: Delivery, address: Address) -> Decision | None:
    """RFC 6531 §3.5: such an address cannot be said to a server without SMTPUTF8."""
    if str(address).isascii() or "SMTPUTF8" in delivery.extensions:
        return None
    return deny("the mail server behind this one takes no such address", 553, "5.6.7")


def _refusal(answer: NextHopAnswer) -> Decision | None:
    return None if answer.is_positive else _decision(answer)


def _decision(answer: NextHopAnswer) -> Decision:
    """The next hop's word as ours. Without an enhanced status of its own it gets one that claims nothing (X.0.0)."""
    if answer.is_positive:
        return accept(answer.text)
    if answer.is_permanent:
        return deny(answer.text, answer.code, answer.status or "5.0.0")
    return defer(answer.text, answer.code, answer.status or "4.0.0")


def _about(session: Session, envelope: Envelope) -> dict[str, str]:
    """Our client, as Postfix's XFORWARD_README asks for it; empty is unknown."""
    name = session.known_name
    return {
        "NAME": "" if name == "unknown" else name,
        "ADDR": session.client,
        "PORT": str(session.port or ""),
        "PROTO": "ESMTP" if session.esmtp else "SMTP",
        "HELO": session.helo[:255],
        "IDENT": envelope.id,
        "SOURCE": "REMOTE",
    }
