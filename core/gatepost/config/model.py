"""The configuration as frozen values: a model for each table of ``gatepost.toml``, and ``Config`` over all of them.

The string under a field is its documentation. Sizes are octets and durations are seconds. This module knows the allowed
values and the defaults; ``load`` reads and merges files, and ``wording`` phrases mistakes.

It does not know the meaning of a plugin's own options: ``PluginTable.options`` keeps them as they were written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from gatepost.config.source import Place, Source
from gatepost.config.toml_lines import KeyPath
from gatepost.config.values import (
    AuthservId,
    BindAddress,
    ConfiguredPath,
    Count,
    HostName,
    NameServer,
    Order,
    PluginName,
    PositiveDuration,
    PositiveSize,
    Reserved,
    StoreUrl,
    own_host_name,
)
from gatepost.config.wording import did_you_mean
from gatepost.errors import Mistake
from gatepost.ip import SocketAddress
from gatepost.options import CORE_KEYS, Duration, Size, Table, dotted_key

MIB = 2**20
STATE_DIR = Path("/var/lib/gatepost")
"""The default of ``state_dir``, and of the paths that follow it."""
NO_LISTENER = 'there is no listener; write [listen.smtp] with bind = ["0.0.0.0:25"]'
"""The error of ``check`` and ``serve``. It is no mistake of the file: ``try`` and the test kit need no listener."""

T = TypeVar("T", bound=Table)


def _with_defaults(table: T, **defaults: object) -> T:
    """Return the table with ``defaults`` for the keys that were not written."""
    return table.model_copy(
        update={name: value for name, value in defaults.items() if name not in table.model_fields_set}
    )


class Listener(Table):
    """`[listen.NAME]`: addresses where clients connect, and the policy for them."""

    bind: Annotated[tuple[BindAddress, ...], Field(min_length=1)]
    """Addresses with ports: "0.0.0.0:25" for all of IPv4, "[::]:25" for all of IPv6. Port 0 takes any free one."""
    plugins: Order | None = None
    """The order of plugins for this listener. Default: the order of `[plugins]`."""


class Store(Table):
    """`[store]`: the place where plugins keep data."""

    url: StoreUrl = f"sqlite://{STATE_DIR}/state.db"
    """A file ("sqlite:///path"), or memory ("memory:", for trials). Default: `state.db` in `state_dir`."""


class Dns(Table):
    """`[dns]`: the name servers."""

    servers: tuple[NameServer, ...] = ()
    """Name servers, in the order in which they are tried. Default: those of the system."""
    timeout: PositiveDuration = 5.0
    """The time limit for a query, including all retries."""


class Spool(Table):
    """`[spool]`: the place where messages are kept during their session."""

    path: ConfiguredPath = STATE_DIR / "spool"
    """The folder for messages that are too large for memory. Default: `spool` in `state_dir`."""
    memory: Size = 512 * 1024
    """A message up to this size stays in memory."""
    budget: PositiveSize = 256 * MIB
    """Memory for all messages together; over it DATA gets 452 4.3.1. What clients send ahead of their turn counts too,
    above 4 KiB for each; over the budget such a client gets 421 4.3.1."""
    min_free: Size = 100 * MIB
    """Free space that the folder's disk must keep; below it DATA gets 452 4.3.1. Default: twice `limits.max_size`."""


class Limits(Table):
    """`[limits]`: limits for every client."""

    max_size: PositiveSize = 50 * MIB
    """The largest message; over it 552 5.3.4 (RFC 1870)."""
    recipients: Count = 1000
    """Recipients of one message; each further one gets 452 4.5.3 (RFC 5321 §4.5.3.1.10). After as many of those since
    the last accepted message, each counts as one of the `refusals`."""
    header_size: PositiveSize = MIB
    """The largest header block; over it 552 5.3.4 at the end of data."""
    header_fields: Count = 1000
    """Fields in a header block; over it 552 5.3.4 at the end of data."""
    received: Count = 100
    """Received fields in a header block; over it the message loops: 554 5.4.6 (RFC 5321 §6.3)."""
    line_length: Annotated[Size, Field(ge=1000)] = 65536
    """Octets of a text line with its end; over it 554 5.6.0 at the end of data (RFC 5321 §4.5.3.1.6)."""
    idle: PositiveDuration = 300.0
    """The longest silence of a client between commands; over it 421 4.4.2 (RFC 5321 §4.5.3.2)."""
    session: PositiveDuration = 3600.0
    """The longest duration of a session, checked between transactions; over it 421 4.4.2."""
    data_rate: Annotated[int, Field(ge=0)] = 100
    """The lowest average rate of DATA over a minute, in octets per second; below it 421 4.4.2. 0 means no limit."""
    unknown_commands: Count = 10
    """Unknown commands in a row before 421."""
    noise_commands: Count = 100
    """NOOP, RSET, HELO and VRFY since the last accepted message before 421 4.7.0."""
    refusals: Count = 20
    """Permanent refusals (5xx) since the last accepted message before 421 4.7.0: address harvest."""
    connections: Count = 20_000
    """Connections at the same time; each further one gets 421 4.7.0 at once."""
    connections_per_client: Count = 50
    """Connections at the same time from one IPv4 address or IPv6 /64 network; loopback is exempt."""


