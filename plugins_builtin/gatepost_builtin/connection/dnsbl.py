"""Ask DNS lists (RFC 5782) about the client, and refuse it at RCPT when they say enough against it.

**What it does.** At connect all `zones` are asked at once, in the background: the greeting does not wait. At RCPT the
points of the zones that list the client are added up. With `deny_at` or `defer_at` the plugin rules their sum
itself. Without them it hands the sum to `[score]`, and where there is no `[score]` it denies at 1. Negative points
speak for a client, for lists of good senders. The ruling is the same for every recipient, postmaster too.

**Why it works.** Most spam comes from addresses that somebody has seen spam from, minutes or years before.

**What it costs.** One question for each zone and client, kept by the resolver. RCPT waits for the rest of
`query_timeout` at most, twice that where a text wants `{txt}`. A list that does not answer counts as 0 points and
leaves a trace in record and log; it never refuses and never stops mail.

**When not to use it.** Behind a public resolver: many lists answer it with 127.255.255.x, which means "ask from
elsewhere" and never counts here, but is logged. Nor with a zone that you have not read the policy of. Private, loopback
and link-local clients are not asked about. A client that should pass anyhow, or a recipient whom listed clients shall
reach, is named in `access`, before this plugin.

**On the wire.** 550 5.7.1 with the text of each list that speaks against the client, or 450 4.7.1 from `defer_at`.

**The defaults.** Only declared answers count: lists that went away have answered everything, and lists that refuse a
resolver answer with errors; both have bounced all mail of many sites. 127.0.0.2–127.0.0.99 is where lists put what they
list. At start and hourly the test points are asked: a list that lists 127.0.0.1 (`::ffff:7f00:1`) lists everybody and
is switched off for that family until a test goes well; one that does not list 127.0.0.2 is probably dead: a warning.
A test that is not answered changes nothing.

```toml
[plugins.dnsbl.zones]
"bl.example.net" = 2
"white.example.org" = { points = -3, answers = ["127.0.0.0/16"] }
"key.bl.example.com" = { points = 2, text = "{ip} is listed: {txt}" }  # our key stays out of the text
```
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from gatepost import (
    Decision,
    DNSTemporaryError,
    Duration,
    Later,
    Log,
    Options,
    Resolver,
    Server,
    Session,
    defer,
    deny,
    hookimpl,
    points,
    reversed_address,
)

TEST_EVERY = 3600.0
"""Seconds between two tests of the lists."""
TEST_POINTS = {4: ("127.0.0.1", "127.0.0.2"), 6: ("::ffff:7f00:1", "::ffff:7f00:2")}
"""For each family, what no list may list and what each should (RFC 5782 §5)."""
ANSWERS = IPv4Network("127.0.0.0/8")
"""Where a list's answers lie (RFC 5782 §2.1)."""
ERRORS = IPv4Network("127.255.255.0/24")
"""Answers by which a list says that it will not talk to our resolver."""
NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""Addresses that no list can know: private, loopback, link-local, and shared behind one provider (RFC 6598)."""
TXT_LIMIT = 255
"""Characters of a list's TXT record that are shown; the record is a stranger's text."""


@dataclass(frozen=True, slots=True)
class AnswerRange:
    """Answers of a list that count, from `first` to `last`."""

    first: IPv4Address
    last: IPv4Address

    @classmethod
    def parse(cls, value: object) -> AnswerRange:
        """Read "127.0.0.2", "127.0.0.2-127.0.0.11" or "127.0.0.8/29". Raises `ValueError` with a sentence."""
        if isinstance(value, AnswerRange):
            return value
        text = str(value)
        first, dash, last = text.partition("-")
        try:
            network = None if dash else IPv4Network(text)
            ends = (network[0], network[-1]) if network else (IPv4Address(first), IPv4Address(last))
        except ValueError:
            raise ValueError(
                f'expected an answer such as "127.0.0.2", "127.0.0.2-127.0.0.11" or "127.0.0.8/29", found "{text}"'
            ) from None
        if ends[0] > ends[1]:
            raise ValueError(f'"{text}" runs backwards')
        if ends[0] not in ANSWERS or ends[1] not in ANSWERS:
            raise ValueError(f'"{text}" is no answer of a DNS list: they lie in {ANSWERS} (RFC 5782)')
        return cls(*ends)

    def __contains__(self, answer: IPv4Address) -> bool:
        return self.first <= answer <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_ZONE = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ZONE_LIMIT = 253 - len("f." * 32)  # the nibbles of an IPv6 address stand before it
_PLACE = re.compile(r"\{(ip|zone|txt)\}")


def _zone_name(name: str) -> str:
    zone = name.lower().removesuffix(".")
    if _ZONE.fullmatch(zone) is None or len(zone) > _ZONE_LIMIT:
        raise ValueError(f'"{name}" is not the zone of a DNS list, such as "bl.example.net"')
    return zone


def _text_of_list(text: str) -> str:
    if found := re.search(r"\{[^}]*\}?|\}", _PLACE.sub("", text)):
        raise ValueError(f'a text may hold {{ip}}, {{zone}} and {{txt}}, but "{found[0]}" is none of them')
    return text


Points = Annotated[float, Field(ge=-1000, le=1000)]
ZoneName = Annotated[str, AfterValidator(_zone_name)]
DeclaredAnswer = Annotated[
    AnswerRange,
    PlainValidator(AnswerRange.parse),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "x-kind": "address, range or network"}),
]


class Zone(Options):
    """What one list counts."""

    points: Points = 1.0
    """What a listing counts; negative for lists of good senders, 0 only leaves a trace."""
    answers: tuple[DeclaredAnswer, ...] = Field(default=(AnswerRange.parse("127.0.0.2-127.0.0.99"),), min_length=1)
    """The answers that are listings. 127.255.255.x never is."""
    text: Annotated[str, AfterValidator(_text_of_list)] = "{ip} is listed by {zone}"
    """What the client is told. {txt} is what the list says itself, and is looked up only if it stands here."""


class DnsblOptions(Options):
    """Which lists to ask, what each counts, and at which sum a client is refused."""

    zones: dict[ZoneName, Points | Zone] = Field(min_length=1)
    """The lists: zone = points, or zone = { points = 1, answers = ["127.0.0.2-127.0.0.99"], text = "{ip} is listed by
    {zone}" } with these defaults. A text may hold {ip}, {zone} and {txt}, the list's own words."""
    deny_at: Annotated[float, Field(gt=0)] | None = None
    """Refuse for good from this sum on. Without it and defer_at: as [score] says, or at 1 if there is none."""
    defer_at: Annotated[float, Field(gt=0)] | None = None
    """Refuse for now from this sum on."""
    query_timeout: Duration = 5.0
    """How long one question to one list may take."""
    ask_private: bool = False
    """Ask about private, loopback and link-local clients too. For tests."""

    @model_validator(mode="after")
    def _both_can_happen(self) -> DnsblOptions:
        if self.deny_at is not None and self.defer_at is not None and self.defer_at >= self.deny_at:
            raise ValueError("defer_at must be below deny_at, else nobody would be deferred")
        return self


@dataclass(frozen=True, slots=True)
class Finding:
    """What one zone led to: points and the words for a reply, or no points and what went wrong, for the record."""

    points: float
    text: str


class DNSList:
    """One zone: its options, and what its test points and answers have shown."""

    __slots__ = ("complained", "name", "off", "zone")

    def __init__(self, name: str, zone: Zone) -> None:
        self.name = name
        self.zone = zone
        self.off: set[int] = set()
        """The address families, 4 and 6, for which it is switched off."""
        self.complained = False
        """True when the log already has, since the last test, that it refuses to answer us."""

    def lists(self, answers: Sequence[str]) -> bool:
        """True when one of `answers` says that the address is listed."""
        found = map(IPv4Address, answers)
        return any(each not in ERRORS and any(each in known for known in self.zone.answers) for each in found)


class Dnsbl:
    """Asks all lists at connect and rules at rcpt."""

    Options = DnsblOptions
    on_error = "pass"
    skip_trusted = True

    def __init__(self, options: DnsblOptions, dns: Resolver, log: Log) -> None:
        self._options = options
        self._dns = dns
        self._log = log
        self._lists = [
            DNSList(name, zone if isinstance(zone, Zone) else Zone(points=zone)) for name, zone in options.zones.items()
        ]
        own = options.deny_at is not None or options.defer_at is not None
        self._rules_itself = own
        self._deny_at = options.deny_at or (math.inf if own else 1.0)
        self._defer_at = options.defer_at or math.inf

    # The test points.

    @hookimpl
    async def startup(self, server: Server) -> None:
        await self._test_lists()
        server.every(TEST_EVERY, self._test_lists)

    async def _test_lists(self) -> None:
        for each in self._lists:
            each.complained = False
        tests = [
            test
            for each in self._lists
            for family, (nobody, somebody) in TEST_POINTS.items()
            for test in (self._must_not_list(each, family, nobody), self._should_list(each, family, somebody))
        ]
        await asyncio.gather(*tests)

    async def _must_not_list(self, tested: DNSList, family: int, nobody: str) -> None:
        try:
            answers = await self._ask(tested, nobody)
        except DNSTemporaryError:
            return
        if tested.lists(answers):
            tested.off.add(family)
            self._log.warning("list_off", zone=tested.name, reason=f"it lists {nobody}, and so everybody")
        elif family in tested.off:
            tested.off.remove(family)
            self._log.info("list_on", zone=tested.name, reason=f"it does not list {nobody} any more")

    async def _should_list(self, tested: DNSList, family: int, somebody: str) -> None:
        try:
            answers = await self._ask(tested, somebody)
        except DNSTemporaryError:
            return
        if not self._refuses_us(tested, answers) and not any(IPv4Address(answer) in ANSWERS for answer in answers):
            warn = self._log.warning if family == 4 else self._log.info  # many lists know IPv4 only
            warn("list_empty", zone=tested.name, reason=f"it does not list {somebody}, as a living list should")

    # The client.

    @hookimpl
    def connect(self, session: Session) -> None:
        client = session.client
        family = 6 if ":" in client else 4
        if not (self._knows_nothing_against(client, family) or self._is_hidden(session)):
            session.notes(self)["findings"] = session.later(self._look_up(client, family))

    @hookimpl
    def rcpt(self, session: Session) -> Decision | Awaitable[Decision | None] | None:
        findings = session.notes(self).get("findings")
        return self._rule_on(findings, session) if findings is not None else None

    def _is_hidden(self, session: Session) -> bool:
        """True when no list can know the client."""
        return not self._options.ask_private and any(session.ip in network for network in NOT_PUBLIC)

    def _knows_nothing_against(self, client: str, family: int) -> bool:
        """True when it needs no question to say that no list has `client`: so it is with most who have been here."""
        reverse = reversed_address(client)
        for each in self._lists:
            if family in each.off or self._dns.known(f"{reverse}.{each.name}", "A") != ():
                return False
        return True

    async def _look_up(self, client: str, family: int) -> list[Finding]:
        """What all lists say of `client`, asked at once."""
        if len(self._lists) == 1:
            found = [await self._ask_about(client, family, self._lists[0])]
        else:
            found = await asyncio.gather(*(self._ask_about(client, family, each) for each in self._lists))
        return [finding for finding in found if finding is not None]

    async def _ask_about(self, client: str, family: int, asked: DNSList) -> Finding | None:
        if family in asked.off:
            return Finding(0, f"{asked.name}: switched off")
        try:
            answers = await self._ask(asked, client)
        except DNSTemporaryError as error:
            self._log.info("list_unanswered", zone=asked.name, client=client, error=str(error))
            return Finding(0, f"{asked.name}: no answer")
        if asked.lists(answers):
            return Finding(asked.zone.points, await self._words(asked, client))
        return Finding(0, f"{asked.name}: it refuses to answer us") if self._refuses_us(asked, answers) else None

    async def _ask(self, asked: DNSList, address: str, kind: str = "A") -> tuple[str, ...]:
        name = f"{reversed_address(address)}.{asked.name}"
        return await self._dns.query(name, kind, timeout=self._options.query_timeout)

    def _refuses_us(self, asked: DNSList, answers: Sequence[str]) -> bool:
        """True when `answers` hold an error, which the log is told once between two tests."""
        errors = [answer for answer in answers if IPv4Address(answer) in ERRORS]
        if errors and not asked.complained:
            asked.complained = True
            self._log.warning("list_refuses_us", zone=asked.name, answer=errors[0])
        return bool(errors)

    async def _words(self, asked: DNSList, client: str) -> str:
        """The text of a listing."""
        words = {"ip": client, "zone": asked.name}
        if "{txt}" in asked.zone.text:
            words["txt"] = await self._own_words(asked, client)
        return fill_in(asked.zone.text, words)

    async def _own_words(self, asked: DNSList, client: str) -> str:
        try:
            texts = await self._ask(asked, client, "TXT")
        except DNSTemporaryError:
            texts = ()
        return texts[0][:TXT_LIMIT] if texts else "it gives no reason"

    async def _rule_on(self, findings: Later[list[Finding]], session: Session) -> Decision | None:
        return self._rule(await findings, session.scored)

    def _rule(self, findings: Sequence[Finding], scored: bool) -> Decision | None:
        """What the findings lead to: the same for every recipient of a session.

        Only what stays in the record speaks of the trouble that we have with a list; the rest may reach the client.
        """
        if not findings:
            return None
        total = math.fsum(finding.points for finding in findings)
        if scored and not self._rules_itself:
            return points(total, _texts(finding for finding in findings if finding.points or not total))
        if total >= min(self._deny_at, self._defer_at):
            refuse = deny if total >= self._deny_at else defer
            return refuse(_texts(finding for finding in findings if finding.points > 0))
        return points(0, _texts(findings))


def _texts(findings: Iterable[Finding]) -> str:
    return "; ".join(finding.text for finding in findings)


def fill_in(text: str, words: Mapping[str, str]) -> str:
    """`text` with its places filled, in one pass: what a list says is never taken for a place."""
    return _PLACE.sub(lambda place: words[place[1]], text)
