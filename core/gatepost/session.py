"""The client as plugins see it: its ``Session``, with one ``Envelope`` at a time.

Both are plain state with a few verbs (``silence``, ``later``, ``verified_name``, ``trust``, ``notes``). They do not
know the protocol, the order of commands or the policy: the conversation fills them in.
RFC 5321 §3.3 (envelope), RFC 8601 §2.7.3 (iprev: the verified name).
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from types import EllipsisType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from gatepost.address import Address
from gatepost.errors import DNSTemporaryError
from gatepost.ids import id_of, new_id, new_number
from gatepost.ip import IPAddress, ip_of, reverse_pointer
from gatepost.rulings import Ruling
from gatepost.write_guard import may_write

if TYPE_CHECKING:
    from gatepost.concurrency import Commitment, Watch
    from gatepost.message import Message
    from gatepost.runtime import Runtime

T = TypeVar("T")


Ledger = dict[tuple[str, str], float]
"""Points by (plugin, reason): the same reason of the same plugin counts once."""


_NEVER: Final[frozenset[str]] = frozenset()
_NOBODY: Final[dict[Address, str]] = {}
"""Shared by all: an empty set takes more than 200 octets, and thousands of clients may be waiting."""


class Later(Generic[T]):
    """Work that ``session.later`` has started. Await it in any later phase, as often as you like.

    It keeps the value of the work, or its error, which is raised by each await.
    """

    __slots__ = ("_error", "_task", "_value")

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._value: T | None = None
        self._error: BaseException | None = None
        self._task: asyncio.Task[None] | None = asyncio.get_running_loop().create_task(self._run(work))
        self._task.add_done_callback(lambda task: self._ended(task, work))

    async def _run(self, work: Coroutine[Any, Any, T]) -> None:
        try:
            self._value = await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # SystemExit must not leave a task of ours; it is raised where it is awaited
            self._error = error

    def _ended(self, task: asyncio.Task[None], work: Coroutine[Any, Any, T]) -> None:
        self._task = None
        if task.cancelled():
            self._error = asyncio.CancelledError()
            work.close()  # else Python warns of a coroutine that was never awaited, if it was cancelled before it began

    @property
    def done(self) -> bool:
        """True when the work has ended, so that awaiting it takes no time."""
        return self._task is None

    def __await__(self) -> Generator[Any, None, T]:
        if self._task is not None:
            # Shielded, because a plugin that has waited too long is cancelled, and others may await the same work.
            yield from asyncio.shield(self._task).__await__()
        if self._error is not None:
            raise self._error.with_traceback(None)  # its traceback would grow with each await, and keep frames alive
        return self._value  # type: ignore[return-value]

    def cancel(self) -> None:
        """Stop the work if it still runs."""
        if self._task is not None:
            self._task.cancel()


class Door(Protocol):
    """The connection of a session, as far as a session needs it."""

    def silence(self, seconds: float) -> asyncio.Future[bool]:
        """Return a future: True after ``seconds`` without an octet, False as soon as there is one."""


class Session:
    """One client, from connect to disconnect.

    Its attributes can only be read: assigning to one is an error. Plugins change a session with its methods.

    Attributes that begin with an underscore are the core's. It keeps its state of a client here, because thousands of
    clients may be waiting and a second object for each would take memory.
    """

    __slots__ = (
        "_allowance",
        "_client",
        "_delayed",
        "_did",
        "_door",
        "_early_talk",
        "_envelope",
        "_esmtp",
        "_helo",
        "_helo_points",
        "_later",
        "_listed",
        "_listener",
        "_local",
        "_may_relay",
        "_notes",
        "_number",
        "_points",
        "_port",
        "_rulings",
        "_runtime",
        "_scored",
        "_started",
        "_trusted",
        "_verified_name",
        "_watch",
        "_without_8bitmime",
        "_without_smtputf8",
    )

    def __init__(
        self, client: str, *, runtime: Runtime, door: Door, port: int = 0, local: str = "", listener: str = "smtp"
    ) -> None:
        self._number = new_number()
        self._client = client
        self._port = port
        self._local = local
        self._listener = listener
        self._started = runtime.clock.monotonic()
        self._helo = ""
        self._esmtp = False
        self._may_relay = False
        self._trusted = ""
        self._did: tuple[str, ...] = ()
        """Acts of the plugin that is being asked, besides its answer, for the record."""
        self._early_talk = _NEVER
        self._listed = ""
        self._envelope: Envelope | None = None
        self._scored = False
        self._without_8bitmime = self._without_smtputf8 = False
        """True when the keyword was not among those that the client was offered."""
        self._watch: Watch | None = None
        """The time limits that apply while a plugin is being waited for."""
        self._allowance = 0.0
        """Seconds that the plugin being asked may wait beyond its ``time_limit``."""
        self._points: Ledger | None = None
        self._helo_points: Ledger | None = None
        self._rulings: tuple[Ruling, ...] = ()
        self._delayed: tuple[Ruling, ...] = ()
        self._runtime = runtime
        self._door = door
        self._notes: dict[int, dict[str, Any]] | None = None
        self._later: list[Later[Any]] | None = None
        self._verified_name: str | EllipsisType | Later[str | None] | DNSTemporaryError | None = ...
        """The name; None: it has none. Before that ``...``, or the look-up under way; or the error that ended it."""

    @property
    def id(self) -> str:
        """The id of this session in the log and the journal."""
        return id_of(self._number)

    @property
    def client(self) -> str:
        """The client's address as text, IPv4-mapped IPv6 as IPv4."""
        return self._client

    @property
    def port(self) -> int:
        """The client's port; 0 when it is not known."""
        return self._port

    @property
    def local(self) -> str:
        """Our own address, to which the client has connected; "" when it is not known."""
        return self._local

    @property
    def listener(self) -> str:
        """The name of the listener that the client has connected to."""
        return self._listener

    @property
    def started(self) -> float:
        """The time of the connection, in seconds of the monotonic clock (``clock.monotonic()``)."""
        return self._started

    @property
    def helo(self) -> str:
        """The name that the client gave at HELO or EHLO, which may be anything; "" before that."""
        return self._helo

    @property
    def esmtp(self) -> bool:
        """True when it greeted with EHLO, False for HELO."""
        return self._esmtp

    @property
    def may_relay(self) -> bool:
        """True when authentication or a relay network allows the client to send to any domain."""
        return self._may_relay

    @property
    def trusted(self) -> str:
        """Why plugins marked ``skip_trusted`` are skipped for this client; "" when they are not."""
        return self._trusted

    @property
    def listed(self) -> str:
        """The DNS list that names the client; "" when no plugin has found one."""
        return self._listed

    @property
    def early_talk(self) -> frozenset[str]:
        """The phases at which the client did not wait for its turn: "connect", "helo", "data", "quit"."""
        return self._early_talk

    @property
    def envelope(self) -> Envelope | None:
        """The transaction under way; None when there is none, and at ``mail`` until the phase is over."""
        return self._envelope

    @property
    def scored(self) -> bool:
        """True when the policy has a ``[score]``, so that points can refuse."""
        return self._scored

    @property
    def ip(self) -> IPAddress:
        """The client's address as an object of ``ipaddress``."""
        return ip_of(self.client)

    def notes(self, plugin: object) -> dict[str, Any]:
        """Return the dict of ``plugin`` in this session, for values of its own: ``session.notes(self)``."""
        # By id, because a plugin need not be hashable. The session's gate keeps the object alive, and so its id unique.
        if self._notes is None:
            self._notes = {}
        return self._notes.setdefault(id(plugin), {})

    def silence(self, seconds: float) -> asyncio.Future[bool]:
        """Wait for silence: True after ``seconds`` without an octet, False as soon as the client has sent one.

        Only before the greeting: ``await session.silence(6)`` in the connect phase. Octets that came before the call
        count too. The time is not taken from the plugin's ``time_limit``.

        Raises ``PluginError`` when that phase is over.
        """
        if self._watch is not None:
            self._watch.deadline += seconds
        else:  # the plugin has not waited yet, so it has no watch: the gate adds this to the limit of its first wait
            self._allowance += seconds
        return self._door.silence(seconds)

    def later(self, work: Coroutine[Any, Any, T]) -> Later[T]:
        """Start ``work`` now, and await the handle in a later phase.

        An error of the work is raised by that await. Work that is still running is cancelled at disconnect.
        """
        handle = Later(work)
        if self._later is None:
            self._later = []
        self._later.append(handle)
        return handle

    def _cancel_later(self) -> None:
        """Cancel the work that ``later`` has started and that is still running. Called at disconnect."""
        for handle in self._later or ():
            handle.cancel()
        self._later = None

    async def verified_name(self) -> str | None:
        """Return the client's forward-confirmed reverse DNS name (RFC 8601 §2.7.3), or None when it has none.

        DNS is asked once per session; ``look_up_name`` in an earlier phase saves the wait. Raises
        ``DNSTemporaryError`` when DNS does not answer, from then on at once.
        """
        self.look_up_name()
        name = self._verified_name
        if isinstance(name, EllipsisType):  # DNS has cached the answer, so no task is needed to find the name
            return await self._find_name()
        if isinstance(name, Later):
            return await name
        if isinstance(name, DNSTemporaryError):
            raise name.with_traceback(None)  # its traceback would grow with each call, and keep frames alive
        return name

    def look_up_name(self) -> None:
        """Start the look-up of the verified name, so that a later phase need not wait for DNS.

        Does nothing when the name has been looked up, or DNS has an answer for the address in its cache.
        """
        if isinstance(self._verified_name, EllipsisType):
            pointer = reverse_pointer(self.client)
            if self._runtime.resolver.known(pointer, "PTR") is None:
                self._verified_name = self.later(self._find_name())

    async def _find_name(self) -> str | None:
        """Look the verified name up, and keep it or the error that DNS answered with."""
        try:
            name = self._verified_name = await self._runtime.resolver.verified_name(self.client)
        except DNSTemporaryError as error:
            # Failures are not cached for the next session; but each plugin of this one would wait for them again.
            self._verified_name = DNSTemporaryError(str(error))
            raise
        return name

    @property
    def known_name(self) -> str:
        """The verified name if it has been looked up and there is one, else "unknown". Does not ask DNS."""
        return self._verified_name if isinstance(self._verified_name, str) else "unknown"

    def remark(self, text: str) -> None:
        """Add ``text`` to the record of the plugin's answer, for the administrator; the client does not hear it."""
        if may_write(f"session.remark({text!r})"):
            self._did = (*self._did, text)

    def trust(self, why: str, until: datetime.date | None = None) -> None:
        """Skip plugins marked ``skip_trusted`` for this client, because of ``why``; not if ``until`` is a past day.

        Base trust only on what the client cannot choose: its network, its authentication, or its verified name. Trust
        does not allow a client to relay.
        """
        today = datetime.datetime.fromtimestamp(self._runtime.clock.now(), datetime.UTC).date()
        if may_write(f"session.trust({why!r})") and (until is None or today <= until):
            self._trusted = why
            self._did = (*self._did, f"trusts the client: {why}")

    def mark_listed(self, zone: str) -> None:
        """Note that the DNS list ``zone`` names this client, for plugins that are less patient with such clients."""
        if may_write(f"session.mark_listed({zone!r})"):
            self._listed = self._listed or zone

    @property
    def privileged(self) -> bool:
        """True for trusted and relaying clients: they are not scored, and ``skip_trusted`` plugins not asked."""
        return self._may_relay or bool(self._trusted)


