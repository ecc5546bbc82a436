"""Policies that cannot be meant: each is a valid configuration, and would lose mail, relay for anyone, or do nothing.

Nobody vouches for recipients; nobody delivers; anyone may relay; a plugin is never reached; a next hop is ourselves;
the account to run as does not exist. All but one are read off what was loaded. Whether anyone may relay is tried: the
plugins that may vouch are asked for the recipients that a relay abuser would name.

Nothing is bound and, unless such a plugin does so, nobody is asked. RFC 5321 §3.6.2 (relaying) and appendix F.2 (source
routes), RFC 1123 §5.2.16 (what ``%`` in a local part may mean to a mail server).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from gatepost.config import Config, KeyPath, Limits, SocketAddress
from gatepost.decisions import Action
from gatepost.errors import GatepostError, Mistake
from gatepost.events import NULL_RECORDER
from gatepost.gate import GRANTS, Gate, Instance
from gatepost.hookspecs import ALL_RUN
from gatepost.message import Spool
from gatepost.options import dotted_key, format_duration
from gatepost.plugins import Policy, make_gate
from gatepost.rehearsal.offline import NoDNS
from gatepost.rehearsal.rehearsal import Rehearsal
from gatepost.runtime import Runtime
from gatepost.server import account_of, is_loopback
from gatepost.services.store import MemoryBackend
from gatepost.services.virtual_clock import HastyClock

STRANGER = "192.0.2.1"
"""An address that nobody has (RFC 5737)."""
ELSEWHERE = "relay-probe.example.net"
"""A domain that nobody has (RFC 2606)."""
PATIENCE = 10.0
"""Seconds that the probe for open relays may take."""
MOST_DOMAINS = 3
"""Domains of ours that the relay tricks are tried with."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to be looked at. An error cannot be meant; a warning can."""

    mistake: Mistake
    is_error: bool = True


async def findings(policy: Policy, config: Config) -> list[Finding]:
    """All that is remarkable about a policy that could be loaded, errors first."""
    found = [Finding(warning, is_error=warning.key == "listen") for warning in config.warnings]
    found += _accounts(config)
    for name, gate in (policy.gates or {"": policy.default}).items():
        look = _Look(config, name, gate)
        found += look.grants()
        found += look.never_reached()
        found += look.next_hops()
        found += look.observed_waiting()
        found += look.misplaced()
        found += await look.open_relay()
    return sorted(dict.fromkeys(found), key=lambda finding: not finding.is_error)


def _accounts(config: Config) -> Iterator[Finding]:
    """An account to run as that this machine has not got, or none although root may not serve: the start would fail."""
    if config.user is not None:
        try:
            account_of(config.user)
        except GatepostError as error:
            yield Finding(Mistake(*config.locate(("user",)), "user", str(error)))
        return
    for name, listener in config.listeners.items():
        if not all(is_loopback(address) for address in listener.bind):
            path = ("listen", name, "bind")
            message = 'root does not serve it: without user = "…" another account must start the gate'
            yield Finding(Mistake(*config.locate(path), dotted_key(path), message), is_error=False)


def granted(policy: Policy) -> dict[str, tuple[str, ...]]:
    """Who may grant what: the three things that are too dangerous for a casual accept."""
    return {name: tuple(sorted(instance.grants)) for name, instance in policy.instances.items() if instance.grants}


