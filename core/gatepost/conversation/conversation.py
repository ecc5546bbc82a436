"""The conversation: the state of one SMTP session over a gate.

It takes command lines and gives replies. It alone knows the syntax and the order of commands, the limits on them, and
whether the client talks before it is its turn. Envelopes and messages are left to ``transaction``.

It has no sockets and no timers, so doors, tests, ``gatepost try`` and replay drive the very same object. The driver
writes each reply and then calls ``after_reply``.

RFC 5321 §3, §4.1 (commands), §4.1.4 (order), §4.5.3 (limits); RFC 2920 (pipelining), RFC 2034 (status codes).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from gatepost import replies
from gatepost.address import parse_parameters, parse_path
from gatepost.conversation import commands
from gatepost.conversation.commands import MUST_WAIT, NOISE
from gatepost.conversation.transaction import Transaction
from gatepost.errors import AddressError
from gatepost.gate import Gate
from gatepost.replies import Reply
from gatepost.rulings import Ruling
from gatepost.runtime import Runtime
from gatepost.session import Session

Handler = Callable[["Conversation", str], Reply | Awaitable[Reply]]
"""Answers a command: at once, or with what is to be awaited for the reply."""


class Conversation:
    """One session.

    While there is a ``transaction.reader``, a message is received: feed that, call ``transaction.headers`` when the
    header block is here, and ``end_of_data`` at the end. After the reply to the message is written, call
    ``transaction.finish_message``; the next command does too.
    """

    __slots__ = (
        "_followers",
        "_helo_done",
        "_leader",
        "_noise",
        "_phases",
        "_refusals",
        "_unknown_in_row",
        "_waits",
        "gate",
        "runtime",
        "session",
        "transaction",
    )

    def __init__(self, gate: Gate, runtime: Runtime, session: Session) -> None:
        self.gate = gate
        self.runtime = runtime
        self.session = session
        self.transaction = Transaction(gate, runtime, session)
        self._phases = self.transaction.phases
        self._helo_done = False
        self._waits: str | None = None
        """The phase of the command that is being answered, if its client must wait for the reply."""
        self._noise = self._refusals = self._followers = self._unknown_in_row = 0
        self._leader = b""
        """The command that was refused last, on which other refusals may follow: see ``_follows``."""

    # The start and the end of a session.

    def take_connect_ruling(self, ruling: Ruling) -> Reply | None:
        """Take the ruling of the connect phase, which the door has asked. A refusal, or None: greet the client."""
        self._phases.keep(ruling)
        return self._phases.speak_or_delay(ruling) if ruling.refuses else None

    async def greet(self) -> Reply:
        """Return the banner."""
        text = f"{self.runtime.hostname} ESMTP"
        if self.gate.chains["greeting"]:
            ruling = await self._phases.ask("greeting", (self.session,))
            text = ruling.decision.text if ruling.decision else text
        return replies.greeting(text)

    def after_reply(self) -> None:
        """Tell ``ruled`` what led to the last reply, now that it is written."""
        if self._phases.to_tell:
            self._phases.tell_rulings()

    def internal_error(self, error: BaseException) -> Reply:
        """Log a fault of ours and return the reply to it: 451 with an incident id, and never the fault's text."""
        return self.transaction.internal_error(error)

    @property
    def has_to_tell(self) -> bool:
        """True when plugins are to be told of the session's end, so that ``close`` may take its time."""
        return self.session._envelope is not None or self.delivering or bool(self.gate.chains["disconnect"])

    async def close(self, last_reply: Reply | None = None) -> None:
        """The connection is gone: ``reset`` and ``disconnect`` run, and before them what follows a message.

        ``last_reply`` is what the door said when it ended the session by itself, such as 421 for a limit.
        """
        # In the order in which a client that stays and says QUIT would have brought it about.
        self.after_reply()
        await self.transaction.finish_message()
        await self.transaction.reset()
        await self._phases.tell_all("disconnect", (self.session,))
        self.end(last_reply)

    def end(self, last_reply: Reply | None = None) -> None:
        """The connection is gone, and no plugin is to be told (``has_to_tell``): the last half of ``close``."""
        self.after_reply()
        self.session._cancel_later()
        self._phases.records.add_end(last_reply)

    # Commands.

    async def command(self, line: bytes, behind: bool = False) -> Reply:
        """Answer one command line, given without its line end. ``behind``: more octets have already come behind it."""
        # A driver that does not wait for its replies to be written has not finished the last message.
        if self.transaction.unfinished is not None:
            await self.transaction.finish_message()
        answer = self._answer(line, behind)
        reply = answer if isinstance(answer, Reply) else await answer
        waited, self._waits = self._waits, None  # octets that come from here on are not early
        if reply.code < 400:
            return reply
        follows = self._follows(reply, line)
        if waited == "data" and "data" in self.session._early_talk and not reply.close:
            # The body of the refused message is already on its way. Close, or its lines would run as commands.
            reply = Reply(reply.code, reply.text, reply.status, True, reply.id)
        if follows:
            self._followers += 1
            if self._followers <= self.runtime.limits.recipients:
                return reply
        has_record = bool(reply.id)  # asked before the count, which may replace the reply
        reply = self._count(reply, follows)
        if not has_record:
            self._phases.records.add_refused_command(reply, line)
        return reply

    def _answer(self, line: bytes, behind: bool) -> Reply | Awaitable[Reply]:
        """Answer a line that breaks a rule of all commands; hand any other to the handler of its command."""
        verb, _, rest = line.partition(b" ")
        verb = verb.upper()
        handler = _HANDLERS.get(verb)
        if handler is None:
            blank = commands.with_blanks(line)
            return self._unknown(verb, line) if blank == line else self._answer(blank, behind)
        try:
            argument = rest.decode()
        except UnicodeDecodeError:
            argument = None
        # Text that is printable has no controls: the common case, told apart without a regular expression.
        if (argument is None or not argument.isprintable()) and commands.has_controls(rest):
            blank = commands.with_blanks(line)
            return replies.BAD_OCTETS if blank == line else self._answer(blank, behind)
        if verb in NOISE:
            self._noise += 1
            if self._noise > self.runtime.limits.noise_commands:
                return replies.TOO_MUCH_NOISE
        self._unknown_in_row = 0
        # RFC 2920 §3.1 lets a client send these only as the last of a group, so octets behind them are early talk.
        phase = MUST_WAIT.get(verb)
        if phase is not None:
            early = self.session._early_talk
            if behind:
                self.session._early_talk = early | {phase}
            elif phase in early:  # this time the client has waited
                self.session._early_talk = early - {phase}
        if argument is None:
            return replies.NEEDS_SMTPUTF8 if verb in {b"MAIL", b"RCPT"} else replies.NOT_UTF8
        self._waits = phase
        return handler(self, argument.strip())

    def talks_early(self) -> None:
        """Note that more octets have come while the answer to a command is being found."""
        if self._waits is not None:
            self.session._early_talk |= {self._waits}

    def _follows(self, reply: Reply, line: bytes) -> bool:
        """Return True when a refusal says nothing new to a client that sent ``line`` without waiting.

        That is 503 to RCPT and DATA behind a refused MAIL and to DATA behind refused recipients, and 452 to a recipient
        over the limit after the first. RFC 2920 lets clients send so. Such a refusal is not recorded, nor does it count
        towards a harvest of addresses, up to as many as a message may have recipients. (Postfix does the same with
        smtpd_recipient_overshoot_limit.)
        """
        verb = line[:4].upper()
        follows = self._leader == _LEADERS.get(reply)
        if not follows or verb == b"DATA":  # DATA is the last of what may be sent at once
            self._leader = _OVER if reply is replies.TOO_MANY_RECIPIENTS else verb
        return follows

    def _count(self, reply: Reply, temporary: bool = False) -> Reply:
        """Count permanent refusals, and with ``temporary`` any; over the limit return what ends the session.

        A client that collects refusals and never sends mail is harvesting addresses.
        """
        if reply.code >= 500 or temporary:
            self._refusals += 1
            if self._refusals > self.runtime.limits.refusals and not reply.close:
                return replies.TOO_MANY_REFUSALS
        return reply

    def line_too_long(self) -> Reply:
        """Return the reply to a command line over the limit, which the door has swallowed."""
        reply = self._count(replies.LINE_TOO_LONG)
        self._phases.records.add_refused_command(reply, b"")
        return reply

    def line_limit(self, verb: bytes) -> int:
        """Return how many octets a line may have, CRLF included."""
        return commands.line_limit(verb)

    async def _unknown(self, verb: bytes, line: bytes) -> Reply:
        if commands.is_http(verb):
            return replies.NOT_SMTP
        if commands.has_controls(line):
            return replies.BAD_OCTETS
        self._unknown_in_row += 1
        # The plugins are asked even at the limit: one of them may know the command.
        text = line.decode("utf-8", "replace")
        many = self._unknown_in_row >= self.runtime.limits.unknown_commands
        return await self._ask_simple(
            "unknown_command", text, 250, replies.TOO_MANY_UNKNOWN if many else replies.UNKNOWN_COMMAND
        )

    async def _ask_simple(self, phase: str, argument: str, code: int, otherwise: Reply) -> Reply:
        """Answer a command that changes no state: as a plugin says, or with ``otherwise``."""
        ruling = await self._phases.ask(phase, (self.session, argument))
        if ruling.refuses:
            return self._phases.speak(ruling)
        if ruling.decision is not None:
            return Reply(code, ruling.decision.text or "OK", "2.0.0")
        return otherwise

    def _helo(self, hostname: str) -> Awaitable[Reply]:
        return self._hello(hostname, esmtp=False)

    def _ehlo(self, hostname: str) -> Awaitable[Reply]:
        return self._hello(hostname, esmtp=True)

    async def _hello(self, hostname: str, esmtp: bool) -> Reply:
        if not hostname:
            return replies.NEEDS_HOSTNAME
        session, phases = self.session, self._phases
        self._leader = b""
        # A new HELO ends the transaction (RFC 5321 §4.1.4), and what was held against the old name goes with it.
        await self.transaction.reset()
        session._helo, session._esmtp = hostname.split()[0], esmtp
        session._helo_points = None
        if session._delayed:
            phases.forget_delayed("helo")
        ruling = await phases.ask("helo", (session, session._helo))
        reply = phases.speak_or_delay(ruling) if ruling.refuses else None
        if reply is None and session._delayed:
            reply = phases.speak_due("helo")
        self._helo_done = reply is None
        if reply is not None:
            return reply
        if not esmtp:
            return replies.hello(self.runtime.hostname)
        keywords = commands.keywords(self.runtime.limits.max_size)
        if self.gate.chains["capabilities"]:
            changed = list(keywords)
            await phases.ask("capabilities", (session, changed))
            session._without_8bitmime = "8BITMIME" not in changed
            session._without_smtputf8 = "SMTPUTF8" not in changed
            keywords = tuple(changed)
        return replies.hello(self.runtime.hostname, keywords)

    def _mail(self, argument: str) -> Reply | Awaitable[Reply]:
        if not self._helo_done:
            return replies.NEED_HELO
        if self.session._envelope is not None:
            return replies.NESTED_MAIL
        self._leader = b""
        if argument[:5].upper() != "FROM:":
            return replies.syntax_error("expected MAIL FROM:<address>")
        try:
            sender, rest = parse_path(argument[5:], forward=False)
            parameters = parse_parameters(rest) if rest else {}
        except AddressError as error:
            # The parameters could not be parsed, so the keyword is looked for in the text.
            return commands.unreadable(argument, error, smtputf8=" SMTPUTF8" in argument.upper())
        return self.transaction.mail(sender, parameters)

    def _rcpt(self, argument: str) -> Reply | Awaitable[Reply]:
        envelope = self.session._envelope
        if envelope is None:
            return replies.NEED_MAIL
        if argument[:3].upper() != "TO:":
            return replies.syntax_error("expected RCPT TO:<address>")
        try:
            recipient, rest = parse_path(argument[3:], forward=True)
            parameters = parse_parameters(rest) if rest else {}
        except AddressError as error:
            return commands.unreadable(argument, error, smtputf8=envelope._smtputf8)
        return self.transaction.rcpt(recipient, parameters)

    def _data(self, argument: str) -> Reply | Awaitable[Reply]:
        return replies.NO_ARGUMENT if argument else self.transaction.data()

    async def _rset(self, argument: str) -> Reply:
        if argument:
            return replies.NO_ARGUMENT
        self._leader = b""
        await self.transaction.reset()
        return replies.OK

    def _noop(self, argument: str) -> Awaitable[Reply]:
        return self._ask_simple("noop", argument, 250, replies.OK)

    def _vrfy(self, argument: str) -> Reply | Awaitable[Reply]:
        return self._ask_simple("vrfy", argument, 250, replies.CANNOT_VERIFY) if argument else replies.NEEDS_ARGUMENT

    def _expn(self, argument: str) -> Reply:
        return replies.NO_EXPN

    def _help(self, argument: str) -> Awaitable[Reply]:
        return self._ask_simple("help", argument, 214, replies.HELP)

    async def _quit(self, argument: str) -> Reply:
        if argument:
            return replies.NO_ARGUMENT
        await self._phases.tell_all("quit", (self.session,))
        return replies.BYE

    # The message.

    @property
    def delivering(self) -> bool:
        """True from the final dot until the message is finished with. Only ``lose_client`` may end it before."""
        return self.transaction in self.runtime.delivering

    def lose_client(self) -> bool:
        """Return True when what runs for a client that is gone may be cancelled: see ``Transaction.lose_client``."""
        return self.transaction.lose_client()

    async def end_of_data(self) -> Reply:
        """Answer the final dot: judge the message and hand it over.

        From here until ``transaction.finish_message`` has run, stopping waits for it, and the driver breaks it off only
        when the client is lost and ``lose_client`` allows it.
        """
        reply = await self.transaction.end_of_data()
        if reply.code < 400:  # a client that brings mail is neither idling nor harvesting addresses
            self._noise = self._refusals = self._followers = 0
        return self._count(reply)


_OVER: Final = b"OVER"
"""Stands for a recipient over the limit, as a leader of those that follow it."""
_LEADERS: Final = {replies.NEED_MAIL: b"MAIL", replies.NEED_RCPT: b"RCPT", replies.TOO_MANY_RECIPIENTS: _OVER}
"""The refusals that may follow on another, and the command whose refusal that is."""

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
