"""DNS from a script: the answers that a test gives, and no others. Nobody is ever asked over the network.

A question that the script has no answer for fails the test with its name, since in production it would be asked for
real. An answer that takes longer than its asker waits is a time-out, as with the real resolver.
"""

from __future__ import annotations

import ipaddress

from gatepost.errors import DNSTemporaryError
from gatepost.services.clock import Clock
from gatepost.services.dns import Question, Resolver
from gatepost.testing.clock import seconds

TIMEOUT = 5.0
"""Seconds that an asker waits who names no time of its own: the default of ``[dns] timeout``."""
ANY = ""
"""Stands for every kind of record."""


class UnscriptedQuestionError(AssertionError):
    """A plugin asked DNS what the test has no answer for."""


class ScriptedDNS(Resolver):
    """The resolver of a test's policy. ``kind`` is "A", "MX", "TXT" and so on, or left out for all kinds.

    What is said last of a name counts. ``lenient``: what is not in the script does not exist, instead of failing the
    test.
    """

    def __init__(self, clock: Clock, *, lenient: bool = False) -> None:
        self.asked: list[tuple[str, str]] = []
        """Every question so far, as (name, kind), in the order of asking."""
        self.answers: dict[tuple[str, str], tuple[str, ...] | Exception] = {}
        """The script itself: records, or what is raised, for (name in lower case, kind)."""
        self.delays: dict[tuple[str, str], float] = {}
        """Seconds that an answer takes, for the same."""
        self.lenient = lenient
        self._clock = clock
        self._unscripted: list[str] = []

    def answer(self, name: str, kind: str, *records: str) -> None:
        """Let ``name`` have these records of ``kind``: ``answer("example.com", "MX", "10 mail.example.com")``.

        Without records it has none of that kind.
        """
        self.answers[_key(name, kind)] = records

    def nxdomain(self, name: str) -> None:
        """Let ``name`` not exist."""
        self._forget(name)
        self.answers[_key(name, ANY)] = ()

    def servfail(self, name: str, kind: str = ANY) -> None:
        """Let DNS fail when it is asked about ``name``: ``DNSTemporaryError``."""
        if kind == ANY:
            self._forget(name)
        self.answers[_key(name, kind)] = DNSTemporaryError(f"{name}: SERVFAIL")

    def delay(self, name: str, duration: str | float, kind: str = ANY) -> None:
        """Let answers about ``name`` take so long ("2s", or a number of seconds)."""
        self.delays[_key(name, kind)] = seconds(duration)

    def timeout(self, name: str, kind: str = ANY) -> None:
        """Let nobody answer about ``name``: ``DNSTemporaryError`` once the asker has waited as long as it would."""
        self.servfail(name, kind)
        self.delays[_key(name, kind)] = float("inf")

    def name(self, address: str, *names: str) -> None:
        """Give an address these names, each of which leads back to it; with none it has no name."""
        parsed = ipaddress.ip_address(address)
        self.answer(parsed.reverse_pointer, "PTR", *names)
        for name in names:
            self.answer(name, "A" if parsed.version == 4 else "AAAA", address)

    async def query(self, name: str, kind: str, *, timeout: float | None = None) -> tuple[str, ...]:
        """Answer from the script."""
        Question.parse(name, kind)  # what nobody can ask for is DNSError here too
        question = _key(name, kind)
        self.asked.append(question)
        await self._wait(question, TIMEOUT if timeout is None else timeout)
        answer = self.answers.get(question, self.answers.get((question[0], ANY)))
        if answer is None:
            return self._unknown(question)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def check(self) -> None:
        """Raise ``UnscriptedQuestionError`` if something was asked that is not in the script; once."""
        unscripted, self._unscripted = self._unscripted, []
        if unscripted:
            name, kind = unscripted[0].split()
            raise UnscriptedQuestionError(
                f"DNS was asked for {', '.join(unscripted)}, which is not in the script: say "
                f'dns.answer("{name}", "{kind}", …) or dns.nxdomain("{name}")'
            )

    def _unknown(self, question: tuple[str, str]) -> tuple[str, ...]:
        if self.lenient:
            return ()
        self._unscripted.append(" ".join(question))
        raise UnscriptedQuestionError(f"DNS has no script for {' '.join(question)}")

    async def _wait(self, question: tuple[str, str], limit: float) -> None:
        delay = self.delays.get(question, self.delays.get((question[0], ANY), 0.0))
        if delay > limit:
            await self._clock.sleep(limit)
            raise DNSTemporaryError(f"no answer for {question[0]} in {limit:g} s")
        if delay:
            await self._clock.sleep(delay)

    def _forget(self, name: str) -> None:
        for known in (self.answers, self.delays):
            for key in [key for key in known if key[0] == _key(name, ANY)[0]]:
                del known[key]


def _key(name: str, kind: str) -> tuple[str, str]:
    return name.rstrip(".").lower(), kind.upper()
