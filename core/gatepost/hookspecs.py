"""The phases of an SMTP session, as hook specifications, in the order of a session.

A plugin implements the phases it needs, marks them with ``@hookimpl``, and names only the arguments it uses. A plain
``def`` is called, an ``async def`` awaited. ``None`` means "no opinion". The codes of deny and defer given here are the
defaults, used when the plugin names none of its own.

This module does not know how the hooks are asked, or in which order: see ``gate``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, overload

import pluggy

from gatepost.address import Address
from gatepost.decisions import Decision

if TYPE_CHECKING:
    from gatepost.message import Message
    from gatepost.rulings import Receipt, Ruling
    from gatepost.services.host import Server
    from gatepost.session import Envelope, Session

PROJECT = "gatepost"

HOOKS_VERSION = 1
"""The version of the phases and of what they are given. It rises when something is added or removed."""

Answer: TypeAlias = Decision | None
"""The answer of most hooks."""
QueueAnswer: TypeAlias = Decision | Mapping[Address, Decision] | None
"""The answer of ``queue``: one decision for all pending recipients, or a decision for each recipient that it names."""
_Returned: TypeAlias = Decision | Mapping[Address, Decision] | str | None

_Any = TypeVar("_Any", bound=Callable[..., _Returned | Awaitable[_Returned]])
_Async = TypeVar("_Async", bound=Callable[..., Coroutine[Any, Any, _Returned]])
_Plain = TypeVar("_Plain", bound=Callable[..., _Returned])

_hookspec = pluggy.HookspecMarker(PROJECT)
_marker = pluggy.HookimplMarker(PROJECT)


@overload
def hookimpl(function: _Any, /) -> _Any: ...
@overload
def hookimpl(*, ahead: Literal[True], specname: str | None = None) -> Callable[[_Async], _Async]: ...
@overload
def hookimpl(*, blocking: Literal[True], specname: str | None = None) -> Callable[[_Plain], _Plain]: ...
@overload
def hookimpl(*, early: Literal[True], specname: str | None = None) -> Callable[[_Plain], _Plain]: ...
@overload
def hookimpl(*, specname: str | None = None, optionalhook: bool = False) -> Callable[[_Any], _Any]: ...
@overload
def hookimpl(*, wrapper: bool = False, tryfirst: bool = False, trylast: bool = False) -> Callable[[_Any], _Any]: ...
def hookimpl(
    function: Any = None,
    /,
    *,
    ahead: bool = False,
    blocking: bool = False,
    early: bool = False,
    specname: str | None = None,
    optionalhook: bool = False,
    **refused: bool,
) -> Any:
    """Mark a method or function as the implementation of the phase that it is named after.

    * ``ahead``: a pure look-up (``async def``) that may start when the phase starts, before its turn. It sees the
      session as at the start of the phase and must not write to it.
    * ``blocking``: a plain ``def`` that blocks; it runs in a thread, at most 16 of a plugin at a time.
    * ``early``: a ``connect`` (plain ``def``) that starts look-ups. It is called at its turn and, if a plugin before it
      makes the client wait for the greeting, also three seconds before that wait ends (halfway through a wait of less
      than six seconds). So a client that talks first costs no look-up, and for the others the answers are there at the
      greeting. What the early call returns, or does to the session, does not count.
    * ``specname``: the phase, when the function has another name.
    * ``optionalhook``: a phase that this gatepost may not know yet.

    ``wrapper``, ``tryfirst`` and ``trylast`` are refused when the plugin is loaded: the configuration sets the order.
    """

    def mark(target: Any) -> Any:
        # pluggy keeps its options in a dict on the function and hands all of it on as ``opts``, with our three keys.
        # The refused ones go there as well, so that the loader can say in a sentence why they are refused.
        _marker(target, specname=specname, optionalhook=optionalhook, **refused)
        getattr(target, f"{PROJECT}_impl").update(ahead=ahead, blocking=blocking, early=early)
        return target

    return mark if function is None else mark(function)


class Hookspecs:
    """One method for each phase."""

    @_hookspec
    def startup(self, server: Server) -> None:
        """Fires once, before a client is accepted: the place to read files and to ask test points.

        All implementations always run; answers are not used. An exception stops the start.
        """

    @_hookspec
    def connect(self, session: Session) -> Answer:
        """Fires when a client has connected, before the greeting. The time to make a stranger wait, or to refuse it.

        deny: 554 5.7.1, defer: 421 4.7.0; both close the connection.
        Nobody decides: the client is greeted.
        """

    @_hookspec
    def greeting(self, session: Session) -> str | None:
        """Fires before the banner is sent. Return the text that follows 220; the first that is not None is used.

        Nobody answers: ``<hostname> ESMTP``.
        """

    @_hookspec
    def helo(self, session: Session, hostname: str) -> Answer:
        """Fires at HELO and EHLO (``session.esmtp`` says which). ``hostname`` is the client's word and may be anything.

        deny: 550 5.7.1, defer: 450 4.7.1; by default spoken at rcpt (``reject_at``). When it is spoken here, MAIL is
        answered 503 until a HELO is accepted.
        Nobody decides: 250.
        """

    @_hookspec
    def capabilities(self, session: Session, keywords: list[str]) -> None:
        """Fires before the reply to EHLO. ``keywords`` is the list of EHLO lines, which may be changed in place.

        All implementations run; answers are not used.
        """

    @_hookspec
    def starttls(self, session: Session) -> Answer:
        """Fires at STARTTLS, before the handshake. deny and defer: 454 4.7.0. (No door offers STARTTLS yet.)

        Nobody decides: the handshake goes on.
        """

    @_hookspec
    def auth(self, session: Session, mechanism: str, credentials: object) -> Answer:
        """Fires when a client has given its credentials. accept needs ``grants = "logins"``: 235.

        deny: 535 5.7.8; defer, and every error: 454 4.7.0. (No door offers AUTH yet.)
        Nobody decides: 535 5.7.8.
        """

    @_hookspec
    def mail(
        self, session: Session, envelope: Envelope, sender: Address, parameters: Mapping[str, str | None]
    ) -> Answer:
        """Fires at MAIL. ``sender.is_null`` for ``<>``; ``parameters`` are the ESMTP ones, keys in upper case.

        deny: 550 5.7.1, defer: 450 4.7.1; by default spoken at rcpt (``reject_at``).
        Nobody decides: 250.
        """

    @_hookspec
    def rcpt(
        self, session: Session, envelope: Envelope, recipient: Address, parameters: Mapping[str, str | None]
    ) -> Answer:
        """Fires at each RCPT. accept needs ``grants = "recipients"`` and only vouches: "this recipient is ours"; the
        other plugins are still asked.

        deny: 550 5.7.1, defer: 450 4.7.1.
        250 when somebody vouched and nobody refused. Nobody vouched: 450 4.7.1, never an open relay.
        """

    @_hookspec
    def data(self, session: Session, envelope: Envelope) -> Answer:
        """Fires at DATA, before 354. ``"data" in session.early_talk`` when the client did not wait for it.

        deny: 554 5.7.1, defer: 451 4.7.1; the envelope is cleared. If bytes are already behind DATA, the connection
        is closed too, since they would run as commands.
        Nobody decides: 354.
        """

    @_hookspec
    def headers(self, session: Session, envelope: Envelope, message: Message) -> Answer:
        """Fires when the header block has arrived. ``message.headers`` is there, the body is not.

        The message leaves with our Received field, and without forged results of authentication, from now on.

        deny: 550 5.7.1, defer: 451 4.7.1; kept, the rest is read and thrown away, and spoken after the final dot.
        Nobody decides: the body is received.
        """

    @_hookspec
    def message(self, session: Session, envelope: Envelope, message: Message) -> Answer:
        """Fires when the whole message is here, after the final dot.

        deny: 550 5.7.1, defer: 451 4.7.1.
        Nobody decides: the message is queued.
        """

    @_hookspec
    def queue(self, session: Session, envelope: Envelope, message: Message) -> QueueAnswer:
        """Fires to hand the message over. accept needs ``grants = "delivery"`` and means "I have taken
        responsibility" for all of ``envelope.pending``. A mapping answers for each recipient that it names.

        deny: 554 5.7.1, defer: 451 4.3.0.
        Nobody decides: 451 4.3.0; nothing is lost. ``time_limit`` does not apply. Until a plugin has passed its point
        of no return (``envelope.commit``), the loss of the client, or 300 s since its final dot, end the phase with
        nothing taken. From then on a plugin has 900 s.
        """

    @_hookspec
    def queued(self, session: Session, envelope: Envelope, message: Message, receipt: Receipt) -> None:
        """Fires after the 250 for a message, also when the client is gone by then.

        All implementations run; answers are not used.
        """

    @_hookspec
    def vrfy(self, session: Session, argument: str) -> Answer:
        """Fires at VRFY. accept: 250 with the text; deny: 550 5.7.1, defer: 450 4.7.1.

        Nobody decides: 252.
        """

    @_hookspec
    def help(self, session: Session, argument: str) -> Answer:
        """Fires at HELP. accept: 214 with the text; deny: 502 5.7.1, defer: 450 4.7.1.

        Nobody decides: 214 with the list of commands.
        """

    @_hookspec
    def noop(self, session: Session, argument: str) -> Answer:
        """Fires at NOOP. accept: 250 with the text; deny: 500 5.7.1, defer: 450 4.7.1.

        Nobody decides: 250.
        """

    @_hookspec
    def unknown_command(self, session: Session, argument: str) -> Answer:
        """Fires at a command that gatepost does not know. ``argument`` is the whole line.

        accept: 250 with the text; deny: 500 5.5.1, defer: 450 4.7.1.
        Nobody decides: 500 5.5.1, and it counts as unknown.
        """

    @_hookspec
    def reset(self, session: Session, envelope: Envelope) -> None:
        """Fires when a transaction ends: RSET, a new HELO, STARTTLS, the end of a message, close.

        All implementations always run; answers are not used.
        """

    @_hookspec
    def quit(self, session: Session) -> None:
        """Fires at QUIT, before 221. All implementations always run; answers are not used."""

    @_hookspec
    def disconnect(self, session: Session) -> None:
        """Fires last in every session, however it ended. All implementations always run; answers are not used."""

    @_hookspec
    def ruled(self, session: Session, ruling: Ruling) -> None:
        """Fires after the reply is written, for every ruling that decided or observed something. A plain ``def``.

        For logs and metrics of your own; answers are not used.
        """

    @_hookspec
    def shutdown(self, server: Server) -> None:
        """Fires once, when the last session has ended. All implementations always run; answers are not used."""


PHASES: tuple[str, ...] = tuple(name for name in vars(Hookspecs) if not name.startswith("_"))
"""The names of all phases, in the order of a session."""

ALL_RUN = frozenset({"capabilities", "queued", "reset", "quit", "disconnect", "ruled", "startup", "shutdown"})
"""Phases in which every implementation runs and nobody decides."""
