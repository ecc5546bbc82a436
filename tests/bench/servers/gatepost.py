"""gatepost from this checkout, in the configurations that are measured, and compiled if that has been done.

* ``bare``: takes mail for example.test and discards it, without store, delays and queries.
* ``default_chain``: access, earlytalker, dnsbl, recipients, greylist and discard, with SQLite as the store. All plugins
  work for every client: nobody is trusted, and clients on loopback are looked up too (``ask_private``), at a real
  rbldnsd on the other core. earlytalker and greylist remember clients, as in the steady state of a mail server: after a
  warm-up with one message from every client, no client waits and none is told to come back.
* ``forwarding``: takes mail for example.test and forwards it to an smtp-sink on the other core.
* ``as_run``: the default chain, which forwards to an smtp-sink on the other core, with log and journal as by default.
* ``with_plugins``: ``bare`` with plugins that pass in all phases (``plugins/passing.py``).
* ``looking_up``: ``bare`` with five plugins that each look up one name at rcpt (``plugins/looking_up.py``).

During the warm-up a client connects, waits for its greeting, and repeats RCPT at once when it is greylisted. Delays are
short for this reason; they take time, but no CPU time of the server. After its first message a client is allowed
(``auto_allow_after = 1``), so that all runs do the same work.
"""

from __future__ import annotations

import functools
import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import tomli_w

from tests.bench.clients import DOMAIN
from tests.bench.servers import compiled, dns, smtp_sink
from tests.bench.servers.running import (
    HOST,
    HOSTNAME,
    MESSAGE_LIMIT,
    SILENCE_LIMIT,
    Command,
    Place,
    Server,
    interpreter,
    never_missing,
)

Table: TypeAlias = dict[str, Any]

SCRIPT = Path(sys.executable).with_name("gatepost")
PLUGINS = Path(__file__).with_name("plugins")
OURS = {"domains": [DOMAIN]}

WARM_UP_DELAY = 0.05
"""Seconds for which earlytalker holds an unknown client."""


def bare() -> Server:
    """Return gatepost with recipients and discard only: the least work that is not an open relay."""
    return _server("gatepost-bare", lambda place: _configuration(place, _discarding()))


def default_chain(*, dns_hits: int = 95, logs: bool = False, interpreted: bool = False) -> Server:
    """Return gatepost with a default policy. For ``dns_hits`` percent of clients, 0 or 95, DNS answers are cached.

    With ``logs`` log and journal have their defaults; otherwise they are at their minimum, as for every other server.
    ``interpreted`` runs the sources without compiled modules.
    """
    special = {"-logging": logs, "-interpreted": interpreted, f"-dns-{dns_hits}": dns_hits != 95}
    name = "gatepost" + "".join(suffix for suffix, applies in special.items() if applies)

    def configuration(place: Place) -> Table:
        return _configuration(place, _chain(place.greeting_delay), logs=logs, dns=dns.lists(place, dns_hits))

    return _server(name, configuration, dns.missing, holds_clients=True, interpreted=interpreted)


def forwarding() -> Server:
    """Return gatepost with recipients and forward, to an smtp-sink."""

    def configuration(place: Place) -> Table:
        return _configuration(place, {"recipients": OURS, "forward": {"to": f"smtp://{smtp_sink.beside(place)}"}})

    return _server("gatepost-forward", configuration, smtp_sink.missing)


def as_run() -> Server:
    """Return gatepost as people run it: the default chain, its log and journal, and forward to an smtp-sink."""

    def configuration(place: Place) -> Table:
        chain = _chain(place.greeting_delay)
        del chain["discard"]
        chain["forward"] = {"to": f"smtp://{smtp_sink.beside(place)}"}
        return _configuration(place, chain, logs=True, dns=dns.lists(place, 95))

    return _server("gatepost-as-run", configuration, lambda: dns.missing() or smtp_sink.missing())


def with_plugins(count: int) -> Server:
    """Return ``bare`` with ``count`` plugins that pass in every phase of a message."""
    passing = {f"passing{number}": {"use": str(PLUGINS / "passing.py")} for number in range(count)}
    return _server(f"gatepost-{count}-plugins", lambda place: _configuration(place, passing | _discarding()))


def looking_up(*, ahead: bool) -> Server:
    """Return ``bare`` with five plugins whose look-ups at rcpt take 50 ms, all at once (``ahead``) or one by one."""
    file = PLUGINS / ("looking_up_ahead.py" if ahead else "looking_up.py")
    looking = {f"look_up{number}": {"use": str(file)} for number in range(5)}

    def configuration(place: Place) -> Table:
        return _configuration(place, looking | _discarding(), dns=dns.slow(place))

    return _server(f"gatepost-look-ups{'-ahead' if ahead else ''}", configuration)


@functools.cache
def is_compiled() -> bool:
    """Return whether these sources have been compiled."""
    return compiled.missing() is None


def version() -> str:
    """Return the versions of gatepost, uvloop and the interpreter."""
    return _version(compiled.version, "compiled") if is_compiled() else _interpreted_version()


@functools.cache
def _version(version_of: Callable[[str], str], how: str) -> str:
    return f"gatepost {version_of('gatepost')} {how}, uvloop {version_of('uvloop')}, {interpreter()}"


def _interpreted_version() -> str:
    return _version(importlib.metadata.version, "interpreted")


def missing() -> str | None:
    """Return the reason why gatepost cannot run with this interpreter, or None if it can."""
    if is_compiled() or SCRIPT.exists():
        return None
    return f"there is no gatepost beside {sys.executable}; scripts/bench installs it"


def _server(
    name: str,
    configuration: Callable[[Place], Table],
    needs: Callable[[], str | None] = never_missing,
    *,
    holds_clients: bool = False,
    interpreted: bool = False,
) -> Server:
    def lay_out(place: Place) -> Command:
        file = place.folder / "gatepost.toml"
        file.write_text(tomli_w.dumps(configuration(place)))
        script = compiled.SCRIPT if is_compiled() and not interpreted else SCRIPT
        return Command([str(script), "serve", "--config", str(file)])

    how = _interpreted_version if interpreted else version
    return Server(name, lay_out, how, lambda: missing() or needs(), holds_clients)


def _configuration(place: Place, plugins: Table, *, logs: bool = False, dns: str | None = None) -> Table:
    """Return the configuration: the plugins in this order, and limits that no client of the benchmark reaches."""
    quiet = {"log": {"level": "error"}, "journal": {"enabled": False}}
    return {
        "hostname": HOSTNAME,
        "state_dir": str(place.folder / "state"),
        "grace": "0s",
        "listen": {"smtp": {"bind": [f"{HOST}:{place.port}"]}},
        "limits": {"max_size": MESSAGE_LIMIT, "idle": f"{SILENCE_LIMIT}s"},
        "dns": {"servers": [dns]} if dns else {},
        "plugins": {"order": list(plugins), **plugins},
        **({} if logs else quiet),
    }


def _discarding() -> Table:
    return {"recipients": OURS, "discard": {}}


def _chain(held: float | None) -> Table:
    """Return the tables of the default chain; an unknown client waits ``held`` seconds, if given."""
    delay = WARM_UP_DELAY if held is None else held
    return {
        "access": {"deny": [{"network": "192.0.2.0/24"}, {"sender": "news@shop.example"}]},
        "earlytalker": {"delay": f"{round(delay * 1000)}ms"},
        "dnsbl": {"zones": {dns.ZONE: 1}, "ask_private": True},
        "recipients": OURS,
        "greylist": {"delay": "1ms", "auto_allow_after": 1},
        "discard": {},
    }