class Score(Table):
    """`[score]`: limits for the sum of the points that all plugins give."""

    defer_at: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The score at which a client is deferred."""
    deny_at: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The score at which a client is refused."""

    @model_validator(mode="after")
    def _defer_comes_first(self) -> Score:
        if self.defer_at is not None and self.deny_at is not None and self.defer_at >= self.deny_at:
            raise ValueError(
                f"defer_at ({self.defer_at:g}) must be below deny_at ({self.deny_at:g}), or it never counts"
            )
        return self


class Log(Table):
    """`[log]`: the log on standard error."""

    format: Literal["auto", "json", "human"] = "auto"
    """One JSON object per line ("json") or lines for people ("human"); "auto" means "human" on a terminal."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is written."""


class Journal(Table):
    """`[journal]`: the records behind `gatepost explain` and `gatepost log`."""

    enabled: bool = True
    """`true` if records of rulings are kept."""
    path: ConfiguredPath = STATE_DIR / "journal.db"
    """The file. Default: `journal.db` in `state_dir`."""
    keep: Count = 100_000
    """The number of records to keep; the oldest are deleted first, and before those the ones of a client with many."""
    size: Annotated[Size, Field(ge=1_048_576)] = 268_435_456
    """The largest size of the file; its oldest records are deleted first."""
    age: PositiveDuration = 7_776_000.0
    """The time for which a record is kept: 90 days."""


class PluginTable(Table):
    """`[plugins.NAME]`: one instance of a plugin. Keys that are not named here are the plugin's own options."""

    name: PluginName
    """The instance's name."""
    use: Annotated[str, Field(min_length=1)]
    """The installed plugin, or a file relative to the configuration ("plugins/mine.py"). Default: the table's name."""
    mode: Literal["enforce", "observe", "off"] = "enforce"
    """Its answers are applied ("enforce") or only recorded ("observe"), or it is not asked ("off")."""
    time_limit: PositiveDuration = 30.0
    """The time limit for one call."""
    on_error: Literal["defer", "pass"] | None = None
    """How an error of the plugin counts. Default: as the plugin declares, else "defer"."""
    reject_at: Literal["connect", "helo", "mail", "rcpt"] | None = None
    """The phase at which its earlier refusals are sent. Default: "rcpt" for helo and mail, "connect" for connect."""
    phases: tuple[str, ...] | None = None
    """The phases in which it is asked, besides startup and shutdown. Default: all that it implements."""
    observe: Reserved = None
    """Reserved for a later version."""
    instead: Reserved = None
    """Reserved for a later version."""
    options: dict[str, object] = Field(default_factory=dict, repr=False)
    """The plugin's own options as they were written."""


class Plugins(Table):
    """`[plugins]`: the plugins that are asked, and their order. Each further key is the table of one plugin."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, PluginTable]

    order: Order = ()
    """The names of the plugins that are asked, in this order. An installed plugin that is not listed does nothing."""

    @model_validator(mode="before")
    @classmethod
    def _separate_options(cls, value: object) -> object:
        """Separate the options in the plugins' tables from the core's keys."""
        if not isinstance(value, Mapping):
            return value
        return {key: part if key == "order" else _separated(key, part) for key, part in value.items()}


def _separated(name: str, table: object) -> object:
    """Return a plugin's table as ``PluginTable`` has it: its own options are apart, so none can pass for a core key."""
    if not isinstance(table, Mapping):  # a mistake, which pydantic reports
        return table
    core = {key: value for key, value in table.items() if key in CORE_KEYS}
    options = {key: value for key, value in table.items() if key not in CORE_KEYS}
    return {"name": name, "use": name} | core | {"options": options}


def _overridden(winner: Place, order: Sequence[str]) -> str:
    """Return the sentence about an order that is overridden: an edit of it would have no effect, and nobody says so."""
    where = f"{winner.where}:{winner.line}" if winner.line else winner.where
    return f"it does nothing: {where} comes later and wins, with {', '.join(order) or 'no plugin'}; keep one of the two"


