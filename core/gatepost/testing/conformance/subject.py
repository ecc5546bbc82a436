"""The plugin that is checked, and the worlds in which it is asked: how DNS, store and next hop behave there.

Each run of sessions gets a policy of its own, made from the class and its options, so that no check sees traces of
another one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gatepost.errors import DNSTemporaryError, GatepostError
from gatepost.options import CORE_KEYS, Options
from gatepost.plugins import declaration_problems, hook_problems, options_of
from gatepost.services.dns import reversed_address
from gatepost.testing.loading import instance
from gatepost.testing.policy import Policy

Answers = tuple[str, ...] | Exception

UNKNOWN = DNSTemporaryError("SERVFAIL, as this check says")
RECORDS: dict[str, Answers] = {
    "A": ("127.0.0.2", "192.0.2.1"),
    "AAAA": ("2001:db8::1",),
    "MX": ("10 mail.example.com",),
    "PTR": ("client.example.com",),
    "TXT": ("v=spf1 -all",),
}
"""The records of every name in a world that has any: clients with names, on every list, and domains that take mail."""

NEVER_LISTED = tuple(f"{reversed_address(address)}." for address in ("127.0.0.1", "::ffff:127.0.0.1"))
"""The beginnings of names that no proper DNS list has (RFC 5782 §5)."""


def _nothing(policy: Policy) -> None:
    """Leave everything as it is."""


@dataclass(frozen=True, slots=True)
class World:
    """The surroundings of a plugin. ``records`` by kind, ``otherwise`` for all other kinds, ``delay`` in seconds.

    ``of_names`` are the records of names that contain a text, by that text.
    """

    name: str
    records: Mapping[str, Answers]
    otherwise: Answers = ()
    delay: float = 1.0
    of_names: tuple[tuple[str, Mapping[str, Answers]], ...] = ()
    begin: Callable[[Policy], None] = _nothing
    """Called once the plugins have started."""
    before: tuple[type, ...] = ()
    """Plugins that are asked before this one."""

    def prepare(self, policy: Policy) -> None:
        """Set up DNS as it is in this world."""
        policy.dns.answers = _Everywhere(self.records, self.otherwise, self.of_names)
        policy.dns.delays = _Everywhere({}, self.delay, ())


class _Everywhere(dict[tuple[str, str], Any]):
    """A script of DNS in which every name has the same records, except for those that contain a certain text."""

    def __init__(
        self, by_kind: Mapping[str, Any], otherwise: Any, of_names: tuple[tuple[str, Mapping[str, Any]], ...]
    ) -> None:
        super().__init__()
        self._by_kind = by_kind
        self._otherwise = otherwise
        self._of_names = of_names

    def get(self, key: tuple[str, str], default: Any = None) -> Any:
        """Return the records of the kind in ``key``."""
        by_kind = next((records for part, records in self._of_names if part in key[0]), self._by_kind)
        found = by_kind.get(key[1], self._otherwise)
        return () if isinstance(found, tuple) and key[0].startswith(NEVER_LISTED) else found


ANSWERING = World("a world in which names have records", RECORDS)
EMPTY = World("a world without names", {})


@dataclass(frozen=True, slots=True)
class Subject:
    """A plugin: its class, an object or a module, with the options that it is made with."""

    plugin: Any
    options: Options | Mapping[str, Any] | None = None
    name: str = "plugin"

    @property
    def offered(self) -> Any:
        """The class or the module, as an entry point would name it."""
        made = not (inspect.isclass(self.plugin) or inspect.ismodule(self.plugin))
        return type(self.plugin) if made else self.plugin

    @property
    def model(self) -> type[Options] | None:
        """The class of its options."""
        return options_of(self.offered)

    def made_options(self) -> Options | None:
        """Return its options, validated. Raises ``ValueError`` if they are wrong."""
        if self.model is None or isinstance(self.options, Options):
            return self.options if isinstance(self.options, Options) else None
        return self.model.model_validate(self._own())

    def policy(self, world: World = ANSWERING) -> Policy:
        """Return a policy of its own in ``world``. Raises what making the plugin raises."""
        if self.plugin is not self.offered:
            configured = instance(self.plugin, self.name)
        elif isinstance(self.options, Options):
            configured = instance(self.plugin, self.name, options=self.options)
        else:
            configured = instance(self.plugin, self.name, **self._own())
        policy = Policy(*world.before, configured, dns="lenient", failures="expected")
        world.prepare(policy)
        return policy

    def loadable(self) -> None:
        """Raise ``NotApplicableError`` if no object can be made of it; another check says what is wrong."""
        if any(True for _ in hook_problems(self.offered)):
            raise NotApplicableError("it cannot be asked: see hooks")
        if declaration_problems(self.offered):
            raise NotApplicableError("it cannot be asked: see declarations")

    def playable(self) -> None:
        """Raise ``NotApplicableError`` if no session can be played with it; another check says what is wrong."""
        self.loadable()
        try:
            self.policy()
        except (Exception, SystemExit):
            raise NotApplicableError("it cannot be made: see start") from None

    def fresh(self) -> None:
        """Raise ``NotApplicableError`` if it is an object, which already has services of its own."""
        self.playable()
        if self.plugin is not self.offered:
            raise NotApplicableError("it is an object with services of its own; check its class")

    def why_not_made(self) -> Iterator[str]:
        """Yield a sentence for each reason why it cannot be made with its options."""
        try:
            self.made_options()
        except ValueError as error:
            yield f"its options are wrong: {error}"
            return
        try:
            self.policy()
        except GatepostError as error:
            yield str(error)
        except (Exception, SystemExit) as error:
            yield f"its constructor failed: {type(error).__name__}: {error}"

    def _own(self) -> dict[str, Any]:
        given = self.options.items() if isinstance(self.options, Mapping) else ()
        return {key: value for key, value in given if key not in CORE_KEYS}


class NotApplicableError(Exception):
    """The check has nothing to look at in this plugin; the text says why."""