class Envelope:
    """One mail transaction: the reverse-path, the accepted recipients, then the message (RFC 5321 §3.3).

    Its attributes can only be read: assigning to one is an error. Plugins change it with its methods.

    Attributes that begin with an underscore are the core's.
    """

    __slots__ = (
        "_answers",
        "_body",
        "_commitment",
        "_did",
        "_failed_hops",
        "_id",
        "_message",
        "_next_hop",
        "_note_taken",
        "_notes",
        "_parameters",
        "_points",
        "_recipient_points",
        "_recipients",
        "_rulings",
        "_sender",
        "_size",
        "_smtputf8",
        "_taken_by",
        "_trusted",
        "_trusted_recipients",
    )

    def __init__(self, sender: Address, parameters: dict[str, str | None]) -> None:
        self._id = new_id()
        self._sender = sender
        self._parameters = MappingProxyType(parameters)
        self._recipients: tuple[Address, ...] = ()
        self._message: Message | None = None
        self._next_hop = ""
        self._taken_by = ""
        """The next hop that took the message, for its record."""
        self._failed_hops: tuple[str, ...] = ()
        """Those that were tried and did not, each with its failure."""
        self._smtputf8 = "SMTPUTF8" in parameters
        self._body = parameters.get("BODY") or "7BIT"
        self._size = 0
        self._trusted = ""
        self._did: tuple[str, ...] = ()
        """As in ``Session``."""
        self._trusted_recipients = _NOBODY
        self._points: Ledger | None = None
        self._recipient_points: dict[Address, Ledger] | None = None
        self._answers: dict[Address, Any] = {}
        self._commitment: Commitment | None = None
        """The point of no return of its message, from the final dot on."""
        self._note_taken: Callable[[Address], None] | None = None
        """Takes note of a recipient that has the message; set while there is something to note."""
        self._rulings: tuple[Ruling, ...] = ()
        self._notes: dict[int, dict[str, Any]] | None = None

    @property
    def id(self) -> str:
        """The id of this transaction, which the client is told when the message is accepted."""
        return self._id

    @property
    def sender(self) -> Address:
        """The reverse-path; ``sender.is_null`` for the null reverse-path."""
        return self._sender

    @property
    def parameters(self) -> Mapping[str, str | None]:
        """The ESMTP parameters of MAIL, with keys in upper case."""
        return self._parameters

    @property
    def recipients(self) -> tuple[Address, ...]:
        """The recipients that were accepted, in their order. At ``rcpt``, the one asked about is not among them."""
        return self._recipients

    @property
    def message(self) -> Message | None:
        """The message, from the ``headers`` phase on; None before."""
        return self._message

    @property
    def next_hop(self) -> str:
        """The next hop that this transaction goes to, once a delivery plugin has claimed it; "" before."""
        return self._next_hop

    @property
    def smtputf8(self) -> bool:
        """True when the client asked for SMTPUTF8 (RFC 6531)."""
        return self._smtputf8

    @property
    def body(self) -> str:
        """The content that the client announced with BODY: "7BIT", the default, or "8BITMIME" (RFC 6152)."""
        return self._body

    @property
    def size(self) -> int:
        """The size that the client announced with SIZE, in octets; 0 when it did not (RFC 1870)."""
        return self._size

    @property
    def trusted(self) -> str:
        """Why plugins marked ``skip_trusted`` are skipped in this transaction; "" when they are not."""
        return self._trusted

    @property
    def pending(self) -> tuple[Address, ...]:
        """In the queue phase: the recipients for which no plugin has answered yet."""
        if not self._answers:
            return self._recipients
        if len(self._answers) == len(self._recipients):  # only recipients are answered for
            return ()
        return tuple([recipient for recipient in self._recipients if recipient not in self._answers])

    def commit(self) -> None:
        """In the queue phase: say that from now on the message may be taken, and nothing may cancel that.

        A delivery plugin that declares ``commits = True`` calls it just before it makes a message visible to somebody
        else, in whatever thread it runs. Until then it may be cancelled, because the client was lost or has waited for
        300 s. Raises ``HandoverEndedError`` when that has happened: the plugin must then discard what it has, and let
        the error propagate.
        """
        if self._commitment is not None and may_write("envelope.commit()"):
            self._commitment.commit()

    def note_taken(self, recipient: Address) -> None:
        """In the queue phase: say that ``recipient`` has the message, before ``queue`` returns the answers for all.

        For a delivery that learns one answer after the other, as over LMTP. If the handover breaks off after that, or
        gatepost is killed, the recipient is skipped when the client comes back. It is written down within 100 ms. Only
        for plugins with ``grants = "delivery"``; raises ``PluginError`` for others.
        """
        if self._note_taken is not None and may_write(f"envelope.note_taken({str(recipient)!r})"):
            self._note_taken(recipient)

    def notes(self, plugin: object) -> dict[str, Any]:
        """Return the dict of ``plugin`` in this transaction, for values of its own: ``envelope.notes(self)``."""
        if self._notes is None:
            self._notes = {}
        return self._notes.setdefault(id(plugin), {})

    def trust(self, why: str, recipient: Address | None = None) -> None:
        """Skip plugins marked ``skip_trusted`` in this transaction, or for ``recipient`` only, because of ``why``."""
        if not may_write(f"envelope.trust({why!r})"):
            return
        if recipient is None:
            self._trusted = why
        else:
            self._trusted_recipients = {**self._trusted_recipients, recipient: why}
        self._did = (*self._did, f"trusts {'the sender' if recipient is None else 'this recipient'}: {why}")

    def why_trusted(self, recipients: Iterable[Address]) -> str:
        """Return why the sender or some of ``recipients`` are trusted; "" when they are not."""
        known = self._trusted_recipients
        return self.trusted or "; ".join(dict.fromkeys([known[each] for each in recipients if each in known]))

    def claim(self, next_hop: str) -> bool:
        """Bind this transaction to ``next_hop``; return False when it is already bound to another one.

        SMTP has one reply for all recipients after the final dot. A recipient with another next hop is thus refused
        with 452 4.5.3, and the client sends to it in a transaction of its own (RFC 5321 §4.5.3.1.10).
        """
        if may_write(f"envelope.claim({next_hop!r})"):
            self._next_hop = self._next_hop or next_hop
        return self._next_hop == next_hop

    def note_next_hop(self, taken_by: str = "", failed: Iterable[str] = ()) -> None:
        """Name the next hop that took the message, and those that ``failed`` before, for the log and the record.

        A delivery plugin calls it in its ``queue``, also several times. Clients are told nothing of it.
        """
        if may_write(f"envelope.note_next_hop({taken_by!r})"):
            if taken_by and taken_by != self._taken_by:
                self._taken_by = f"{self._taken_by}, {taken_by}" if self._taken_by else taken_by
            self._failed_hops += tuple([each for each in failed if each not in self._failed_hops])

    def trusted_for(self, recipient: Address | None) -> bool:
        """Return True when plugins skip this transaction for ``recipient``; None means for all its recipients."""
        if self._trusted:
            return True
        if not self._trusted_recipients:
            return False
        wanted = (recipient,) if recipient is not None else tuple(self._recipients)
        # With no recipient yet nobody is trusted, although the empty set is a subset of every other.
        return bool(wanted) and self._trusted_recipients.keys() >= set(wanted)
