"""An exception of a plugin has a place in records and log, and fails a test of the kit that does not expect it."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from gatepost import DNSTemporaryError, Resolver, events, hookimpl
from gatepost.telemetry.log import EventLog
from gatepost.testing import Policy, Server
from gatepost.testing.recording import PluginFailedError


class Raising:
    """Raises in a function of its own that calls one of a library, and whose error passes in every policy."""

    on_error = "pass"

    @hookimpl
    def mail(self) -> None:
        self.parse("{")

    def parse(self, text: str) -> None:
        json.loads(text)  # the innermost line of ours


class RaisingInAThread(Raising):
    @hookimpl(blocking=True)
    def mail(self) -> None:
        self.parse("{")


class RaisingLater(Raising):
    @hookimpl
    async def mail(self) -> None:
        self.parse("{")


def place(of: type = Raising) -> str:
    """Return the place of the line that is marked."""
    lines, first = inspect.getsourcelines(of)
    return f"test_failures.py:{first + next(number for number, line in enumerate(lines) if 'innermost line' in line)}"


@pytest.mark.parametrize("plugin", [Raising, RaisingInAThread, RaisingLater])
async def test_an_exception_has_file_and_line_of_the_plugins_own_code(plugin: type) -> None:
    policy = Policy(plugin, failures="expected")
    client = await policy.connect()
    await client.ehlo()
    reply = await client.mail()
    (said,) = reply.rulings[-1].said
    text = "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
    assert said.error == f"{text} ({place()})"
    (failed,) = policy.events.named("plugin_failed")
    assert failed["error"] == said.error


class Ruling:
    """Raises where nobody waits for it."""

    @hookimpl
    def ruled(self) -> None:
        raise KeyError("nothing")


@pytest.mark.parametrize("plugin", [Raising, RaisingLater])
async def test_an_exception_fails_the_test_although_it_passes_in_the_policy(plugin: type) -> None:
    client = await Policy(plugin).connect()
    await client.ehlo()
    with pytest.raises(
        PluginFailedError, match=f"^{plugin.__name__.lower()} failed at mail: JSONDecodeError: "
    ) as caught:
        await client.mail()
    assert isinstance(caught.value.__cause__, json.JSONDecodeError)  # pytest shows its traceback


async def test_an_exception_in_ruled_fails_the_test_too() -> None:
    policy = Policy(Ruling)
    client = await policy.connect()
    with pytest.raises(PluginFailedError, match="ruling failed at ruled: KeyError: 'nothing'"):
        await client.transaction()


async def test_an_exception_fails_a_test_through_a_socket() -> None:
    async with Server(Raising) as live:
        wire = await live.connect()
        await wire.reply()
        await wire.say("EHLO x")
        with pytest.raises(PluginFailedError, match="raising failed at mail"):
            await wire.say("MAIL FROM:<a@example.com>")


async def test_an_exception_that_the_test_expects_does_not_fail_it() -> None:
    policy = Policy(Raising, failures="expected")
    assert (await (await policy.connect()).transaction()).code == 250
    policy.check()


async def test_an_error_of_a_service_does_not_fail_the_test() -> None:
    class Asking:
        def __init__(self, dns: Resolver) -> None:
            self.dns = dns

        @hookimpl
        async def mail(self) -> None:
            await self.dns.query("a.example", "A")

    policy = Policy(Asking)
    policy.dns.servfail("a.example")
    assert (await (await policy.connect()).transaction()).code == 451
    (failed,) = policy.events.named("plugin_failed")
    assert str(failed["error"]).startswith(f"{DNSTemporaryError.__name__}: ")


class TestLog:
    def lines(self, level: str) -> list[Any]:
        """Return the lines that the log of this level has of a failure."""
        written: list[bytes] = []
        log = EventLog(written.append, human=False, level=level)
        try:
            json.loads("{")
        except ValueError as error:
            log.event(events.PLUGIN_TRACEBACK, plugin="parser", phase="mail", traceback=error)
        log.close()
        return [json.loads(line) for line in b"".join(written).splitlines()]

    def test_the_traceback_is_in_the_log_at_debug(self) -> None:
        (line,) = self.lines("debug")
        assert (line["event"], line["level"], line["plugin"]) == ("plugin_traceback", "debug", "parser")
        assert "test_failures.py" in line["traceback"] and line["traceback"].endswith("column 2 (char 1)\n")

    def test_the_traceback_is_in_no_other_log(self) -> None:
        assert self.lines("info") == []