class Config(Table):
    """Everything in ``gatepost.toml``. Immutable: a reload reads a new one."""

    hostname: HostName = Field(default_factory=own_host_name)
    """The name in the greeting, the reply to EHLO and Received. Default: the machine's full name."""
    state_dir: ConfiguredPath = STATE_DIR
    """The folder for files that the server itself writes."""
    user: Annotated[str, Field(min_length=1)] | None = None
    """The account to which gatepost switches once the ports are bound."""
    grace: Duration = 30.0
    """The time that open sessions are given when the server stops."""
    line_ends: Literal["normalize", "reject"] = "normalize"
    """A line end other than CRLF in a message becomes CRLF ("normalize"), or the message is refused ("reject")."""
    trusted_results: tuple[AuthservId, ...] = ()
    """Names of servers whose Authentication-Results your mail server or your users believe, besides `hostname`. Those
    that a client brings under such a name are removed as forged (RFC 8601, section 5)."""
    listeners: dict[str, Listener] = Field(default_factory=dict, alias="listen")
    """Listeners, a table for each."""
    limits: Limits = Limits()
    """Limits for every client."""
    # store, spool and journal are validated even if they are not written, because their defaults depend on other keys.
    store: Store = Field(default_factory=Store, validate_default=True)
    """Data of plugins."""
    dns: Dns = Dns()
    """Name servers."""
    spool: Spool = Field(default_factory=Spool, validate_default=True)
    """Messages in transit."""
    score: Score = Score()
    """Limits for points."""
    log: Log = Log()
    """The log."""
    journal: Journal = Field(default_factory=Journal, validate_default=True)
    """The records of rulings."""
    plugins: Plugins = Plugins()
    """The policy."""

    _source: Source = PrivateAttr(default_factory=Source)

    def model_post_init(self, context: Any) -> None:
        if context and "source" in context:
            self._source = context["source"]

    @field_validator("listeners")
    @classmethod
    def _bound_once(cls, listeners: dict[str, Listener]) -> dict[str, Listener]:
        bound: dict[SocketAddress, str] = {}
        for name, listener in listeners.items():
            for address in listener.bind:
                if address.port and address in bound:  # port 0 is another free port each time
                    names = " and by ".join(dict.fromkeys((bound[address], name)))
                    raise ValueError(f"{address} is bound twice, by {names}")
                bound[address] = name
        return listeners

    @field_validator("store")
    @classmethod
    def _store_in_state_dir(cls, store: Store, info: ValidationInfo) -> Store:
        folder = info.data.get("state_dir")
        return store if folder is None else _with_defaults(store, url=f"sqlite://{folder.absolute()}/state.db")

    @field_validator("spool")
    @classmethod
    def _spool_in_state_dir(cls, spool: Spool, info: ValidationInfo) -> Spool:
        folder, limits = info.data.get("state_dir"), info.data.get("limits")
        if folder is None or limits is None:
            return spool
        return _with_defaults(spool, path=folder / "spool", min_free=2 * limits.max_size)

    @field_validator("journal")
    @classmethod
    def _journal_in_state_dir(cls, journal: Journal, info: ValidationInfo) -> Journal:
        folder = info.data.get("state_dir")
        return journal if folder is None else _with_defaults(journal, path=folder / "journal.db")

    @property
    def source(self) -> Source:
        """The origin of this configuration."""
        return self._source

    @property
    def folder(self) -> Path:
        """The folder to which relative paths belong."""
        return self._source.folder

    @property
    def order(self) -> tuple[str, ...]:
        """The order for every listener that has none of its own."""
        return self.plugins.order

    @property
    def plugin_tables(self) -> dict[str, PluginTable]:
        """The table of every plugin that has one or that an order names."""
        written = self.plugins.__pydantic_extra__ or {}
        return written | {name: self.plugin(name) for name in self._named()}

    def plugin(self, name: str) -> PluginTable:
        """Return the table of a plugin; all defaults if it has none."""
        written = self.plugins.__pydantic_extra__ or {}
        return written.get(name) or PluginTable(name=name, use=name)

    def locate(self, path: KeyPath) -> Place:
        """Return the place of a key, for messages: file or environment variable, and line.

        The place of a missing key is that of the table around it; a plugin without a table is where an order names it.
        """
        if len(path) > 1 and path[0] == "plugins" and path[:2] not in self._source.places:
            for order_path, names in self._orders():
                if path[1] in names:
                    return self._source.locate((*order_path, names.index(str(path[1]))))
        return self._source.locate(path)

    def mistake(self, path: KeyPath, message: str) -> Mistake:
        """Return the mistake ``message`` about a key, with the place where the key was written."""
        return Mistake(*self.locate(path), dotted_key(path), message)

    @property
    def warnings(self) -> tuple[Mistake, ...]:
        """Valid settings that are probably not intended.

        A plugin's table that no order names, an order that a later layer replaces or that no listener uses, and no
        listener.
        """
        named = self._named()
        unused = [name for name in self.plugins.__pydantic_extra__ or {} if name not in named]
        found = [
            self.mistake(("plugins", name), f"no order names it, so it does nothing{did_you_mean(name, named)}")
            for name in unused
        ]
        for path, names_there in self._orders():
            winner = self._source.locate(path)
            found += [
                Mistake(*place, dotted_key(path), _overridden(winner, names_there))
                for place in self._source.replaced.get(path, ())
            ]
        if self.order and self.listeners and all(each.plugins is not None for each in self.listeners.values()):
            message = "it does nothing, because every listener has an order of its own (plugins)"
            found.append(self.mistake(("plugins", "order"), message))
        if not self.listeners:
            found.append(self.mistake(("listen",), NO_LISTENER))
        return tuple(found)

    def _orders(self) -> list[tuple[KeyPath, Sequence[str]]]:
        own = [(("listen", name, "plugins"), listener.plugins or ()) for name, listener in self.listeners.items()]
        return [(("plugins", "order"), self.order), *own]

    def _named(self) -> dict[str, None]:
        """Return every name in every order, each once, in the order of first mention."""
        return {name: None for _, names in self._orders() for name in names}
