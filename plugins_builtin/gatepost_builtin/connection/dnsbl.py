"""Query DNS lists (RFC 5782) for the client, and refuse it at RCPT if they list it.

**What it does.** All `zones` are queried concurrently in the background: at connect, or in the last seconds of the wait
for the greeting if `earlytalker` comes before it. The greeting does not wait for them, and a client that talks before
the greeting costs no query. At RCPT
the points of the zones that list the client are added up. With `deny_at` or `defer_at` the plugin decides by the sum
itself. Otherwise it passes the sum to `[score]`, and without `[score]` it denies at 1. Negative points speak for a
client, for lists of good senders. The decision is the same for all recipients, including postmaster.

**Why it works.** Most spam comes from addresses that have sent spam to somebody before, minutes or years ago.

**What it costs.** A query for each zone and client, which the resolver caches. RCPT waits for at most the rest of
`query_timeout`, or twice that for a text with `{txt}`. A list that does not answer counts as 0 points and is recorded
and logged; it never refuses or stops mail. After five failures in a row the log names it (`dns_list_failing`), and
clients no longer wait for it: it is queried in the background, every ten seconds and about one of them, until it
answers again (`dns_list_back`). IPv4 and IPv6 are counted apart.

**When not to use it.** With a public resolver: many lists answer it with 127.255.255.x, "use another resolver", which
never counts here but is logged. Do not use a zone whose policy you have not read. Private, loopback and link-local
addresses are not queried. To let a client pass anyhow, or to accept mail of listed clients for a recipient, use
`access` before this plugin.

**On the wire.** 550 5.7.1 with the text of each list that speaks against the client, or 450 4.7.1 from `defer_at` on.

**The defaults.** Only declared answers count, because lists that were shut down have answered every query, and lists
that refuse a resolver answer with errors; both have made many sites refuse all mail. 127.0.0.2–127.0.0.99 is the range
that lists use for listings. At start and hourly the test points are queried. A list that lists 127.0.0.1
(`::ffff:7f00:1`) lists everybody, and is switched off for that address family until a test succeeds. A list without
127.0.0.2 is probably dead, and the log has a warning. A test without an answer changes nothing.

```toml
[plugins.dnsbl.zones]
"bl.example.net" = 2
"white.example.org" = { points = -3, answers = ["127.0.0.0/16"] }
"key.bl.example.com" = { points = 2, text = "{ip} is listed: {txt}" }  # keeps the key out of the reply
```

**In the log.** `list_off` and `list_empty` (warnings): a test point shows that the list names everybody, or nobody, and
`list_on` (info): it is sound again. `list_refuses_us` (warning): it answers that it does not serve us.
`list_unanswered` (info): it did not answer about a client.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import suppress
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
FAILURES_IN_A_ROW = 5
"""Queries that a list leaves unanswered before clients no longer wait for it."""
RETRY_EVERY = 10.0
"""Seconds between two queries to a list that clients do not wait for."""
TEST_POINTS = {4: ("127.0.0.1", "127.0.0.2"), 6: ("::ffff:7f00:1", "::ffff:7f00:2")}
"""For each family, the address that no list may list and the address that each should (RFC 5782 §5)."""
ANSWERS = IPv4Network("127.0.0.0/8")
"""The range of all answers (RFC 5782 §2.1)."""
ERRORS = IPv4Network("127.255.255.0/24")
"""Answers that mean that the list refuses our resolver."""
NOT_PUBLIC = tuple(
    ip_network(text)
    for text in (
        *("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""Addresses that no list can know: private, loopback, link-local, and shared address space (RFC 6598)."""
TXT_LIMIT = 255
"""The most characters of a list's TXT record in a reply. The record is text from outside."""


@dataclass(frozen=True, slots=True)
class AnswerRange:
    """The answers of a list from `first` to `last`."""

    first: IPv4Address
    last: IPv4Address

    @classmethod
    def parse(cls, value: object) -> AnswerRange:
        """Parse "127.0.0.2", "127.0.0.2-127.0.0.11" or "127.0.0.8/29". Raises `ValueError` with a sentence."""
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
            raise ValueError(f'"{text}" cannot be an answer of a DNS list: all are in {ANSWERS} (RFC 5782)')
        return cls(*ends)

    def __contains__(self, answer: IPv4Address) -> bool:
        return self.first <= answer <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_ZONE = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ZONE_LIMIT = 253 - len("f." * 32)  # the nibbles of an IPv6 address precede it
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
    """The options of one list."""

    points: Points = 1.0
    """The points for a listing: negative for lists of good senders; 0 is only recorded."""
    answers: tuple[DeclaredAnswer, ...] = Field(default=(AnswerRange.parse("127.0.0.2-127.0.0.99"),), min_length=1)
    """The answers that mean a listing. 127.255.255.x never does."""
    text: Annotated[str, AfterValidator(_text_of_list)] = "{ip} is listed by {zone}"
    """The text of the reply. {txt} is the TXT record of the list, which is only looked up if it is used here."""


