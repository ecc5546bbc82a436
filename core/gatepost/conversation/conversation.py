"""The conversation: the state of one SMTP dialogue over a gate.

It takes command lines and message blocks and gives replies. It alone knows what may follow what, when a delayed refusal
is spoken, and the limits on commands. It has no sockets and no timers, so doors, tests, ``gatepost try`` and replay
drive the very same object. Whoever drives it writes each reply and then calls ``after_reply()``.

RFC 5321 §3, §4.1 (commands), §4.1.4 (order), §4.5.3 (limits); RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531
(SMTPUTF8), RFC 2920 (who may pipeline what), RFC 2034 (status codes).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from gatepost import decisions, events, replies
from gatepost.address import Address, parse_parameters, parse_path
from gatepost.conversation import commands
from gatepost.conversation.commands import MUST_WAIT, NOISE
from gatepost.conversation.handover import hand_over
from gatepost.conversation.phases import Proceedings
from gatepost.conversation.trace_fields import add_received, forget_forged_results
from gatepost.errors import AddressError
from gatepost.gate import Gate, rule_score
from gatepost.ids import new_id
from gatepost.message import DataReader, Message
from gatepost.replies import Reply, identified
from gatepost.rulings import Receipt, Ruling
from gatepost.runtime import Runtime
from gatepost.session import Envelope, Session

Handler = Callable[["Conversation", str], Awaitable[Reply]]


class Conversation:
    """One dialogue. ``reader`` is there while a message is received: feed it, then call ``end_of_data``."""

    __slots__ = (
        "_headers_ruling",
        "_helo_done",
        "_judged",
        "_message",
        "_noise",
        "_proceedings",
        "_receipt",
        "_refusals",
        "_unknown_in_row",
        "_waits",
        "gate",
        "reader",
        "runtime",
        "session",
    )

    def __init__(self, gate: Gate, runtime: Runtime, session: Session) -> None:
        self.gate = gate
        self.runtime = runtime
        self.session = session
        self.reader: DataReader | None = None
        self._helo_done = False
        self._message: Message | None = None
        self._headers_ruling: Ruling | None = None
        self._receipt: Receipt | None = None
        self._judged: DataReader | None = None
        self._proceedings = Proceedings(gate, runtime, session)
        self._waits: str | None = None
        self._noise = self._refusals = self._unknown_in_row = 0
        session.scored = gate.score is not None

    # The start and the end of a session.

    def take_connect_ruling(self, ruling: Ruling) -> Reply | None:
        """Take the ruling of the connect phase, which the door has asked. A refusal, or None: greet the client."""
        self._proceedings.keep(ruling)
        return self._proceedings.speak_or_delay(ruling) if ruling.refuses else None

    async def greet(self) -> Reply:
        """The banner."""
        text = f"{self.runtime.hostname} ESMTP"
        if self.gate.chains["greeting"]:
            ruling = await self._proceedings.ask("greeting", (self.session,))
            text = ruling.decision.text if ruling.decision else text
        return replies.greeting(text)

    def after_reply(self) -> None:
        """The last reply is written: tell ``ruled`` what led to it."""
        self._proceedings.tell_rulings()

    def internal_error(self, error: BaseException) -> Reply:
        """The reply to a fault of ours: 451 with an incident id, and never the fault's text."""
        identifier = new_id()
        self.runtime.recorder.event(events.INTERNAL_ERROR, id=identifier, error=repr(error))
        return replies.internal_error(identifier)

    @property
    def has_to_tell(self) -> bool:
        """True when plugins are to be told of the session's end, so that ``close`` may take its time."""
        return self.session.envelope is not None or self.delivering or bool(self.gate.chains["disconnect"])

    async def close(self, last_reply: Reply | None = None) -> None:
        """The connection is gone: ``reset`` and ``disconnect`` run, and before them what follows a message.

        ``last_reply`` is what the door said when it ended the session by itself, such as 421 for a limit.
        """
        self.after_reply()
        await self.finish_message()
        await self._reset()
        await self._proceedings.tell_all("disconnect", (self.session,))
        self.end(last_reply)

    def end(self, last_reply: Reply | None = None) -> None:
        """The connection is gone, and nobody is to be told: the last half of ``close``."""
        self.after_reply()
        if self.reader is not None:
            self.reader.discard()
            self.reader = None
        self.session.cancel_later()
        self._proceedings.disconnected(last_reply)

    # Commands.

    async def command(self, line: bytes, behind: bool = False) -> Reply:
        """Answer one command line, given without its line end. ``behind``: more bytes have already come behind it."""
        if self._judged is not None:
            await self.finish_message()
        recorded = self._proceedings.recorded
        reply = await self._reply_to(line, behind)
        if reply.code >= 400:
            reply = self._counted(reply)
            if self._proceedings.recorded == recorded:
                self._proceedings.refused_by_rule(reply, line)
        return reply

    async def _reply_to(self, line: bytes, behind: bool) -> Reply:
        verb, _, rest = line.partition(b" ")
        verb = verb.upper()
        handler = _HANDLERS.get(verb)
        if handler is None:
            return await self._unknown(verb, line)
        if verb in NOISE:
            self._noise += 1
            if self._noise > self.runtime.limits.noise_commands:
                return replies.TOO_MUCH_NOISE
        try:
            argument = rest.decode()
        except UnicodeDecodeError:
            argument = None
        if (argument is None or not argument.isprintable()) and commands.has_controls(rest):
            return replies.BAD_OCTETS
        self._unknown_in_row = 0
        if verb in MUST_WAIT:
            self._note_early_talk(MUST_WAIT[verb], behind)
        if argument is None:
            return replies.NEEDS_SMTPUTF8 if verb in {b"MAIL", b"RCPT"} else replies.BAD_OCTETS
        reply = await handler(self, argument.strip())
        self._waits = None
        return reply

    def _note_early_talk(self, phase: str, behind: bool) -> None:
        """A command has come after which the client must wait; ``behind``: it has not."""
        self._waits = phase
        early = self.session.early_talk
        if behind:
            self.session.early_talk = early | {phase}
        elif phase in early:
            self.session.early_talk = early - {phase}

    def talks_early(self) -> None:
        """More octets have come while the answer to a command is being found."""
        if self._waits is not None:
            self.session.early_talk |= {self._waits}

    @property
    def delivering(self) -> bool:
        """True from the final dot until the message is settled: that is never broken off."""
        return self in self.runtime.delivering

    def _counted(self, reply: Reply) -> Reply:
        """Count permanent refusals: who collects too many without ever sending mail is harvesting addresses."""
        if reply.code >= 500:
            self._refusals += 1
            if self._refusals > self.runtime.limits.refusals and not reply.close:
                return replies.TOO_MANY_REFUSALS
        return reply

    def line_too_long(self) -> Reply:
        """The reply to a command line over the limit, which the door has swallowed."""
        reply = self._counted(replies.LINE_TOO_LONG)
        self._proceedings.refused_by_rule(reply, b"")
        return reply

    def line_limit(self, verb: bytes) -> int:
        """Octets a line may have, CRLF included."""
        return commands.line_limit(verb)

    async def _unknown(self, verb: bytes, line: bytes) -> Reply:
        if commands.is_http(verb):
            return replies.NOT_SMTP
        if commands.has_controls(line):
            return replies.BAD_OCTETS
        self._unknown_in_row += 1
        if self.gate.chains["unknown_command"]:
            text = line.decode("utf-8", "replace")
            ruling = await self._proceedings.ask("unknown_command", (self.session, text))
            if ruling.decision is not None:
                return self._answered(ruling, 250)
        if self._unknown_in_row >= self.runtime.limits.unknown_commands:
            return replies.TOO_MANY_UNKNOWN
        return replies.UNKNOWN_COMMAND

    async def _helo(self, hostname: str) -> Reply:
        return await self._hello(hostname, esmtp=False)

    async def _ehlo(self, hostname: str) -> Reply:
        return await self._hello(hostname, esmtp=True)

    async def _hello(self, hostname: str, esmtp: bool) -> Reply:
        if not hostname:
            return replies.NEEDS_HOSTNAME
        session = self.session
        await self._reset()
        session.helo, session.esmtp = hostname.split()[0], esmtp
        session._helo_points = None
        if session._delayed:
            session._delayed = tuple(ruling for ruling in session._delayed if ruling.phase != "helo")
        ruling = await self._proceedings.ask("helo", (session, session.helo))
        reply = self._proceedings.speak_or_delay(ruling) if ruling.refuses else None
        if reply is None and session._delayed:
            reply = self._proceedings.speak_due("helo")
        self._helo_done = reply is None
        if reply is not None:
            return reply
        return replies.hello(self.runtime.hostname, await self._keywords() if esmtp else ())

    async def _keywords(self) -> tuple[str, ...]:
        own = commands.keywords(self.runtime.limits.max_size)
        if not self.gate.chains["capabilities"]:
            return own
        changed = list(own)
        await self._proceedings.ask("capabilities", (self.session, changed))
        return tuple(changed)

    async def _mail(self, argument: str) -> Reply:
        if not self._helo_done:
            return replies.NEED_HELO
        if self.session.envelope is not None:
            return replies.NESTED_MAIL
        if argument[:5].upper() != "FROM:":
            return replies.syntax_error("expected MAIL FROM:<address>")
        try:
            sender, rest = parse_path(argument[5:], forward=False)
            parameters = parse_parameters(rest) if rest else {}
        except AddressError as error:
            return commands.unreadable(argument, error, smtputf8=" SMTPUTF8" in argument.upper())
        envelope = Envelope(sender, parameters)
        if parameters and (reply := commands.take_parameters(envelope, self.runtime.limits.max_size)) is not None:
            return reply
        if sender.smtputf8 and not envelope.smtputf8:
            return replies.NEEDS_SMTPUTF8
        session = self.session
        if session._delayed:
            session._delayed = tuple(ruling for ruling in session._delayed if ruling.phase != "mail")
        ruling = await self._proceedings.ask("mail", (session, envelope, sender, envelope.parameters), envelope)
        if ruling.refuses and (reply := self._proceedings.speak_or_delay(ruling, sender=str(sender))) is not None:
            return reply
        if session._delayed and (reply := self._proceedings.speak_due("mail", sender=str(sender))) is not None:
            return reply
        session.envelope = envelope
        return replies.SENDER_OK

    async def _rcpt(self, argument: str) -> Reply:
        envelope = self.session.envelope
        if envelope is None:
            return replies.NEED_MAIL
        if argument[:3].upper() != "TO:":
            return replies.syntax_error("expected RCPT TO:<address>")
        try:
            recipient, rest = parse_path(argument[3:], forward=True)
            if rest and parse_parameters(rest):
                return replies.UNKNOWN_PARAMETER
        except AddressError as error:
            return commands.unreadable(argument, error, smtputf8=envelope.smtputf8)
        if recipient.smtputf8 and not envelope.smtputf8:
            return replies.NEEDS_SMTPUTF8
        if len(envelope.recipients) >= self.runtime.limits.recipients:
            return replies.TOO_MANY_RECIPIENTS
        return await self._judge_recipient(envelope, recipient)

    async def _judge_recipient(self, envelope: Envelope, recipient: Address) -> Reply:
        session, score = self.session, self.gate.score
        if session._delayed and not recipient.is_postmaster:
            reply = self._proceedings.speak_due("rcpt", recipient)
            if reply is not None:
                return reply
        ruling = await self._proceedings.ask("rcpt", (session, envelope, recipient, {}), envelope, recipient)
        if not ruling.vouched and not ruling.refuses:
            ruling.decide(decisions.NOT_VOUCHED, "gatepost")
        if score is not None and not recipient.is_postmaster:
            rule_score(ruling, score, session, envelope, (recipient,))
        if ruling.refuses:
            return self._proceedings.speak(ruling, recipient)
        if recipient not in envelope.recipients:
            envelope.recipients = (*envelope.recipients, recipient)
        return replies.RECIPIENT_OK

    async def _data(self, argument: str) -> Reply:
        reply = self._check_data(argument)
        if reply is None:
            envelope = self.session.envelope
            ruling = await self._proceedings.ask("data", (self.session, envelope), envelope)
            if not ruling.refuses:
                content, reject = self.runtime.spool.content(), self.runtime.line_ends == "reject"
                self.reader = DataReader(content, self.runtime.limits, reject=reject)
                return replies.START_DATA
            reply = self._proceedings.speak(ruling)
            await self._reset()
        return self._body_behind(reply)

    def _check_data(self, argument: str) -> Reply | None:
        """Why there can be no message now."""
        if argument:
            return replies.NO_ARGUMENT
        if self.session.envelope is None:
            return replies.NEED_MAIL
        if not self.session.envelope.recipients:
            return replies.NEED_RCPT
        return None if self.runtime.spool.has_room() else replies.NO_ROOM

    def _body_behind(self, reply: Reply) -> Reply:
        """Close after a refused DATA when its body is already on the way: it would run as commands."""
        if "data" not in self.session.early_talk or reply.close:
            return reply
        return Reply(reply.code, reply.text, reply.status, close=True)

    async def _rset(self, argument: str) -> Reply:
        if argument:
            return replies.NO_ARGUMENT
        await self._reset()
        return replies.OK

    async def _noop(self, argument: str) -> Reply:
        return await self._simple("noop", argument, 250, replies.OK)

    async def _vrfy(self, argument: str) -> Reply:
        if not argument:
            return replies.NEEDS_ARGUMENT
        return await self._simple("vrfy", argument, 250, replies.CANNOT_VERIFY)

    async def _help(self, argument: str) -> Reply:
        return await self._simple("help", argument, 214, replies.HELP)

    async def _expn(self, argument: str) -> Reply:
        return replies.NO_EXPN

    async def _quit(self, argument: str) -> Reply:
        if argument:
            return replies.NO_ARGUMENT
        await self._proceedings.tell_all("quit", (self.session,))
        return replies.BYE

    async def _simple(self, phase: str, argument: str, code: int, reply: Reply) -> Reply:
        """A command that plugins may answer and that changes no state."""
        if not self.gate.chains[phase]:
            return reply
        ruling = await self._proceedings.ask(phase, (self.session, argument))
        return self._answered(ruling, code) if ruling.decision is not None else reply

    def _answered(self, ruling: Ruling, code: int) -> Reply:
        assert ruling.decision is not None
        if ruling.refuses:
            return self._proceedings.speak(ruling)
        return Reply(code, ruling.decision.text or "OK", "2.0.0")

    # The message.

    async def headers(self) -> None:
        """The header block is here: ask ``headers``. A refusal is kept for the end of data."""
        reader, envelope = self.reader, self.session.envelope
        assert reader is not None and envelope is not None
        if reader.reply is not None or self._message is not None:
            return
        self._message = envelope.message = reader.message()
        if not self.gate.chains["headers"]:
            return
        ruling = await self._proceedings.ask("headers", (self.session, envelope, self._message), envelope)
        if ruling.refuses:
            self._headers_ruling = ruling
            reader.discard()

    async def end_of_data(self) -> Reply:
        """The final dot is here: judge the message and hand it over.

        From here until ``finish_message`` has run, whoever drives this does not break it off, whether the client stays or not,
        and stopping waits for it. When the reply is written, call ``finish_message``; the next command does too.
        """
        reader, envelope = self.reader, self.session.envelope
        assert reader is not None and envelope is not None
        self.runtime.delivering.add(self)
        try:
            await self.headers()
            self.reader = None
            reply = self._counted(await self._judge(envelope, reader))
        except BaseException as error:  # whatever a plugin has done to this task: the client gets its answer
            reply = self.internal_error(error)
        self.reader, self._judged = None, reader
        if self._receipt is None:  # nothing has to wait for the reply to be written
            with suppress(asyncio.CancelledError):  # a plugin's doing: the client gets its answer all the same
                await self.finish_message()
        return reply

    async def finish_message(self) -> None:
        """What follows the reply to a message, also if nobody reads it: ``queued``, if it was taken, and ``reset``."""
        judged, self._judged = self._judged, None
        if judged is None:
            return
        try:
            if self._receipt is not None:
                envelope = self.session.envelope
                arguments = (self.session, envelope, self._message, self._receipt)
                await self._proceedings.tell_all("queued", arguments, envelope)
            await self._reset()
        finally:
            judged.discard()
            self.runtime.delivering.discard(self)

    async def _judge(self, envelope: Envelope, reader: DataReader) -> Reply:
        """Accept or refuse what has been received."""
        refused = reader.reply
        if self._headers_ruling is not None and not (refused and refused.close):
            return self._proceedings.speak(self._headers_ruling)
        if refused is not None:
            reply = identified(refused, envelope.id)
            self._proceedings.refused_data(reply, envelope.id, reader.size)
            return reply
        assert self._message is not None
        self._message.eight_bit = reader.eight_bit
        if reader.names_results:
            forget_forged_results(self._message, self.runtime.hostname)
        return await self._judge_message(envelope, self._message)

    async def _judge_message(self, envelope: Envelope, message: Message) -> Reply:
        session = self.session
        if self.gate.chains["message"] or self.gate.score is not None:
            ruling = await self._rule_message(envelope, message)
            if ruling.refuses:
                return self._proceedings.speak(ruling)
        add_received(message, session, envelope, self.runtime)
        ruling, reply = await hand_over(self.gate, self.runtime, session, envelope, message)
        self._proceedings.keep(ruling, envelope)
        if reply.code >= 400:
            self._proceedings.refused(ruling, reply)
        else:
            self._accepted(ruling, envelope, message, reply)
        return reply

    async def _rule_message(self, envelope: Envelope, message: Message) -> Ruling:
        """What the plugins and then the score say of the whole message."""
        session = self.session
        ruling = await self._proceedings.ask("message", (session, envelope, message), envelope)
        if self.gate.score is not None:
            scored = [recipient for recipient in envelope.recipients if not recipient.is_postmaster]
            rule_score(ruling, self.gate.score, session, envelope, scored)
        return ruling

    def _accepted(self, ruling: Ruling, envelope: Envelope, message: Message, reply: Reply) -> None:
        self._noise = self._refusals = 0
        self._proceedings.accepted(ruling, reply, envelope.id, message.size)
        if self.gate.chains["queued"]:
            plugins = {name: None for name, _ in envelope._answers.values()}
            self._receipt = Receipt(envelope.id, reply.lines()[0], tuple(plugins))

    async def _reset(self) -> None:
        """End the transaction, if there is one."""
        envelope = self.session.envelope
        self._message = self._headers_ruling = self._receipt = None
        if envelope is None:
            return
        if self.gate.chains["reset"]:
            await self._proceedings.tell_all("reset", (self.session, envelope), envelope)
        self.session.envelope = None
        if envelope.message is not None:
            envelope.message.close()


_HANDLERS: Final[dict[bytes, Handler]] = {
    b"HELO": Conversation._helo,
    b"EHLO": Conversation._ehlo,
    b"MAIL": Conversation._mail,
    b"RCPT": Conversation._rcpt,
    b"DATA": Conversation._data,
    b"RSET": Conversation._rset,
    b"NOOP": Conversation._noop,
    b"VRFY": Conversation._vrfy,
    b"EXPN": Conversation._expn,
    b"HELP": Conversation._help,
    b"QUIT": Conversation._quit,
}