@dataclass(frozen=True, slots=True)
class _Look:
    """The policy of one listener."""

    config: Config
    listener: str
    gate: Gate

    def _finding(self, path: KeyPath, message: str, *, is_error: bool = True) -> Finding:
        return Finding(Mistake(*self.config.locate(path), dotted_key(path), message), is_error)

    @property
    def _order(self) -> KeyPath:
        """The key of the order that this listener has."""
        listener = self.config.listeners.get(self.listener)
        own = listener is not None and listener.plugins is not None
        return ("listen", self.listener, "plugins") if own else ("plugins", "order")

    def grants(self) -> Iterator[Finding]:
        """Nobody vouches, or nobody delivers."""
        wanted = {
            "recipients": "nobody vouches for recipients, so each gets 450; name a plugin that grants recipients",
            "delivery": "nobody delivers, so each message gets 451; name a plugin that grants delivery",
        }
        for grant, message in wanted.items():
            if not any(hook.instance.may_grant(GRANTS[grant]) for hook in self.gate.chains[GRANTS[grant]]):
                hint = {"recipients": "recipients", "delivery": "forward or maildir"}[grant]
                yield self._finding(self._order, f"{message}, such as {hint}")

    def never_reached(self) -> Iterator[Finding]:
        """A plugin without a phase, or one that could only deliver, behind one that takes everything."""
        taker = ""
        for instance in self.gate.instances:
            phases = {phase for phase, chain in self.gate.chains.items() if any(h.instance is instance for h in chain)}
            path = ("plugins", instance.name)
            if not phases:
                yield self._finding((*path, "phases"), "it takes part in no phase, so it does nothing")
            elif taker and phases - ALL_RUN == {"queue"}:
                yield self._finding(path, f"it is never reached: {taker} takes every recipient before it")
            elif taker and "queue" in phases:
                message = f"it never delivers: {taker} takes every recipient before it"
                yield self._finding(path, message, is_error=False)
            if "queue" in phases and _declared(instance, "takes_everything", False):
                taker = taker or instance.name

    def next_hops(self) -> Iterator[Finding]:
        """A next hop that is this very listener."""
        listener = self.config.listeners.get(self.listener)
        for hook in self.gate.chains["queue"]:
            for hop in _declared(hook.instance, "next_hops", ()):
                if listener is not None and any(self._is_ours(str(hop), address) for address in listener.bind):
                    message = f"its next hop {hop} is this gate itself ([listen.{self.listener}]): mail would loop"
                    yield self._finding(("plugins", hook.name), message)

    def _is_ours(self, hop: str, bound: SocketAddress) -> bool:
        host, _, port = hop.rpartition(":")
        if port != str(bound.port):
            return False
        is_name = host.lower() in {"localhost", self.config.hostname}
        if bound.host == "localhost":
            return is_name or _is_loopback(host)
        if is_name:
            return _is_wildcard(bound.host) or (host.lower() == "localhost" and _is_loopback(bound.host))
        address = host.strip("[]")
        return address == bound.host or (
            _is_wildcard(bound.host) and _is_loopback(address) and (":" in address) == (":" in bound.host)
        )

    def observed_waiting(self) -> Iterator[Finding]:
        """To observe a plugin that makes clients wait makes them wait."""
        for hook in self.gate.chains["connect"]:
            if hook.instance.observed and hook.instance.longest_wait:
                wait = format_duration(hook.instance.longest_wait)
                message = f"it is only observed, but clients wait for it all the same, up to {wait}"
                yield self._finding(("plugins", hook.name, "mode"), message, is_error=False)

    def misplaced(self) -> Iterator[Finding]:
        """One that spares trusted clients before one that says who is trusted; one that remembers whom nobody knows."""
        instances = self.gate.instances
        trusting = [place for place, instance in enumerate(instances) if _declared(instance, "trusts", False)]
        vouching = [place for place, instance in enumerate(instances) if instance.may_grant("rcpt")]
        for place, instance in enumerate(instances):
            if instance.skip_trusted and trusting and place < trusting[-1]:
                says = instances[trusting[-1]].name
                message = f"it spares trusted clients, but {says}, which says who is trusted, stands behind it"
                yield self._finding(self._order, f"{instance.name}: {message}", is_error=False)
            if _declared(instance, "wants_vouched", False) and vouching and place < vouching[0]:
                knows = instances[vouching[0]].name
                message = f"it remembers mailboxes that do not exist, since {knows} stands behind it"
                yield self._finding(self._order, f"{instance.name}: {message}", is_error=False)

    async def open_relay(self) -> list[Finding]:
        """Ask those who may vouch, and nobody else, for recipients that only a relay would take."""
        vouching = [instance for instance in self.gate.instances if instance.may_grant("rcpt")]
        try:
            relayed = await asyncio.wait_for(_relayed(vouching, self.config, self.listener), PATIENCE)
        except TimeoutError:
            message = "whether anyone may relay could not be tried: those who vouch did not answer"
            return [self._finding(self._order, message, is_error=False)]
        return [
            self._finding(("plugins", name), f"anyone may relay: it vouches for <{recipient}> of a stranger")
            for name, recipient in relayed.items()
        ]


def _declared(instance: Instance, name: str, default: Any) -> Any:
    """What a plugin declares for this check. A declaration that fails is as good as none."""
    try:
        return getattr(instance.plugin, name, default)
    except Exception:
        return default


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_wildcard(host: str) -> bool:
    return host in {"0.0.0.0", "::"}


async def _relayed(vouching: list[Instance], config: Config, listener: str) -> dict[str, str]:
    """The plugins that vouched for what is not ours, with the first recipient of each."""
    clock = HastyClock()
    runtime = Runtime(
        hostname=config.hostname,
        clock=clock,
        resolver=NoDNS(),
        marks=MemoryBackend(clock).namespace("gatepost"),
        spool=Spool(None),
        limits=Limits(),
        recorder=NULL_RECORDER,
    )
    client = Rehearsal(make_gate(vouching, clock, runtime.recorder), runtime, STRANGER, listener=listener)
    await client.connect()
    await client.say(f"EHLO {ELSEWHERE}")
    await client.say(f"MAIL FROM:<stranger@{ELSEWHERE}>")
    relayed: dict[str, str] = {}
    for recipient in _abusive(_own_domains(vouching, config)):
        reply = await client.say(f"RCPT TO:<{recipient}>")
        envelope = client.session.envelope
        if reply.code == 250 and envelope is not None:
            for said in envelope._rulings[-1].said:
                if said.answer is not None and said.answer.action is Action.ACCEPT:
                    relayed.setdefault(said.plugin, recipient)
    await client.close()
    return relayed


def _abusive(domains: Iterable[str]) -> Iterator[str]:
    """Recipients that a relay abuser tries."""
    yield f"victim@{ELSEWHERE}"
    for domain in domains:
        yield f"victim%{ELSEWHERE}@{domain}"
        yield f"{ELSEWHERE}!victim@{domain}"
        yield f'"victim@{ELSEWHERE}"@{domain}'
        yield f"@{domain}:victim@{ELSEWHERE}"


def _own_domains(vouching: list[Instance], config: Config) -> list[str]:
    """Some of our domains, as far as the tables of those who vouch have such a key."""
    written = [config.plugin(instance.name).options.get("domains") for instance in vouching]
    domains = [str(domain) for part in written if isinstance(part, list | tuple) for domain in part]
    return list(dict.fromkeys((*domains[: MOST_DOMAINS - 1], config.hostname)))