class DnsblOptions(Options):
    """The lists, their points, and the sums at which a client is refused."""

    zones: dict[ZoneName, Points | Zone] = Field(min_length=1)
    """The lists: zone = points, or zone = { points = 1, answers = ["127.0.0.2-127.0.0.99"], text = "{ip} is listed by
    {zone}" } with these defaults. A text may contain {ip}, {zone} and {txt}, the TXT record of the list."""
    deny_at: Annotated[float, Field(gt=0)] | None = None
    """Refuse permanently from this sum on. Without deny_at and defer_at, [score] decides; without [score] it is 1."""
    defer_at: Annotated[float, Field(gt=0)] | None = None
    """Refuse temporarily from this sum on."""
    query_timeout: Duration = 5.0
    """How long a query to one list may take."""
    ask_private: bool = False
    """Query the lists for private, loopback and link-local clients as well, for tests."""

    @model_validator(mode="after")
    def _both_can_happen(self) -> DnsblOptions:
        if self.deny_at is not None and self.defer_at is not None and self.defer_at >= self.deny_at:
            raise ValueError("defer_at must be below deny_at, otherwise no client would be deferred")
        return self


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one zone: points and a text for the reply, or no points and the problem, for the record."""

    points: float
    text: str
    zone: str = ""
    """The zone, if it lists the client."""


class DNSList:
    """A zone with its options and its state."""

    __slots__ = ("complained", "failures", "name", "off", "passed", "zone")

    def __init__(self, name: str, zone: Zone) -> None:
        self.name = name
        self.zone = zone
        self.off: set[int] = set()
        """The address families, 4 and 6, for which the list is switched off."""
        self.complained = False
        """True when the log has said since the last test that the list refuses to answer us."""
        self.failures = {4: 0, 6: 0}
        """For each family, the queries in a row that failed."""
        self.passed: dict[int, str] = {}
        """For each family, the last client that did not wait for the list."""

    def is_failing(self, family: int) -> bool:
        """Return True when clients do not wait for the list."""
        return self.failures[family] >= FAILURES_IN_A_ROW

    def lists(self, answers: Sequence[str]) -> bool:
        """Return True when one of `answers` means that the address is listed."""
        # An error never counts, even if it is among the declared answers.
        found = map(IPv4Address, answers)
        return any(each not in ERRORS and any(each in known for known in self.zone.answers) for each in found)


class Dnsbl:
    """Queries all lists before the greeting and decides at rcpt."""

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

    @property
    def gives_points(self) -> frozenset[str]:
        """The signs of its points, unless it rules on them itself."""
        given = () if self._rules_itself else tuple(each.zone.points for each in self._lists)
        signs = {"positive": any(number > 0 for number in given), "negative": any(number < 0 for number in given)}
        return frozenset(sign for sign, is_given in signs.items() if is_given)

    # The test points: is each list alive, and does it not list everybody?

    @hookimpl
    async def startup(self, server: Server) -> None:
        await self._test_lists()  # before the first client, whom a list that lists everybody would refuse
        server.every(TEST_EVERY, self._test_lists)
        server.every(RETRY_EVERY, self._retry_failing)

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

    # The client: queries from connect on, a decision at rcpt.

    @hookimpl(early=True)
    def connect(self, session: Session) -> None:
        if "findings" in session.notes(self):  # they were queried in the last seconds of its wait
            return
        client = session.client
        family = 6 if ":" in client else 4
        if not (self._knows_nothing_against(client, family) or self._is_hidden(session)):
            session.notes(self)["findings"] = session.later(self._look_up(client, family))

    @hookimpl
    def rcpt(self, session: Session) -> Decision | Awaitable[Decision | None] | None:
        findings = session.notes(self).get("findings")
        return self._rule_on(findings, session) if findings is not None else None

    def _is_hidden(self, session: Session) -> bool:
        """Return True when no list can know the client."""
        return not self._options.ask_private and any(session.ip in network for network in NOT_PUBLIC)

    def _knows_nothing_against(self, client: str, family: int) -> bool:
        """Return True when the DNS cache tells that no list has `client`, as for most clients that come back."""
        reverse = reversed_address(client)
        for each in self._lists:
            if family in each.off or self._dns.known(f"{reverse}.{each.name}", "A") != ():
                return False
        return True

    async def _look_up(self, client: str, family: int) -> list[Finding]:
        """Query all lists for `client` concurrently."""
        if len(self._lists) == 1:  # ``gather`` would make a task for nothing
            found = [await self._ask_about(client, family, self._lists[0])]
        else:
            found = await asyncio.gather(*(self._ask_about(client, family, each) for each in self._lists))
        return [finding for finding in found if finding is not None]

    async def _ask_about(self, client: str, family: int, asked: DNSList) -> Finding | None:
        if family in asked.off:
            return Finding(0, f"{asked.name}: switched off")
        answers = self._dns.known(f"{reversed_address(client)}.{asked.name}", "A")
        if answers is None and asked.is_failing(family):
            asked.passed[family] = client
            return Finding(0, f"{asked.name}: not waited for, as it does not answer")
        if answers is None:
            try:
                answers = await self._ask_alive(asked, client, family)
            except DNSTemporaryError as error:
                self._log.info("list_unanswered", zone=asked.name, client=client, error=str(error))
                return Finding(0, f"{asked.name}: no answer")
        if asked.lists(answers):
            return Finding(asked.zone.points, await self._words(asked, client), asked.name)
        return Finding(0, f"{asked.name}: it refuses to answer us") if self._refuses_us(asked, answers) else None

    async def _ask_alive(self, asked: DNSList, client: str, family: int) -> tuple[str, ...]:
        """Query a list about `client`, and count its failures in a row."""
        try:
            answers = await self._ask(asked, client)
        except DNSTemporaryError as error:
            asked.failures[family] += 1
            if asked.failures[family] == FAILURES_IN_A_ROW:
                facts = {"zone": asked.name, "family": f"IPv{family}", "error": str(error)}
                self._log.warning("dns_list_failing", **facts, advice="mail passes without it until it answers")
            raise
        if asked.is_failing(family):
            self._log.warning("dns_list_back", zone=asked.name, family=f"IPv{family}")
        asked.failures[family] = 0
        return answers

    async def _retry_failing(self) -> None:
        """Query the lists that clients do not wait for: about the last client, whose answer no cache can have."""
        tries = [self._retry(each, family) for each in self._lists for family in tuple(each.passed)]
        await asyncio.gather(*tries)

    async def _retry(self, asked: DNSList, family: int) -> None:
        with suppress(DNSTemporaryError):
            await self._ask_alive(asked, asked.passed.pop(family), family)

    async def _ask(self, asked: DNSList, address: str, kind: str = "A") -> tuple[str, ...]:
        name = f"{reversed_address(address)}.{asked.name}"
        return await self._dns.query(name, kind, timeout=self._options.query_timeout)

    def _refuses_us(self, asked: DNSList, answers: Sequence[str]) -> bool:
        """Return True when `answers` include an error; log that once between two tests."""
        errors = [answer for answer in answers if IPv4Address(answer) in ERRORS]
        if errors and not asked.complained:
            asked.complained = True
            self._log.warning("list_refuses_us", zone=asked.name, answer=errors[0])
        return bool(errors)

    async def _words(self, asked: DNSList, client: str) -> str:
        """Return the text of a listing."""
        words = {"ip": client, "zone": asked.name}
        if "{txt}" in asked.zone.text:
            try:
                texts = await self._ask(asked, client, "TXT")
            except DNSTemporaryError:
                texts = ()
            words["txt"] = texts[0][:TXT_LIMIT] if texts else "it gives no reason"
        return fill_in(asked.zone.text, words)

    async def _rule_on(self, findings: Later[list[Finding]], session: Session) -> Decision | None:
        found = await findings
        for finding in found:
            if finding.points > 0:
                session.mark_listed(finding.zone)
        return self._rule(found, session.scored)

    def _rule(self, findings: Sequence[Finding], scored: bool) -> Decision | None:
        """Return the decision, which is the same for all recipients of a session.

        Points are recorded only, so their text may tell about problems with a list. A refusal reaches the client.
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
    """Fill the placeholders of `text` in one pass, so that those in the text of a list stay as they are."""
    return _PLACE.sub(lambda place: words[place[1]], text)
