"""Checks of a policy that is valid but probably not intended: it would refuse all mail, or relay for anyone.

The policy is only read, with one exception: relaying is tried out. The plugins that may vouch are asked about the
recipients that a relay abuser would name, because no declaration tells which recipients a plugin vouches for.

No socket is bound, and nothing leaves this machine unless such a plugin sends it. RFC 5321 §3.6.2 (relaying) and
appendix F.2 (source routes), RFC 1123 §5.2.16 (what ``%`` in a local part may mean to a mail server).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

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
from gatepost.services.dns import skipped_servers
from gatepost.services.store import MemoryBackend
from gatepost.services.virtual_clock import HastyClock

STRANGER = "192.0.2.1"
"""The client that tries to relay. The address is for documentation (RFC 5737), so it is no client of ours."""
ELSEWHERE = "relay-probe.example.net"
"""The domain that it tries to reach. The domain is for documentation (RFC 2606), so it is not ours."""
PATIENCE = 10.0
"""The most seconds that the attempt to relay may take."""
MOST_DOMAINS = 3
"""The most domains of ours with which the tricks of relay abusers are tried."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an administrator should look at. An error can never be intended; a warning may be."""

    mistake: Mistake
    is_error: bool = True


async def findings(policy: Policy, config: Config, mistakes: Sequence[Mistake] = ()) -> list[Finding]:
    """Return the findings about a policy, errors first.

    With ``mistakes`` configuration and policy are those that remain without the wrong keys and plugins. What is found
    then holds whatever stands there instead: it is not said that something is missing where it may be what is wrong.
    """

    def is_whole(path: KeyPath) -> bool:
        """Return True when no mistake is about this key, one around it or one inside it, or about a file as a whole."""
        key = dotted_key(path)
        return config.source.is_complete and not any(_is_within(each.key, key) for each in mistakes)

    found = list[Finding]()
    for warning in config.warnings:
        # A server without a listener does not start. A table that no order names is harmless.
        if is_whole(("listen",)) and (is_whole(("plugins", "order")) or warning.key in ("listen", "plugins.order")):
            found.append(Finding(warning, is_error=warning.key == "listen"))
    if is_whole(("user",)):
        found += _accounts(config)
    if not config.dns.servers:
        found += [Finding(line, is_error=False) for line in skipped_servers()]
    for name, gate in (policy.gates or {"": policy.default}).items():
        check = _ListenerCheck(config, name, gate)
        if is_whole(check.order) and check.is_loaded():
            found += check.grants()
        found += check.never_reached()
        found += check.next_hops()
        found += check.observed_waits()
        found += check.misplaced()
        found += check.late_points()
        found += await check.open_relay()
    # Two listeners with the same order have the same findings.
    return sorted(dict.fromkeys(found), key=lambda finding: not finding.is_error)


def _is_within(key: str, other: str) -> bool:
    """Return True when one of two dotted keys is the other or is inside it."""
    return key == other or key.startswith((f"{other}.", f"{other}[")) or other.startswith((f"{key}.", f"{key}["))


def _accounts(config: Config) -> Iterator[Finding]:
    """Find an account to run as that does not exist, and a public listener without one: as root, it would not start."""
    if config.user is not None:
        try:
            account_of(config.user)
        except GatepostError as error:
            yield Finding(config.mistake(("user",), str(error)))
        return
    for name, listener in config.listeners.items():
        if not all(is_loopback(address) for address in listener.bind):
            message = 'gatepost does not serve it as root: set user = "…", or start gatepost from another account'
            yield Finding(config.mistake(("listen", name, "bind"), message), is_error=False)


def granted(policy: Policy) -> dict[str, tuple[str, ...]]:
    """Return the grants of each plugin that has any."""
    declared = {name: instance.declaration.grants for name, instance in policy.instances.items()}
    return {name: tuple(sorted(grants)) for name, grants in declared.items() if grants}


