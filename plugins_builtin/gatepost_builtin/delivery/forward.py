"""Deliver messages to a mail server behind gatepost, by SMTP or LMTP.

**What it does.** It accepts all recipients in its `domains` and delivers the message while the client waits, so 250 is
only sent after the next hop has sent it. With `verify` each recipient is tried at the next hop at once (MAIL, RCPT),
and the client gets the next hop's answer.

```toml
[plugins.forward]
to = ["smtp://127.0.0.1:10025", "smtp://192.0.2.10:25"]    # tried in this order
```

**Why it works.** The next hop knows its mailboxes, and clients get its own answers. An unknown mailbox is refused in
the session, so gatepost needs no queue and sends no bounces.

SIZE, 8BITMIME and SMTPUTF8 are passed on, and nothing is ever converted. Clients are offered 8BITMIME and SMTPUTF8 only
if every target has them, which is asked at the start and learned anew with each connection. While a target has not been
reached yet, 8BITMIME is offered, because a client that has to convert its message breaks its DKIM signature, and
SMTPUTF8 is not. 8-bit content that a client sends without asking goes on as it came. With `xforward`, a Postfix that
offers XFORWARD learns who the client is, for its log and its own checks.

**What it costs.** A connection to the next hop for each open transaction. An idle one is reused for 30 seconds, but
closed after 10 messages, 5 minutes or 5 refusals, because mail servers are strict with long sessions: OpenSMTPD takes
100 messages in one, Exim delivers only the first 10 at once, and Postfix slows down after 10 errors. When a used
connection fails before the end of the message, or has a temporary refusal for the sender or the first recipient,
everything is said once more on a fresh connection.

Until the final dot is sent to the next hop, nothing is delivered. So if the client is lost before that, or 300 seconds
after its own final dot, the delivery is ended and nobody gets the message. From then on it is completed, whether the
client stays or not.

**Several recipients.** SMTP has one reply for all of them after the final dot. If the next hop's answers differ, as
they may over LMTP, the client is told 451, and two things are remembered for 7 days. Recipients that have the message
are skipped when the client comes back. Recipients whose own mailbox was refused, such as a full one, then get 452 4.5.3
at RCPT, so that the client sends to each of them alone; the next hop is asked anew, and its answer is passed on. So one
full mailbox does not have the message returned for all.

Answers over LMTP may take minutes. What they say of a recipient is written down within 100 milliseconds, so that nobody
gets the message twice though the connection breaks, or gatepost is killed, before the last of them.

**When not to use it.** With a listener of the next hop that lets gatepost relay. Use one with empty mynetworks.

**On the wire.** Only refusals of the mail itself are passed on as permanent: at MAIL, RCPT and the end of the message.
Their words are kept, except that private addresses, paths of files and the next hop's own name become `(hidden)`.
If the next hop cannot be reached (451 4.4.1) or refuses gatepost (451 4.4.0), the log has a warning, and the client
tries again later. To refuse gatepost means a refusal of the connection, EHLO or STARTTLS; 500, 502, 503, 521, 530, 535
and 538 at any time; and 501, 504 and 555 to a MAIL with parameters, which gatepost has chosen. When ten clients in a
row have heard one and the same permanent refusal for all their recipients, such as `554 5.7.1 … Client host rejected`,
that is taken to be about gatepost too (`next_hop_refuses_all` in the log), until a recipient is accepted or the words
change. Refusals with 5.1.x and 5.2.x, which are about one address or mailbox, do not count. A message that needs an
extension which the next hop had when the client asked, and has no longer, is 451 4.4.0.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Annotated, Literal

from pydantic import Field, field_validator

from gatepost import (
    Address,
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
    Options,
    Session,
    Target,
    accept,
    defer,
    deny,
    hookimpl,
)
from gatepost_builtin.patterns import Domain

CLIENTS_REFUSED = 10
"""The number of clients in a row whose recipients are all refused in the same words, after which it is about us."""

HIDDEN = "(hidden)"
"""What stands in a reply in place of a part of our network."""

_OCTETS = r"(?:\d{1,3}\.){3}\d{1,3}"
_ADDRESS = re.compile(
    rf"(?:\[(?:IPv6:)?|(?<![\w.:]))({_OCTETS}|[0-9a-fA-F]*:[0-9a-fA-F:.]*:[0-9a-fA-F.]*)(?![\w.])\]?(?::\d+)?"
)
_PATH = re.compile(r"(?<![\w/:.@])/(?:[\w.+~-]+/)+[\w.+~-]*")

_LACKING = defer("the mail server behind this one cannot take such a message now", 451, "4.4.0")
_NOT_LET_IN = defer("the mail server behind this one does not let us in", 451, "4.4.0")


class ForwardOptions(Options):
    """The next hop, and how to deliver to it."""

    to: str | tuple[str, ...]
    """The next hop: `smtp://host:port`, `lmtp://host:port` or `lmtp:///path/to/socket`; or a list, tried in order."""

    domains: frozenset[Domain] = frozenset()
    """Recipient domains to forward. Empty: all."""

    verify: bool = True
    """Ask the next hop about each recipient while the client waits, and pass on its answer."""

    xforward: bool = True
    """Tell the next hop about the client if it offers XFORWARD."""

    pool: int = Field(10, ge=0)
    """The number of idle connections to keep to each target. More are opened when needed."""

    messages_per_connection: int = Field(10, ge=1)
    """The number of messages after which a connection is closed."""

    tls: Literal["opportunistic", "required", "off"] = "opportunistic"
    """Use STARTTLS if offered, with any certificate; always, with a valid certificate; or never."""

    connect_timeout: Duration = 10.0
    """How long to wait for a connection and its greeting."""

    command_timeout: Annotated[Duration, Field(le=300)] = 60.0
    """How long to wait for the answer to a command, and for the transmission of each block of the message. At most 5
    minutes."""

    data_timeout: Annotated[Duration, Field(le=600)] = 600.0
    """How long to wait for the answer to the final dot. At most 10 minutes, as long as clients wait for ours."""

    @field_validator("to")
    @classmethod
    def _are_targets(cls, to: str | tuple[str, ...]) -> str | tuple[str, ...]:
        texts = (to,) if isinstance(to, str) else to
        if not texts:
            raise ValueError("the list of targets is empty")
        for text in texts:
            Target.parse(text)
        return to


class Forward:
    """Verifies recipients at the next hop at rcpt, and delivers the message at queue."""

    Options = ForwardOptions
    grants = "delivery"
    commits = True

    def __init__(self, options: ForwardOptions, next_hop: NextHops, log: Log) -> None:
        texts = (options.to,) if isinstance(options.to, str) else options.to
        targets = [Target.parse(text) for text in texts]
        self.options = options
        self.log = log
        self._refusals = _Refusals()
        self.name = ", ".join(texts)
        self._places = re.compile(
            "|".join(rf"(?<![\w.@-]){re.escape(place)}(?![\w-])(?::\d+)?" for place in _places(targets))
        )
        self.next_hops = tuple(f"{target.host}:{target.port}" for target in targets if target.host)
        self.takes_everything = not options.domains
        self.next_hop = next_hop.open(
            targets,
            tls=options.tls,
            pool=options.pool,
            messages_per_connection=options.messages_per_connection,
            connect_timeout=options.connect_timeout,
            command_timeout=options.command_timeout,
            data_timeout=options.data_timeout,
        )

    @hookimpl
    def startup(self) -> None:
        """Learn which extensions the next hop has, before a client asks for them."""
        self.next_hop.explore()

    @hookimpl
    def capabilities(self, keywords: list[str]) -> None:
        """Offer clients only what every target can take.

        8BITMIME stays while that is not known: a client that has to convert its message breaks its own DKIM signature.
        """
        if "SMTPUTF8" in keywords and not self.next_hop.has("SMTPUTF8"):
            keywords.remove("SMTPUTF8")
        if "8BITMIME" in keywords and self.next_hop.has("8BITMIME") is False:
            keywords.remove("8BITMIME")

    @hookimpl
    async def rcpt(self, session: Session, envelope: Envelope, recipient: Address) -> Decision | None:
        if not self._goes_there(recipient):
            return None
        if envelope.next_hop not in ("", self.name):
            return defer("this recipient goes elsewhere, send it in a transaction of its own", 452, "4.5.3")
        refusal = await self._verify(session, envelope, recipient) if self.options.verify else None
        if refusal is None:
            # Claim it only now: a refused recipient must not keep the others from another next hop.
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
            return dict.fromkeys(recipients, self._failed(envelope, error))

    @hookimpl
    def reset(self, envelope: Envelope) -> Awaitable[None] | None:
        held = self._take_held(envelope)
        return held.release() if held is not None else None

    def _goes_there(self, recipient: Address) -> bool:
        # The bare postmaster has no domain and must always be accepted (RFC 5321 §4.5.1).
        return not self.options.domains or recipient.domain in self.options.domains or not recipient.domain

    async def _verify(self, session: Session, envelope: Envelope, recipient: Address) -> Decision | None:
        """Return the refusal of the next hop, or None. A refusal of the whole transaction is remembered."""
        notes = envelope.notes(self)
        if "refusal" in notes:
            refusal: Decision = notes["refusal"]
            return refusal
        delivery: Delivery | None = notes.get("delivery")
        try:
            if delivery is not None:
                needs = _needs_smtputf8(delivery, recipient)
                return needs or self._refusal(session, await delivery.rcpt(str(recipient)), recipient)
            begun = await self._begin(
                session, envelope, (recipient,), envelope.size or None, envelope.body == "8BITMIME"
            )
        except NextHopError as error:
            # ``queue`` begins anew with the recipients that were accepted before.
            self._take_held(envelope)
            begun = self._failed(envelope, error)
        if isinstance(begun, Decision):
            notes["refusal"] = begun
            return begun
        notes["delivery"], refusals = begun
        return refusals.get(recipient)

    async def _begin(
        self, session: Session, envelope: Envelope, recipients: Sequence[Address], size: int | None, body8bit: bool
    ) -> tuple[Delivery, dict[Address, Decision]] | Decision:
        """Begin a transaction with the next hop. Return it with the refusals of recipients, or that of the message."""
        delivery = await self.next_hop.begin()
        try:
            if self.options.xforward:
                await delivery.xforward(_about(session, envelope))
            refusal = _needs_smtputf8(delivery, envelope.sender)
            refusals = {each: needs for each in recipients if (needs := _needs_smtputf8(delivery, each)) is not None}
            if refusal is None:
                said = [each for each in recipients if each not in refusals]
                answer, answers = await delivery.envelope(
                    str(envelope.sender),
                    [str(each) for each in said],
                    size=size,
                    body8bit=body8bit,
                    smtputf8=envelope.smtputf8,
                )
                refusal = self._refusal(session, answer)
                for each, heard in zip(said, answers, strict=False):
                    if (refused := self._refusal(session, heard, each)) is not None:
                        refusals[each] = refused
        except BaseException:  # also when the client's time is up and this call is cancelled
            delivery.close()
            raise
        if refusal is None:
            return delivery, refusals
        await delivery.release()
        return refusal

    async def _hand_over(
        self, session: Session, envelope: Envelope, message: Message, recipients: Sequence[Address]
    ) -> Mapping[Address, Decision]:
        held = self._take_held(envelope)
        if held is not None:
            try:
                if _fits(held, envelope, message, recipients):
                    return await self._send(held, envelope, message, recipients)
            finally:
                await held.release()
        eight_bit = message.eight_bit or envelope.body == "8BITMIME"
        begun = await self._begin(session, envelope, recipients, message.size_out, eight_bit)
        if isinstance(begun, Decision):
            return dict.fromkeys(recipients, begun)
        delivery, refusals = begun
        try:
            rest = [recipient for recipient in recipients if recipient not in refusals]
            return refusals | await self._send(delivery, envelope, message, rest) if rest else refusals
        finally:
            await delivery.release()

    def _refusal(self, session: Session, answer: NextHopAnswer, recipient: Address | None = None) -> Decision | None:
        """Return the refusal that an answer to MAIL or RCPT is, or None."""
        if answer.is_positive:
            if recipient is not None:
                self._refusals.forget()
            return None
        if not (answer.is_permanent and self._refusals.note(answer, session.client, recipient)):
            return self._decision(answer)
        if not self._refusals.is_reported:
            self._refusals.is_reported = True
            self.log.warning("next_hop_refuses_all", next_hop=self.name, answer=str(answer))
        return _NOT_LET_IN

    async def _send(
        self, delivery: Delivery, envelope: Envelope, message: Message, recipients: Sequence[Address]
    ) -> dict[Address, Decision]:
        """Send the message to accepted recipients.

        8-bit content whose client asked for 8BITMIME must not go on without (RFC 6152 §3): we offered it, so the next
        hop has changed since. What came unasked goes on as it came.
        """
        if message.eight_bit and envelope.body == "8BITMIME" and "8BITMIME" not in delivery.extensions:
            return dict.fromkeys(recipients, _LACKING)
        on_answer = _noting(envelope, recipients) if delivery.target.protocol == "lmtp" else None
        answers = await delivery.data(message.blocks, before_dot=envelope.commit, on_answer=on_answer)
        is_taken = any(answer.is_positive for answer in answers.values())
        envelope.note_next_hop(str(delivery.target) if is_taken else "", delivery.failed)
        return {recipient: self._decision(answers[str(recipient)]) for recipient in recipients}

    def _decision(self, answer: NextHopAnswer) -> Decision:
        """Return the answer of the next hop as a decision. Without an enhanced status code it gets the neutral X.0.0.

        Its words are kept, but for what they tell about the network behind us.
        """
        text = without_inner(answer.text, self._places)
        if answer.is_positive:
            return accept(text)
        if answer.is_permanent:
            return deny(text, answer.code, answer.status or "5.0.0")
        return defer(text, answer.code, answer.status or "4.0.0")

    def _take_held(self, envelope: Envelope) -> Delivery | None:
        """Return the delivery on which recipients were verified. The caller has to end it."""
        held: Delivery | None = envelope.notes(self).pop("delivery", None)
        return held

    def _failed(self, envelope: Envelope, error: NextHopError) -> Decision:
        """Return the decision for a failed next hop. Clients should not see our network, so the log has the details."""
        envelope.note_next_hop(failed=(str(error),))
        if isinstance(error, NextHopRefusedError):
            return _NOT_LET_IN
        return defer("the mail server behind this one cannot be reached", 451, "4.4.1")


class _Refusals:
    """The permanent refusals since a recipient was accepted the last time, as long as all of them say the same."""

    __slots__ = ("_clients", "_text", "is_reported")

    def __init__(self) -> None:
        self.is_reported = False
        self._text = ""
        self._clients: set[str] = set()

    def forget(self) -> None:
        """Begin anew: the next hop does not refuse all."""
        self.is_reported = False
        self._clients.clear()

    def note(self, answer: NextHopAnswer, client: str, recipient: Address | None) -> bool:
        """Take in a refusal. Return True when enough clients in a row have heard nothing else, so that it is about us.

        5.1.x and 5.2.x are about an address or a mailbox (RFC 3463 §3.2, §3.3). Those who guess addresses hear them all
        the time, and they show that the next hop does look at recipients.
        """
        text = str(answer) if recipient is None else str(answer).replace(str(recipient), "")
        is_about_address = (answer.status or "").startswith(("5.1.", "5.2."))
        if text != self._text or is_about_address:
            self.forget()
            self._text = text
        if not is_about_address and len(self._clients) < CLIENTS_REFUSED:
            self._clients.add(client)
        return len(self._clients) == CLIENTS_REFUSED


def _fits(delivery: Delivery, envelope: Envelope, message: Message, recipients: Sequence[Address]) -> bool:
    """Return True when the delivery on which recipients were verified can be used for the message.

    It cannot if another plugin has refused one of its recipients since, or if one got the message the last time.
    """
    declared = envelope.body == "8BITMIME" or not message.eight_bit or "8BITMIME" not in delivery.extensions
    return declared and set(delivery.accepted) == {str(recipient) for recipient in recipients}


def _noting(envelope: Envelope, recipients: Sequence[Address]) -> Callable[[str, NextHopAnswer], None]:
    """Return a function that notes at once each recipient that has the message."""
    by_text = {str(recipient): recipient for recipient in recipients}

    def note(recipient: str, answer: NextHopAnswer) -> None:
        if answer.is_positive:
            envelope.note_taken(by_text[recipient])

    return note


def _needs_smtputf8(delivery: Delivery, address: Address) -> Decision | None:
    """Return a refusal if the next hop, which had SMTPUTF8, lacks it now for this address (RFC 6531 §3.5)."""
    return None if str(address).isascii() or "SMTPUTF8" in delivery.extensions else _LACKING


def _places(targets: Iterable[Target]) -> list[str]:
    """Return what the targets are called in words: their names and paths, the longest first."""
    return sorted({place for target in targets for place in (str(target), target.host or target.path)}, key=len)[::-1]


def without_inner(text: str, places: re.Pattern[str]) -> str:
    """Return the text without the next hop's name and path, private addresses with their ports, and paths of files."""
    return _ADDRESS.sub(_hidden, _PATH.sub(HIDDEN, places.sub(HIDDEN, text)))


def _hidden(found: re.Match[str]) -> str:
    try:
        return found[0] if ip_address(found[1]).is_global else HIDDEN
    except ValueError:  # a time of day, for instance
        return found[0]


def _about(session: Session, envelope: Envelope) -> dict[str, str]:
    """Return the XFORWARD attributes of our client (Postfix's XFORWARD_README); empty means unknown."""
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
