"""The mail transactions of a session, one at a time: MAIL, RCPT, DATA and the message, driven by typed calls.

It asks the phases of a transaction, fills the envelope, judges the message and hands it over. It returns replies and
does not count refusals, as the class ``Conversation`` does, which drives it for SMTP. It knows no command lines, no
HELO and no sockets: a door for another protocol uses ``Transaction`` directly, without a ``Conversation``.

The calls, in their order:

    mail            opens a transaction: ``session.envelope`` is there when the reply is positive
    rcpt            adds a recipient, or does not
    data            after a 354, ``reader`` is there to be fed with what the client sends
    headers         may follow each ``reader.feed`` after which ``reader.headers_done`` is true
    end_of_data     judges the message when ``reader.feed`` has met its end, and hands it over
    finish_message  tells ``queued`` and ends the transaction: call it after the reply to the message is written.
                    ``end_of_data`` has called it already if ``queued`` has nothing to be told
    lose_client     says whether what runs for a client that is gone may be cancelled
    reset           ends a transaction at any time before ``end_of_data``, also while its message is received

RFC 5321 §3.3 (transactions), §4.1.1.2-4 (MAIL, RCPT, DATA), §4.5.1 (postmaster); RFC 1870 (SIZE), RFC 6152 (8BITMIME),
RFC 6531 (SMTPUTF8), RFC 4954 §5 (AUTH of MAIL).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from gatepost import decisions, events, replies
from gatepost.address import Address
from gatepost.concurrency import Commitment
from gatepost.conversation.handover import hand_over
from gatepost.conversation.phases import Phases
from gatepost.conversation.records import Records
from gatepost.conversation.taken import comes_alone
from gatepost.conversation.trace_fields import add_received, forget_forged_results
from gatepost.gate import Gate, rule_score
from gatepost.ids import new_id
from gatepost.message import DataReader, Message
from gatepost.replies import Reply, identified
from gatepost.rulings import Receipt, Ruling
from gatepost.runtime import Runtime
from gatepost.session import Envelope, Session

OVERDUE: Final = 5.0
"""Seconds after its deadline at which a handover is given up by a server that stops."""
_PARAMETERS: Final = frozenset({"SIZE", "BODY", "SMTPUTF8", "AUTH"})


class Incoming:
    """A message from the 354 until ``finish_message``: its envelope, its reader, and its results so far.

    ``reader.reply`` is set when the reader has refused the message, which is then read to its end and discarded.
    """

    __slots__ = ("envelope", "headers_ruling", "message", "reader", "receipt")

    def __init__(self, envelope: Envelope, reader: DataReader) -> None:
        self.envelope = envelope
        self.reader = reader
        self.message: Message | None = None
        self.headers_ruling: Ruling | None = None
        """The refusal of the ``headers`` phase, to be spoken at the end of data."""
        self.receipt: Receipt | None = None
        """The argument of ``queued``, which is told once the reply is written."""


class Transaction:
    """The transactions of one session.

    =====================  ==================  =============  ========  ==============  ========================
    state                  session.envelope    ``_incoming``  reader    ``unfinished``  in runtime.delivering
    =====================  ==================  =============  ========  ==============  ========================
    no transaction         –                   –              –         –               no
    MAIL was accepted      set                 –              –         –               no
    354 was given          set                 set            set       –               no
    judged, handed over    set                 set            –         –               yes, unless its client is lost
    reply to be written    set                 –              –         set             yes
    =====================  ==================  =============  ========  ==============  ========================

    The last state is skipped unless ``queued`` waits for the reply.
    """

    __slots__ = ("_gate", "_incoming", "_runtime", "_session", "phases", "reader", "unfinished")

    def __init__(self, gate: Gate, runtime: Runtime, session: Session) -> None:
        self._gate = gate
        self._runtime = runtime
        self._session = session
        self._incoming: Incoming | None = None
        self.phases = Phases(gate, session, Records(runtime, session))
        self.reader: DataReader | None = None
        self.unfinished: Incoming | None = None
        """The message that has its reply and waits for ``finish_message``."""
        session._scored = gate.score is not None

    # The envelope.

    async def mail(self, sender: Address, parameters: dict[str, str | None]) -> Reply:
        """Open a transaction for mail of ``sender``; the keys of the ESMTP ``parameters`` are in upper case."""
        session, phases = self._session, self.phases
        if session._envelope is not None:
            return replies.NESTED_MAIL
        envelope = Envelope(sender, parameters)
        if parameters and (reply := _take_parameters(envelope, self._runtime.limits.max_size)) is not None:
            return reply
        if envelope._smtputf8 and session._without_smtputf8:
            return replies.UNKNOWN_PARAMETER
        if session._without_8bitmime:  # some ask for it all the same: it promises nothing that we have not offered
            envelope._body = "7BIT"
        if sender.smtputf8 and not envelope._smtputf8:
            return replies.NEEDS_SMTPUTF8
        # ``_delayed`` is empty for most clients: reading it here saves them the calls.
        if session._delayed:  # a new MAIL is judged afresh
            phases.forget_delayed("mail")
        ruling = await phases.ask("mail", (session, envelope, sender, envelope._parameters), envelope)
        if ruling.refuses and (reply := phases.speak_or_delay(ruling, sender=str(sender))) is not None:
            return reply
        if session._delayed and (reply := phases.speak_due("mail", sender=str(sender))) is not None:
            return reply
        session._envelope = envelope  # only now: a refused MAIL leaves no transaction open
        return replies.SENDER_OK

    async def rcpt(self, recipient: Address, parameters: Mapping[str, str | None]) -> Reply:
        """Add ``recipient`` to the envelope if a plugin vouches for it and none refuses it."""
        session, envelope = self._session, self._session._envelope
        if envelope is None:
            return replies.NEED_MAIL
        if parameters:
            return replies.UNKNOWN_PARAMETER
        if recipient.smtputf8 and not envelope._smtputf8:
            return replies.NEEDS_SMTPUTF8
        if envelope._recipients and (reply := await self._refuse_another(envelope, recipient)) is not None:
            return reply
        # The postmaster must be reachable also for clients that we wrongly suspect (RFC 5321 §4.5.1): neither a delayed
        # refusal nor the score is held against mail to it. Plugins are asked all the same.
        phases, score = self.phases, self._gate.score
        if session._delayed and (reply := self._speak_due(envelope, recipient)) is not None:
            return reply
        ruling = await phases.ask("rcpt", (session, envelope, recipient, parameters), envelope, recipient)
        if not ruling.vouched and not ruling.refuses:
            ruling.decide(decisions.NOT_VOUCHED, "gatepost")
        if score is not None and not recipient.is_postmaster:
            rule_score(ruling, score, session, envelope, (recipient,))
        if ruling.refuses:
            return phases.speak(ruling, recipient)
        # A client may name a recipient twice. Both get 250, and the message is delivered once.
        if recipient not in envelope._recipients:
            envelope._recipients = (*envelope._recipients, recipient)
        return replies.RECIPIENT_OK

    async def _refuse_another(self, envelope: Envelope, recipient: Address) -> Reply | None:
        """Return the reply to a recipient that cannot join those of ``envelope``; its client sends to it later."""
        if len(envelope._recipients) >= self._runtime.limits.recipients:
            return replies.TOO_MANY_RECIPIENTS
        return replies.COMES_ALONE if await comes_alone(self._runtime, envelope, recipient) else None

    def _speak_due(self, envelope: Envelope, recipient: Address) -> Reply | None:
        """Speak the delayed refusal that is due for ``recipient``, permanently if the points so far say so."""
        due = None if recipient.is_postmaster else self.phases.due("rcpt", recipient)
        if due is None:
            return None
        if self._gate.score is not None:
            rule_score(due, self._gate.score, self._session, envelope, (recipient,))
        return self.phases.speak(due, recipient, "rcpt")

    async def reset(self) -> None:
        """End the transaction, if there is one, and give back what it holds."""
        incoming, self._incoming, self.reader = self._incoming, None, None
        envelope = self._session._envelope
        if envelope is None:
            return
        if self._gate.chains["reset"]:
            await self.phases.tell_all("reset", (self._session, envelope), envelope)
        # Only after the hooks, which may still read the envelope and its message.
        self._session._envelope = None
        if envelope._message is not None:
            envelope._message.close()
        if incoming is not None:  # the end of its data will never come
            incoming.reader.discard()

    # The message.

    async def data(self) -> Reply:
        """Begin to receive a message: after a 354, feed ``reader``. A refusal of the plugins ends the transaction."""
        envelope = self._session._envelope
        if envelope is None:
            return replies.NEED_MAIL
        if not envelope._recipients:
            return replies.NEED_RCPT
        runtime = self._runtime
        if not runtime.spool.has_room():
            return replies.NO_ROOM
        ruling = await self.phases.ask("data", (self._session, envelope), envelope)
        if ruling.refuses:
            self._rule_score(ruling, envelope)
            reply = self.phases.speak(ruling)
            await self.reset()
            return reply
        self.reader = DataReader(runtime.spool.content(), runtime.limits, reject=runtime.line_ends == "reject")
        self._incoming = Incoming(envelope, self.reader)
        return replies.START_DATA

    async def headers(self) -> None:
        """Ask ``headers`` once: the header block is here. A refusal is spoken at the end of data."""
        incoming = self._incoming
        if incoming is None or incoming.message is not None or incoming.reader.reply is not None:
            return
        message, envelope = self._publish_message(incoming), incoming.envelope
        if self._gate.chains["headers"]:
            ruling = await self.phases.ask("headers", (self._session, envelope, message), envelope)
            if ruling.refuses:
                incoming.headers_ruling = ruling
                incoming.reader.discard()

    def _publish_message(self, incoming: Incoming) -> Message:
        """Put the message, whose header block has come, into the envelope for plugins to see, and return it.

        It has our trace fields: a scanner that found the client's forged Received on top would believe it.
        """
        message = incoming.message
        if message is None:
            envelope = incoming.envelope
            message = incoming.reader.message(envelope._smtputf8)
            if incoming.reader.names_results:
                forget_forged_results(message, self._runtime)
            add_received(message, self._session, envelope, self._runtime)
            incoming.message = envelope._message = message
        return message

    async def end_of_data(self) -> Reply:
        """Judge the message that has been received, and hand it over.

        From here until ``finish_message`` has run, the transaction is in ``runtime.delivering``: stopping waits for it,
        and the caller breaks it off only if the client is lost and ``lose_client`` says that it may. Then this raises
        ``CancelledError``, and ``finish_message`` is still to be called.
        """
        incoming = self._incoming
        assert incoming is not None, "end_of_data follows a 354 to data"
        commitment = incoming.envelope._commitment = Commitment(self._runtime.clock)
        self._runtime.delivering.add(self)
        try:
            if self._gate.chains["headers"]:  # the block may have come together with the final dot
                await self.headers()
            self.reader = None  # the octets that follow are commands again
            reply = await self._judge(incoming)
        except BaseException as error:  # whatever a plugin has done to this task: the client gets its answer
            if commitment.lost and isinstance(error, asyncio.CancelledError):
                self._record_loss(incoming)
                raise
            reply = self.internal_error(error)
        commitment.settle()
        self.reader = self._incoming = None
        self.unfinished = incoming
        if incoming.receipt is None:  # nothing has to wait for the reply to be written
            try:  # noqa: SIM105, contextlib.suppress would be four calls more for each message
                await self.finish_message()
            except asyncio.CancelledError:
                # A plugin's doing, since doors cancel nothing that is in ``runtime.delivering``. ``finish_message`` has
                # released the message all the same, and the client gets its answer.
                pass
        return reply

    def lose_client(self) -> bool:
        """Return True when what runs for a client that is gone may be cancelled.

        That is not so from the point of no return on: half done, nobody would know who has the message.
        """
        if self not in self._runtime.delivering:
            return True
        incoming = self._incoming
        commitment = incoming.envelope._commitment if incoming is not None else None
        if commitment is None or not commitment.lose_client():
            return False
        self._runtime.delivering.discard(self)
        return True

    # Stopping: see ``runtime.Handover``.

    def holder(self) -> dict[str, object]:
        """Return the plugin that the handover waits for, the session and its client, for the log."""
        commitment = self._commitment
        plugin = commitment.holder if commitment is not None else ""
        return {"plugin": plugin, "session": self._session.id, "client": self._session._client}

    def is_overdue(self, now: float) -> bool:
        """Return True when a plugin has let the deadline of the handover pass and ignores its cancellation."""
        commitment = self._commitment
        return commitment is not None and now >= commitment.deadline + OVERDUE

    @property
    def _commitment(self) -> Commitment | None:
        incoming = self._incoming or self.unfinished
        return incoming.envelope._commitment if incoming is not None else None

    def _record_loss(self, incoming: Incoming) -> None:
        """Record that the client left before the message was taken, and leave the rest to ``finish_message``."""
        self.reader = self._incoming = None
        self.unfinished = incoming
        ruling = Ruling("queue")
        ruling.decide(decisions.CLIENT_LEFT, "gatepost")
        self.phases.refuse(ruling, replies.refusal("queue", ruling.refusal, ruling.identify()))

    async def _judge(self, incoming: Incoming) -> Reply:
        """Refuse the message, or hand it over."""
        session, runtime, phases = self._session, self._runtime, self.phases
        envelope, reader = incoming.envelope, incoming.reader
        # A refusal of the headers phase came first, but a bare line end (SMTP smuggling) must close the
        # connection all the same.
        if incoming.headers_ruling is not None and not (reader.reply is not None and reader.reply.close):
            self._rule_score(incoming.headers_ruling, envelope)
            return phases.speak(incoming.headers_ruling)
        if reader.reply is not None:
            reply = identified(reader.reply, envelope._id)
            phases.records.add_refused_message(reply, reader.size)
            return reply
        message = self._publish_message(incoming)
        # The message may have been published at ``headers``, before the octets of its body had come.
        message.eight_bit = message.eight_bit or reader.eight_bit
        if self._gate.score is not None or self._gate.chains["message"]:
            ruling = await phases.ask("message", (session, envelope, message), envelope)
            self._rule_score(ruling, envelope)
            if ruling.refuses:
                return phases.speak(ruling)
        ruling, reply = await hand_over(self._gate, runtime, session, envelope, message)
        phases.keep(ruling, envelope)
        if reply.code >= 400:
            phases.refuse(ruling, reply)
            return reply
        phases.records.add_accepted_message(ruling, reply, envelope._id, message.size)
        if self._gate.chains["queued"]:
            plugins = {name: None for name, _ in envelope._answers.values()}  # a set that keeps their order
            incoming.receipt = Receipt(envelope._id, reply.lines()[0], tuple(plugins))
        return reply

    def _rule_score(self, ruling: Ruling, envelope: Envelope) -> None:
        """Let the points rule on the whole transaction, if there is a ``[score]``."""
        score = self._gate.score
        if score is not None:
            scored = [recipient for recipient in envelope._recipients if not recipient.is_postmaster]
            rule_score(ruling, score, self._session, envelope, scored)

    async def finish_message(self) -> None:
        """Tell ``queued``, if the message was taken, and end the transaction.

        Call it when the reply to the message is written, or can no longer be written. Without an ``unfinished`` message
        it does nothing; that is the case after an ``end_of_data`` with nothing to tell ``queued``, which has called it.
        """
        incoming, self.unfinished = self.unfinished, None
        if incoming is None:
            return
        try:
            if incoming.receipt is not None:
                envelope = incoming.envelope
                arguments = (self._session, envelope, incoming.message, incoming.receipt)
                await self.phases.tell_all("queued", arguments, envelope)
            await self.reset()
        finally:
            # Also when a plugin's ``reset`` has cancelled this task: a transaction that stayed open would have the next
            # MAIL refused.
            if self._session._envelope is incoming.envelope:
                self._session._envelope = None
            incoming.reader.discard()
            self._runtime.delivering.discard(self)

    def internal_error(self, error: BaseException) -> Reply:
        """Log a fault of ours and return the reply to it: 451 with an incident id, and never the fault's text."""
        identifier = new_id()
        self._runtime.recorder.event(events.INTERNAL_ERROR, id=identifier, error=repr(error))
        return replies.internal_error(identifier)


def _take_parameters(envelope: Envelope, max_size: int) -> Reply | None:
    """Take what the ESMTP parameters of MAIL say into the envelope; the reply when something is wrong with them."""
    parameters = envelope._parameters
    if not parameters.keys() <= _PARAMETERS:
        return replies.UNKNOWN_PARAMETER
    if "SIZE" in parameters:
        size = parameters["SIZE"] or ""
        if not (size.isascii() and size.isdigit() and len(size) <= 20):  # RFC 1870 §3: at most 20 digits
            return replies.BAD_SIZE
        envelope._size = int(size)
        if envelope._size > max_size:
            return replies.TOO_BIG
    envelope._body = (parameters.get("BODY") or "7BIT").upper()
    if ("BODY" in parameters and not parameters["BODY"]) or envelope._body not in {"7BIT", "8BITMIME"}:
        return replies.BAD_BODY
    if parameters.get("SMTPUTF8") is not None:
        return replies.syntax_error("SMTPUTF8 takes no value")
    return None