@dataclass(frozen=True, slots=True)
class _ListenerCheck:
    """The checks of one listener's policy."""

    config: Config
    listener: str
    gate: Gate

    def _finding(self, path: KeyPath, message: str, *, is_error: bool = True) -> Finding:
        return Finding(self.config.mistake(path, message), is_error)

    @property
    def order(self) -> KeyPath:
        """The key of this listener's order."""
        listener = self.config.listeners.get(self.listener)
        own = listener is not None and listener.plugins is not None
        return ("listen", self.listener, "plugins") if own else ("plugins", "order")

    def is_loaded(self) -> bool:
        """Return False when a plugin of the order could not be loaded, so that its grants are not known."""
        listener = self.config.listeners.get(self.listener)
        names = self.config.order if listener is None or listener.plugins is None else listener.plugins
        loaded = {instance.name for instance in self.gate.instances}
        return all(name in loaded or self.config.plugin(name).mode == "off" for name in names)

    def grants(self) -> Iterator[Finding]:
        """Find that no plugin vouches, or that none delivers."""
        wanted = {
            "recipients": "no plugin vouches for recipients, so each gets 450; add one with this grant: recipients",
            "delivery": "no plugin delivers, so each message gets 451; add one with this grant: forward or maildir",
        }
        for grant, message in wanted.items():
            if not any(hook.instance.may_grant(GRANTS[grant]) for hook in self.gate.chains[GRANTS[grant]]):
                yield self._finding(self.order, message)

    def never_reached(self) -> Iterator[Finding]:
        """Find plugins without a phase, and those whose turn to deliver comes after one that takes everything."""
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
            if "queue" in phases and instance.declaration.takes_everything:
                taker = taker or instance.name

    def next_hops(self) -> Iterator[Finding]:
        """Find next hops that are this listener itself."""
        listener = self.config.listeners.get(self.listener)
        for hook in self.gate.chains["queue"]:
            for hop in hook.instance.declaration.next_hops:
                if listener is not None and any(self._is_ours(hop, address) for address in listener.bind):
                    message = f"its next hop {hop} is gatepost itself ([listen.{self.listener}]): mail would loop"
                    yield self._finding(("plugins", hook.name), message)

    def _is_ours(self, hop: str, bound: SocketAddress) -> bool:
        """Return True when a connection to ``hop`` certainly arrives at ``bound``. No name is looked up."""
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

    def observed_waits(self) -> Iterator[Finding]:
        """Find observed plugins that nevertheless make clients wait."""
        for hook in self.gate.chains["connect"]:
            if hook.instance.observed and (seconds := hook.instance.declaration.longest_wait):
                message = f"it is only observed, but clients still wait for it, up to {format_duration(seconds)}"
                yield self._finding(("plugins", hook.name, "mode"), message, is_error=False)

    def misplaced(self) -> Iterator[Finding]:
        """Find plugins that come too early: before one that decides who is trusted, or that vouches for recipients."""
        instances = self.gate.instances
        trusting = [place for place, instance in enumerate(instances) if instance.declaration.trusts]
        vouching = [place for place, instance in enumerate(instances) if instance.may_grant("rcpt")]
        for place, instance in enumerate(instances):
            if instance.declaration.skip_trusted and trusting and place < trusting[-1]:
                later = instances[trusting[-1]].name
                message = f"it skips trusted clients, but {later}, which decides who is trusted, comes after it"
                yield self._finding(self.order, f"{instance.name}: {message}", is_error=False)
            if instance.declaration.wants_vouched and vouching and place < vouching[0]:
                later = instances[vouching[0]].name
                message = f"it stores mailboxes that do not exist, because {later} comes after it"
                yield self._finding(self.order, f"{instance.name}: {message}", is_error=False)

    def late_points(self) -> Iterator[Finding]:
        """Find plugins whose points at rcpt come too late: a plugin before them has deferred by then."""
        if self.gate.score is None or self.gate.score.deny_at is None:
            return  # nothing that could be made permanent, too early or too late
        deferring = ""
        for hook in self.gate.chains["rcpt"]:
            declared = hook.instance.declaration
            if hook.observed:
                continue
            if deferring and "negative" in declared.gives_points:
                message = f"{deferring}, which defers, comes before it, so a client that it would speak for is refused"
                yield self._finding(self.order, f"{hook.name}: {message} by the points so far", is_error=False)
            elif deferring and declared.gives_points:
                message = f"{deferring}, which defers, comes before it, so its points refuse nobody at the first try"
                yield self._finding(self.order, f"{hook.name}: {message}", is_error=False)
            if declared.defers_strangers:
                deferring = deferring or hook.name

    async def open_relay(self) -> list[Finding]:
        """Ask the plugins that may vouch, and no others, about recipients that only an open relay accepts."""
        vouching = [instance for instance in self.gate.instances if instance.may_grant("rcpt")]
        try:
            relayed = await asyncio.wait_for(_relayed(vouching, self.config, self.listener), PATIENCE)
        except TimeoutError:
            message = "could not find out whether anyone may relay: the plugins that vouch did not answer"
            return [self._finding(self.order, message, is_error=False)]
        return [
            self._finding(("plugins", name), f"anyone may relay: it vouches for <{recipient}> from an unknown client")
            for name, recipient in relayed.items()
        ]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_wildcard(host: str) -> bool:
    return host in {"0.0.0.0", "::"}


async def _relayed(vouching: list[Instance], config: Config, listener: str) -> dict[str, str]:
    """Return the plugins that vouched for a recipient that is not ours, with the first one for each."""
    clock = HastyClock()
    runtime = Runtime(
        hostname=config.hostname,
        clock=clock,
        resolver=NoDNS(),
        store=MemoryBackend(clock).namespace("gatepost"),
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
    """Yield the recipients that a relay abuser tries."""
    yield f"victim@{ELSEWHERE}"
    for domain in domains:
        yield f"victim%{ELSEWHERE}@{domain}"
        yield f"{ELSEWHERE}!victim@{domain}"
        yield f'"victim@{ELSEWHERE}"@{domain}'
        yield f"@{domain}:victim@{ELSEWHERE}"


def _own_domains(vouching: list[Instance], config: Config) -> list[str]:
    """Return some of our domains, from the key ``domains`` of the plugins that vouch, and the host name."""
    written = [config.plugin(instance.name).options.get("domains") for instance in vouching]
    domains = [str(domain) for part in written if isinstance(part, list | tuple) for domain in part]
    return list(dict.fromkeys((*domains[: MOST_DOMAINS - 1], config.hostname)))
