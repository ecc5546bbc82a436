"""The conformance kit finds each bad plugin by the check meant for it, and nothing wrong with good ones."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from gatepost import hookimpl
from gatepost.plugins.discovery import installed
from gatepost.testing import conformance
from gatepost.testing.conformance import CHECKS, Outcome, assert_conforms, check
from tests.core.testing import bad_delivery as delivery
from tests.core.testing import bad_memory as memory
from tests.core.testing import bad_plugins as bad

FOUND = [
    (bad.Stalling, "stalls", "its mail blocks the event loop for"),
    (bad.StallingAsync, "stalls", "its mail blocks the event loop for"),
    (bad.Swallowing, "cancellation", "its mail goes on after it was cancelled"),
    (bad.NeverEnding, "cancellation", "its mail goes on after it was cancelled"),
    (bad.SwallowingAhead, "cancellation", "its rcpt goes on after it was cancelled"),
    (bad.LeavingATask, "tasks", "it leaves a task: LeavingATask.work, after a session"),
    (bad.LeavingATaskWhenCancelled, "cancellation", "its mail leaves a task when it is cancelled: "),
    (bad.KeepingASession, "keeps", "self.last holds the Session"),
    (bad.KeepingAnEnvelopeInItsClass, "keeps", "KeepingAnEnvelopeInItsClass.seen holds the Envelope"),
    (bad.MixingUpClients, "apart", "self.sender holds what one client has said when another one is served"),
    (
        memory.MixingUpQuestions,
        "apart",
        "at RCPT TO:<b@example.org> a client gets 250 2.1.5 if another one is",
    ),
    (memory.MixingUpWhileWaiting, "apart", "if another one is connected, otherwise "),
    (memory.LeavingItsSender, "apart", "self.sender holds what one client has said when another one is served"),
    (bad.RefusingAtServfail, "dns", "it refuses permanently (mail, at MAIL FROM:<a@example.com>)"),
    (bad.RefusingAtServfailOfAList, "dns", "it refuses permanently (rcpt, at RCPT TO:<b@example.org>)"),
    (bad.AcceptingAtDNSErrors, "dns", "it accepts (connect, at a connection from 192.0.2.1) in a world in which"),
    (bad.RefusingWithoutStore, "store", "in a world in which the store fails"),
    (bad.TakingWithoutNextHop, "next-hop", "(queue, at DATA) in a world in which the next hop is unreachable"),
    (
        delivery.DeafToAll,
        "next-hop",
        "accepts (queue, at DATA) for b@example.org in a world in which the next hop refuses all",
    ),
    (delivery.DeafToOneOfTwo, "next-hop", "the next hop refuses c@example.org permanently at RCPT"),
    (
        delivery.DeafToTheDot,
        "next-hop",
        "for b@example.org in a world in which the next hop refuses all temporarily",
    ),
    (delivery.DeafToTheDotOverLmtp, "next-hop", "the next hop refuses c@example.org permanently at the final dot"),
    (
        delivery.DeafToTemporarily,
        "next-hop",
        "it refuses permanently (queue, at DATA) for b@example.org in a world in which",
    ),
    (bad.Undocumented, "options", "the option unknown has no documentation"),
    (bad.ShowingASecret, "secrets", "a secret is shown in the repr of the plugin"),
    (bad.PlainPassword, "secrets", "the option password is plain text"),
    (bad.ReturningTrue, "answers", "it returned bool, which mail does not take"),
    (bad.AnnotatedWrongly, "returns", "its mail is annotated to return bool"),
    (bad.UnknownHook, "hooks", "it implements 'mial', which is not a phase; did you mean mail?"),
    (bad.KeywordOnly, "hooks", "its mail takes sender"),
    (bad.MisspeltDeclaration, "declarations", "it declares skip_trused, which means nothing to gatepost; did you mean"),
    (bad.WrongDeclaration, "declarations", "its longest_wait must be a number of seconds, not 'soon'"),
    (bad.FailingDeclaration, "start", "its longest_wait cannot be read: ZeroDivisionError: division by zero"),
    (bad.DyingAtEightBit, "hostile", "it raises UnicodeDecodeError: "),
    (bad.Exiting, "ordinary", "it raises SystemExit: enough (rcpt, at RCPT TO:<b@example.org>)"),
    (bad.WritingAhead, "ahead", "its helo must not write to the session: session.trust("),
    (
        bad.SilenceTooLate,
        "ordinary",
        "it raises PluginError: session.silence() is for the connect phase, which is over",
    ),
    (bad.NeverAwaiting, "ordinary", "it never awaits ScriptedDNS.query"),
    (delivery.AnsweringForAll, "answers", "its queue answers for b@example.org, which is not in envelope.pending"),
    (delivery.DeliveringToAll, "answers", "it delivers to b@example.org once more, which another plugin has taken"),
    (bad.Assigning, "ordinary", "'recipients' of 'Envelope' object"),
    (bad.ReachingIntoTheCore, "ordinary", "its rcpt changes envelope._recipients, which is the core's"),
    (bad.ReachingIntoTheCoreAfterAWait, "ordinary", "its helo changes session._may_relay, which is the core's"),
    (bad.AcceptingWithoutTheGrant, "grants", 'it accepted at rcpt without the grant: declare grants = "recipients"'),
    (bad.GrantingNothing, "grants", "it declares the grant 'delivery' and has no hook queue"),
    (bad.TakingItsTime, "time-limit", "its mail gives no answer within 30 s"),
    (bad.FailingToStart, "start", "startup failed: RuntimeError: no such file"),
]
OPTIONS: dict[type, dict[str, Any]] = {bad.ShowingASecret: {"token": "x"}}
BUILT_IN: dict[str, dict[str, Any]] = {
    "access": {
        "allow": [{"network": "198.51.100.0/24"}, {"name": ".partner.example", "helo": ".partner.example"}],
        "deny": [{"sender": "news@shop.example"}, {"name": ".spam.example"}],
    },
    "discard": {},
    "dnsbl": {"zones": {"zen.example.net": 1, "txt.example.net": {"text": "{txt}"}}},
    "earlytalker": {"check_data": True},
    "forward": {"to": "smtp://192.0.2.9:25"},
    "greylist": {},
    "maildir": {},
    "recipients": {"domains": ["example.org"]},
}


@pytest.mark.parametrize(("plugin", "name", "finding"), FOUND, ids=lambda value: getattr(value, "__name__", None))
async def test_it_finds(plugin: type, name: str, finding: str) -> None:
    report = await check(plugin, options=OPTIONS.get(plugin), only=(name,) if name == "stalls" else ())
    (result,) = report.failures  # and no other check complains
    assert result.check == name
    assert any(finding in each for each in result.findings), result.findings
    assert finding in str(report) and not report.passed


test_a_plugin_that_is_right_passes_each_check = conformance.suite(bad.Good)


@pytest.mark.parametrize("plugin", [delivery.Listening, delivery.ListeningOverLmtp])
async def test_a_delivery_plugin_that_hears_each_refusal_of_the_next_hop_passes(plugin: type) -> None:
    (result,) = (await check(plugin, only=("next-hop",))).results
    assert (result.outcome, result.findings) == (Outcome.PASSED, ())


@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DATA", "the final dot"])
@pytest.mark.parametrize("how", ["temporarily", "permanently"])
async def test_an_accept_is_wrong_when_the_next_hop_refuses_the_message(at: str, how: str) -> None:
    (result,) = (await check(delivery.DeafToAll, only=("next-hop",))).failures
    for recipient in ("b@example.org", "c@example.org"):
        world = f"a world in which the next hop refuses all {how} at {at}"
        assert f"it accepts (queue, at DATA) for {recipient} in {world}" in result.findings


class TimingOut:
    """Uses a library that cancels its own task, as ``asyncio.timeout`` does, and goes on."""

    @hookimpl
    async def mail(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()


async def test_a_plugin_whose_library_cancels_its_own_task_lets_cancellation_through() -> None:
    await assert_conforms(TimingOut, only=("ordinary", "cancellation", "time-limit"))


async def test_a_plugin_that_waits_by_asyncio_when_it_ends_keeps_its_time_limit() -> None:
    class Tidying:
        @hookimpl
        async def mail(self) -> None:
            try:
                await asyncio.sleep(0.001)
            finally:
                await asyncio.sleep(0.01)

    await assert_conforms(Tidying, only=("ordinary", "cancellation", "time-limit"))


async def test_every_check_has_something_to_look_at() -> None:
    """Else a check that never runs would look like one that passes."""
    everything = {result.check for result in (await check(bad.Good)).results if result.outcome is Outcome.PASSED}
    assert everything == {each.name for each in CHECKS} - {"next-hop"}


@pytest.mark.parametrize("name", BUILT_IN)
async def test_the_built_in_plugins_pass(name: str, tmp_path: Path) -> None:
    (offer,) = [each for each in installed() if each.name == name]
    options = BUILT_IN[name] | ({"path": f"{tmp_path}/{{domain}}/{{local}}"} if name == "maildir" else {})
    await assert_conforms(offer.load(), options=options)


def test_no_built_in_plugin_is_forgotten() -> None:
    assert {each.name for each in installed() if each.package == "gatepost"} == set(BUILT_IN)


async def test_findings_are_all_said_at_once() -> None:
    with pytest.raises(AssertionError, match=r"(?s)UnknownHook does not conform:\nhooks: .*\n  - it implements 'mial'"):
        await assert_conforms(bad.UnknownHook)


async def test_what_cannot_be_looked_at_is_skipped_with_the_reason() -> None:
    report = await check(bad.UnknownHook)
    skipped = {result.check: result.findings for result in report.results if result.outcome is Outcome.SKIPPED}
    assert skipped["answers"] == ("it cannot be asked: see hooks",)
    assert [result.check for result in report.failures] == ["hooks"]


async def test_wrong_options_are_a_finding_of_start() -> None:
    report = await check(bad.ShowingASecret)
    assert [result.check for result in report.failures] == ["start"]
    assert "token" in report.failures[0].findings[0]


async def test_what_the_plugins_own_code_raises_is_a_finding() -> None:
    report = await check(bad.FailingRepr, options={"token": "x"}, only=("secrets",))
    assert report.failures[0].findings == ("it cannot be checked: ZeroDivisionError: division by zero",)


async def test_an_object_that_is_made_already_is_checked_as_far_as_that_goes() -> None:
    assert (await check(bad.Stalling(), only=("stalls",))).failures
    report = await check(bad.KeepingASession(), only=("hooks", "keeps", "dns"))
    assert [result.outcome.value for result in report.results] == ["pass", "fail", "skip"]


async def test_a_check_that_does_not_exist_is_no_check() -> None:
    with pytest.raises(ValueError, match="there is no check 'everything'; there are hooks, "):
        await check(bad.Good, only=("everything",))


def test_a_check_says_what_it_is_about_in_a_sentence() -> None:
    for each in CHECKS:
        assert each.about.endswith(".") and "\n" not in each.about, each.name
