"""The client as plugins see it: its ``Session``, with one ``Envelope`` at a time.

Both are plain state with a few verbs (``silence``, ``later``, ``verified_name``, ``trust``, ``notes``). They do not
know the protocol, the order of commands or the policy: the conversation fills them in.
RFC 5321 §3.3 (envelope), RFC 8601 §2.7.3 (iprev: the verified name).
"""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Coroutine, Generator
from types import EllipsisType, MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from gatepost.address import Address
from gatepost.ids import id_of, new_id, new_number
from gatepost.ip import IPAddress, ip_of, reverse_pointer
from gatepost.rulings import Ruling
from gatepost.write_guard import may_write

if TYPE_CHECKING:
    from gatepost.concurrency import Watch
    from gatepost.message import Message
    from gatepost.runtime import Runtime

T = TypeVar("T")


Ledger = dict[tuple[str, str], float]
"""Points by (plugin, reason): the same reason of the same plugin counts once."""


_NEVER: Final[frozenset[str]] = frozenset()
_NOBODY: Final[frozenset[Address]] = frozenset()
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

    Public attributes are for reading. ``client`` is the address as text (IPv4-mapped IPv6 as IPv4) and ``port`` its
    port, ``local`` our own address, ``listener`` the name of the listener, ``started`` the time of the connection in
    seconds of the monotonic clock. ``helo`` is the name that the client gave or "", ``esmtp`` whether with EHLO.
    ``may_relay`` says whether authentication or a relay network allows it to send anywhere, ``trusted`` why plugins
    marked ``skip_trusted`` are skipped for it ("" when they are not), ``early_talk`` the phases at which it did not
    wait for its turn ("connect", "helo", "data", "quit"). ``envelope`` is the transaction under way, or None.

    Attributes that begin with an underscore are the core's. It keeps its state of a client here, because thousands of
    clients may be waiting and a second object for each would take memory.
    """

    __slots__ = (
        "_allowance",
        "_delayed",
        "_did",
        "_door",
        "_helo_points",
        "_later",
        "_notes",
        "_number",
        "_points",
        "_rulings",
        "_runtime",
        "_verified_name",
        "_watch",
        "client",
        "early_talk",
        "envelope",
        "esmtp",
        "helo",
        "listener",
        "local",
        "may_relay",
        "port",
        "scored",
        "started",
        "trusted",
    )

    def __init__(
        self, client: str, *, runtime: Runtime, door: Door, port: int = 0, local: str = "", listener: str = "smtp"
    ) -> None:
        self._number = new_number()
        self.client = client
        self.port = port
        self.local = local
        self.listener = listener
        self.started = runtime.clock.monotonic()
        self.helo = ""
        self.esmtp = False
        self.may_relay = False
        self.trusted = ""
        self._did: tuple[str, ...] = ()
        """Acts of the plugin that is being asked, besides its answer, for the record."""
        self.early_talk = _NEVER
        self.envelope: Envelope | None = None
        self.scored = False
        """True when the policy has a ``[score]``, so that points can refuse."""
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
        self._verified_name: str | EllipsisType | None = ...  # not looked up yet; None: it has no such name

    @property
    def id(self) -> str:
        """The id of this session in the log and the journal."""
        return id_of(self._number)

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

    def cancel_later(self) -> None:
        """Cancel the work that ``later`` has started and that is still running. Called at disconnect."""
        for handle in self._later or ():
            handle.cancel()
        self._later = None

    async def verified_name(self) -> str | None:
        """Return the client's forward-confirmed reverse DNS name (RFC 8601 §2.7.3), or None when it has none.

        DNS is asked once per session; ``look_up_name`` in an earlier phase saves the wait. Raises
        ``DNSTemporaryError`` when DNS does not answer.
        """
        name = self._verified_name
        if isinstance(name, EllipsisType):
            name = self._verified_name = await self._runtime.resolver.verified_name(self.client)
        return name

    def look_up_name(self) -> None:
        """Start the look-up of the verified name, so that a later phase need not wait for DNS.

        Does nothing when the name is known already, or DNS has an answer for the address in its cache.
        """
        if isinstance(self._verified_name, EllipsisType):
            pointer = reverse_pointer(self.client)
            if self._runtime.resolver.known(pointer, "PTR") is None:
                self.later(self.verified_name())

    @property
    def known_name(self) -> str:
        """The verified name if it has been looked up and there is one, else "unknown". Does not ask DNS."""
        return self._verified_name if isinstance(self._verified_name, str) else "unknown"

    def trust(self, why: str, until: datetime.date | None = None) -> None:
        """Skip plugins marked ``skip_trusted`` for this client, because of ``why``; not if ``until`` is a past day.

        Base trust only on what the client cannot choose: its network, its authentication, or its verified name. Trust
        does not allow a client to relay.
        """
        today = datetime.datetime.fromtimestamp(self._runtime.clock.now(), datetime.UTC).date()
        if may_write(f"session.trust({why!r})") and (until is None or today <= until):
            self.trusted = why
            self._did = (*self._did, f"trusts the client: {why}")

    @property
    def privileged(self) -> bool:
        """True for trusted and relaying clients: they are not scored, and ``skip_trusted`` plugins not asked."""
        return self.may_relay or bool(self.trusted)


class Envelope:
    """One mail transaction: the reverse-path, the accepted recipients, then the message (RFC 5321 §3.3).

    Public attributes are for reading. ``id`` is the transaction's id, ``sender`` the reverse-path, ``recipients`` the
    accepted recipients in their order, ``parameters`` the ESMTP parameters of MAIL with keys in upper case, and
    ``smtputf8``, ``body`` and ``size`` their meaning. ``message`` is None before the ``headers`` phase. ``trusted`` is
    as in ``Session``.

    Attributes that begin with an underscore are the core's.
    """

    __slots__ = (
        "_answers",
        "_did",
        "_notes",
        "_points",
        "_recipient_points",
        "_rulings",
        "_trusted_recipients",
        "body",
        "id",
        "message",
        "next_hop",
        "parameters",
        "recipients",
        "sender",
        "size",
        "smtputf8",
        "trusted",
    )

    def __init__(self, sender: Address, parameters: dict[str, str | None]) -> None:
        self.id = new_id()
        self.sender = sender
        self.parameters = MappingProxyType(parameters)
        self.recipients: tuple[Address, ...] = ()
        self.message: Message | None = None
        self.next_hop = ""
        """The next hop that this transaction goes to, once a delivery plugin has claimed it."""
        self.smtputf8 = "SMTPUTF8" in parameters
        self.body = parameters.get("BODY") or "7BIT"
        self.size = 0
        """The size that the client announced with SIZE, in octets; 0 when it did not."""
        self.trusted = ""
        self._did: tuple[str, ...] = ()
        """As in ``Session``."""
        self._trusted_recipients = _NOBODY
        self._points: Ledger | None = None
        self._recipient_points: dict[Address, Ledger] | None = None
        self._answers: dict[Address, Any] = {}
        self._rulings: tuple[Ruling, ...] = ()
        self._notes: dict[int, dict[str, Any]] | None = None

    @property
    def pending(self) -> tuple[Address, ...]:
        """In the queue phase: the recipients for which no plugin has answered yet."""
        if not self._answers:
            return self.recipients
        if len(self._answers) == len(self.recipients):  # only recipients are answered for
            return ()
        return tuple([recipient for recipient in self.recipients if recipient not in self._answers])

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
            self.trusted = why
        else:
            self._trusted_recipients |= {recipient}
        self._did = (*self._did, f"trusts {'the sender' if recipient is None else 'this recipient'}: {why}")

    def claim(self, next_hop: str) -> bool:
        """Bind this transaction to ``next_hop``; return False when it is already bound to another one.

        SMTP has one reply for all recipients after the final dot. A recipient with another next hop is thus refused
        with 452 4.5.3, and the client sends to it in a transaction of its own (RFC 5321 §4.5.3.1.10).
        """
        if may_write(f"envelope.claim({next_hop!r})"):
            self.next_hop = self.next_hop or next_hop
        return self.next_hop == next_hop

    def trusted_for(self, recipient: Address | None) -> bool:
        """Return True when plugins skip this transaction for ``recipient``; None means for all its recipients."""
        if self.trusted:
            return True
        if not self._trusted_recipients:
            return False
        wanted = (recipient,) if recipient is not None else tuple(self.recipients)
        # With no recipient yet nobody is trusted, although the empty set is a subset of every other.
        return bool(wanted) and self._trusted_recipients.issuperset(wanted)
