"""Scripted DNS: what is in the script is answered, slowly or not at all, and what is not fails the test."""

from __future__ import annotations

from typing import Any

import pytest

from gatepost import DNSError, DNSTemporaryError
from gatepost.testing import ScriptedDNS, TestClock, UnscriptedQuestionError
from gatepost.testing.clock import wait_for
from tests.core.testing.plugins import Listed

pytest_plugins = ("pytester",)

NAME = "192.0.2.1.list.example"


@pytest.fixture
def dns() -> ScriptedDNS:
    return ScriptedDNS(TestClock())


async def test_answers_are_given_and_questions_kept(dns: ScriptedDNS) -> None:
    dns.answer("Example.COM.", "mx", "10 mail.example.com", "20 other.example.com")
    assert await dns.query("example.com", "MX") == ("10 mail.example.com", "20 other.example.com")
    assert dns.asked == [("example.com", "MX")]


async def test_what_is_said_last_counts(dns: ScriptedDNS) -> None:
    dns.answer("example.com", "A", "192.0.2.1")
    dns.nxdomain("example.com")
    assert await dns.query("example.com", "A") == await dns.query("example.com", "TXT") == ()
    dns.answer("example.com", "A", "192.0.2.2")
    assert await dns.query("example.com", "A") == ("192.0.2.2",)
    dns.servfail("example.com")
    with pytest.raises(DNSTemporaryError, match="SERVFAIL"):
        await dns.query("example.com", "A")


async def test_a_failure_of_one_kind(dns: ScriptedDNS) -> None:
    dns.answer("example.com", "A", "192.0.2.1")
    dns.servfail("example.com", "TXT")
    assert await dns.query("example.com", "A")
    with pytest.raises(DNSTemporaryError):
        await dns.query("example.com", "TXT")


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
async def test_a_name_leads_back(dns: ScriptedDNS, address: str) -> None:
    dns.name(address, "mail.example.com")
    assert await dns.verified_name(address) == "mail.example.com"
    dns.name(address)
    assert await dns.verified_name(address) is None


async def test_a_delay_passes_on_the_clock(dns: ScriptedDNS) -> None:
    clock = dns._clock
    dns.nxdomain("example.com")
    dns.delay("example.com", "2s")
    assert await wait_for(dns.query("example.com", "A"), clock) == ()
    assert clock.monotonic() == 2.0


@pytest.mark.parametrize(("limit", "waited"), [(None, 5.0), (3.0, 3.0)])
async def test_who_waits_too_short_a_time_hears_of_a_time_out(
    dns: ScriptedDNS, limit: float | None, waited: float
) -> None:
    dns.answer("slow.example", "A", "192.0.2.1")
    dns.delay("slow.example", 60)
    dns.timeout("dead.example")
    for name in ("slow.example", "dead.example"):
        before = dns._clock.monotonic()
        with pytest.raises(DNSTemporaryError, match="no answer for"):
            await wait_for(dns.query(name, "A", timeout=limit), dns._clock)
        assert dns._clock.monotonic() - before == waited


async def test_what_is_no_question_is_none_here_either(dns: ScriptedDNS) -> None:
    with pytest.raises(DNSError):
        await dns.query(f"{'x' * 64}.example", "A")


class TestWithoutAScript:
    async def test_the_next_step_of_the_session_fails_with_the_name(self, policy: Any) -> None:
        with pytest.raises(UnscriptedQuestionError, match=f'{NAME} A, which.*dns.nxdomain\\("{NAME}"\\)'):
            await policy(Listed).connect()

    async def test_it_fails_whatever_the_plugin_makes_of_it(self, policy: Any) -> None:
        class Careless(Listed):
            on_error = "pass"

        with pytest.raises(UnscriptedQuestionError):
            await policy(Careless).connect()

    async def test_lenient_it_does_not_exist(self, policy: Any) -> None:
        gate = policy(Listed, dns="lenient")
        assert (await gate.connect()).banner.code == 220
        assert gate.dns.asked == [(NAME, "A")]

    async def test_a_question_that_nobody_waited_for_fails_the_test_at_its_end(self, pytester: pytest.Pytester) -> None:
        pytester.makepyfile(
            """
            import asyncio

            def test_it(policy):
                gate = policy()
                async def ask():
                    try:
                        await gate.dns.query("unheard.example", "A")
                    except BaseException:
                        pass
                asyncio.run(ask())
            """
        )
        outcome = pytester.runpytest_subprocess("-p", "no:cacheprovider")
        outcome.assert_outcomes(passed=1, errors=1)
        outcome.stdout.fnmatch_lines("*UnscriptedQuestionError: DNS was asked for unheard.example A*")
