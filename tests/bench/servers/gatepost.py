"""gatepost itself, from this checkout, in the configurations that are measured: compiled, where that has been done.

* ``bare``: takes what is for example.test and discards it; no store is used, nobody waits, nothing is asked.
* ``default_chain``: access, earlytalker, dnsbl, recipients, greylist and discard, with SQLite as the store. All of them
  work for every client: nobody is trusted, and clients on loopback are asked about (``ask_private``), at a real rbldnsd
  on the other core. earlytalker and greylist have their memory on, as in the steady state of a mail server: after a
  warm-up in which every client has sent one message, none waits and none is told to come back.
* ``forwarding``: takes recipients of example.test and hands over to a smtp-sink on the other core.
* ``with_plugins``: ``bare`` with plugins that pass in all phases (``plugins/passing.py``).
* ``looking_up``: ``bare`` with five plugins that each look up one name at rcpt (``plugins/looking_up.py``).

Warming up: a client connects, waits for its greeting, and repeats RCPT at once when it is greylisted. Delays are short
for that: they cost a client time and the server none. From its first message on a client is allowed
(``auto_allow_after = 1``), so that a run does not differ from the one before it.
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
"""Seconds that earlytalker holds a client that it does not know."""


def bare() -> Server:
    """Recipients and discard: the floor of gatepost, and no open relay."""
    return _server("gatepost-bare", lambda place: _configuration(place, _discarding()))


def default_chain(*, dns_hits: int = 95, logs: bool = False, interpreted: bool = False) -> Server:
    """All of a default policy. ``dns_hits``: percent of clients whose DNS answers are kept, 0 or 95.

    With ``logs`` log and journal are as they are by default, else at their lowest as with every other server.
    ``interpreted``: the very sources, nothing of them compiled.
    """
    special = {"-logging": logs, "-interpreted": interpreted, f"-dns-{dns_hits}": dns_hits != 95}
    name = "gatepost" + "".join(suffix for suffix, applies in special.items() if applies)

    def configuration(place: Place) -> Table:
        return _configuration(place, _chain(place.greeting_delay), logs=logs, dns=dns.lists(place, dns_hits))

    return _server(name, configuration, dns.missing, holds_clients=True, interpreted=interpreted)


def forwarding() -> Server:
    """Recipients and forward, to a smtp-sink."""

    def configuration(place: Place) -> Table:
        return _configuration(place, {"recipients": OURS, "forward": {"to": f"smtp://{smtp_sink.beside(place)}"}})

    return _server("gatepost-forward", configuration, smtp_sink.missing)


def with_plugins(count: int) -> Server:
    """``bare`` and so many plugins that pass in every phase in which they are asked."""
    passing = {f"passing{number}": {"use": str(PLUGINS / "passing.py")} for number in range(count)}
    return _server(f"gatepost-{count}-plugins", lambda place: _configuration(place, passing | _discarding()))


def looking_up(*, ahead: bool) -> Server:
    """``bare`` and five plugins with a look-up of 50 ms each at rcpt, started with the phase or each in its turn."""
    file = PLUGINS / ("looking_up_ahead.py" if ahead else "looking_up.py")
    looking = {f"look_up{number}": {"use": str(file)} for number in range(5)}

    def configuration(place: Place) -> Table:
        return _configuration(place, looking | _discarding(), dns=dns.slow(place))

    return _server(f"gatepost-look-ups{'-ahead' if ahead else ''}", configuration)


@functools.cache
def is_compiled() -> bool:
    """Whether it has been compiled from these sources."""
    return compiled.missing() is None


def version() -> str:
    """gatepost, uvloop and the interpreter."""
    return _version(compiled.version, "compiled") if is_compiled() else _interpreted_version()


@functools.cache
def _version(version_of: Callable[[str], str], how: str) -> str:
    return f"gatepost {version_of('gatepost')} {how}, uvloop {version_of('uvloop')}, {interpreter()}"


def _interpreted_version() -> str:
    return _version(importlib.metadata.version, "interpreted")


def missing() -> str | None:
    """Say that gatepost is not installed for this interpreter, or None."""
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
    """All of gatepost.toml: the plugins in this order, and limits that no client of a benchmark meets."""
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
    """The default chain; with ``held`` a client that is not known waits so many seconds."""
    delay = WARM_UP_DELAY if held is None else held
    return {
        "access": {"deny": [{"network": "192.0.2.0/24"}, {"sender": "news@shop.example"}]},
        "earlytalker": {"delay": f"{round(delay * 1000)}ms"},
        "dnsbl": {"zones": {dns.ZONE: 1}, "ask_private": True},
        "recipients": OURS,
        "greylist": {"delay": "1ms", "auto_allow_after": 1},
        "discard": {},
    }
