"""Scripted DNS: it gives the answers that the test provides, and never uses the network.

A query without a scripted answer fails the test, because a running server would really send it. An answer that takes
longer than the timeout of the query is a DNSTemporaryError, as with the real resolver.
"""

from __future__ import annotations

import ipaddress

from gatepost.errors import DNSTemporaryError
from gatepost.services.clock import Clock
from gatepost.services.dns import Question, Resolver
from gatepost.testing.clock import seconds

TIMEOUT = 5.0
"""The timeout of queries without one of their own, in seconds: the default of ``[dns] timeout``."""
ANY = ""
"""Stands for all kinds of records."""


class UnscriptedQuestionError(AssertionError):
    """A plugin has made a DNS query that the test has no answer for."""


class ScriptedDNS(Resolver):
    """The resolver of a policy under test. ``kind`` is "A", "MX", "TXT" and so on, or left out for all kinds.

    The last call for a name applies. With ``lenient``, names that are not in the script do not exist, instead of
    failing the test.
    """

    def __init__(self, clock: Clock, *, lenient: bool = False) -> None:
        self.asked: list[tuple[str, str]] = []
        """All queries so far as (name, kind), in order."""
        self.answers: dict[tuple[str, str], tuple[str, ...] | Exception] = {}
        """The script: the records, or the exception to raise, by (name in lower case, kind)."""
        self.delays: dict[tuple[str, str], float] = {}
        """The seconds that an answer takes, by the same key."""
        self.lenient = lenient
        self._clock = clock
        self._unscripted: list[str] = []

    def answer(self, name: str, kind: str, *records: str) -> None:
        """Give ``name`` these records of ``kind``: ``answer("example.com", "MX", "10 mail.example.com")``.

        Without records, ``name`` has none of that kind.
        """
        self.answers[_key(name, kind)] = records

    def nxdomain(self, name: str) -> None:
        """Make ``name`` not exist."""
        self._forget(name)
        self.answers[_key(name, ANY)] = ()

    def servfail(self, name: str, kind: str = ANY) -> None:
        """Make queries for ``name`` fail with ``DNSTemporaryError``."""
        if kind == ANY:
            self._forget(name)
        self.answers[_key(name, kind)] = DNSTemporaryError(f"{name}: SERVFAIL")

    def delay(self, name: str, duration: str | float, kind: str = ANY) -> None:
        """Make answers about ``name`` take this long ("2s", or a number of seconds)."""
        self.delays[_key(name, kind)] = seconds(duration)

    def timeout(self, name: str, kind: str = ANY) -> None:
        """Make queries for ``name`` fail with ``DNSTemporaryError`` after their timeout."""
        self.servfail(name, kind)
        self.delays[_key(name, kind)] = float("inf")

    def name(self, address: str, *names: str) -> None:
        """Give an address these forward-confirmed names. Without names it has none."""
        parsed = ipaddress.ip_address(address)
        self.answer(parsed.reverse_pointer, "PTR", *names)
        for name in names:
            self.answer(name, "A" if parsed.version == 4 else "AAAA", address)

    async def query(self, name: str, kind: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Return the scripted answer."""
        Question.parse(name, kind)  # raises DNSError for an invalid query, like the real resolver
        question = _key(name, kind)
        self.asked.append(question)
        limit = TIMEOUT if timeout is None else timeout
        delay = self.delays.get(question, self.delays.get((question[0], ANY), 0.0))
        if delay > limit:
            await self._clock.sleep(limit)
            raise DNSTemporaryError(f"no answer for {question[0]} in {limit:g} s")
        if delay:
            await self._clock.sleep(delay)
        answer = self.answers.get(question, self.answers.get((question[0], ANY)))
        if answer is None:
            if self.lenient:
                return ()
            # The plugin may catch this, so ``check`` raises it again for the test.
            self._unscripted.append(" ".join(question))
            raise UnscriptedQuestionError(f"DNS has no script for {' '.join(question)}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def check(self) -> None:
        """Raise ``UnscriptedQuestionError`` for queries without a scripted answer since the last call."""
        unscripted, self._unscripted = self._unscripted, []
        if unscripted:
            name, kind = unscripted[0].split()
            raise UnscriptedQuestionError(
                f"DNS was asked for {', '.join(unscripted)}, which is not in the script: say "
                f'dns.answer("{name}", "{kind}", …) or dns.nxdomain("{name}")'
            )

    def _forget(self, name: str) -> None:
        for known in (self.answers, self.delays):
            for key in [key for key in known if key[0] == _key(name, ANY)[0]]:
                del known[key]


def _key(name: str, kind: str) -> tuple[str, str]:
    return name.rstrip(".").lower(), kind.upper()
