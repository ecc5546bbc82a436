"""The fixture ``policy``: plugins as objects, classes or TOML; replies with their rulings; and time that takes none."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gatepost import PluginError, deny, hookimpl
from gatepost.errors import ConfigError
from gatepost.testing import Policy, TestClock, instance, saying
from gatepost.testing.clock import wait_for
from tests.core.testing.plugins import Alive, Blocklist, BlocklistOptions, Listed, Never, Threaded, Waiting

TOML = '[plugins]\norder = ["greylist"]\n[plugins.greylist]\ndelay = "10s"\nby_name = false\n'


class TestPlugins:
    async def test_an_object_is_taken_as_it_is(self, policy: Any) -> None:
        plugin = Blocklist(BlocklistOptions(domains=frozenset({"other.example"})))
        gate = policy(plugin)
        assert gate.plugin("blocklist") is plugin
        session = await gate.connect()
        assert (await session.transaction("x@other.example")).code == 550
        assert (await session.transaction("x@bad.example")).code == 503  # the first MAIL still stands

    async def test_a_class_gets_the_defaults_of_its_options(self, policy: Any) -> None:
        assert (await (await policy(Blocklist).connect()).transaction("x@bad.example")).code == 550

    async def test_options_stand_beside_the_keys_of_the_core(self, policy: Any) -> None:
        gate = policy(instance(Blocklist, "list", domains=["other.example"], mode="observe", time_limit="2s"))
        session = await gate.connect()
        await session.ehlo()
        reply = await session.mail("x@other.example")
        assert reply.code == 250
        (said,) = reply.ruling.said
        assert said.plugin == "list" and said.observed and "other.example" in str(said)
        assert gate.gate.instance("list").time_limit == 2.0

    async def test_options_may_be_ready_made(self, policy: Any) -> None:
        gate = policy(instance(Blocklist, options=BlocklistOptions(domains=frozenset({"ready.example"}))))
        assert (await (await gate.connect()).transaction("x@ready.example")).code == 550

    def test_an_object_takes_no_options(self) -> None:
        with pytest.raises(TypeError, match="blocklist is made already"):
            instance(Blocklist(BlocklistOptions()), domains=["x.example"])

    def test_wrong_options_are_mistakes(self, policy: Any) -> None:
        with pytest.raises(ValueError, match="domains"):
            policy(instance(Blocklist, domains=3))
        with pytest.raises(PluginError, match="takes no options, so not loud"):
            policy(instance(Alive, loud=True))

    def test_two_of_a_kind_get_two_names(self, policy: Any) -> None:
        gate = policy(Blocklist, instance(Blocklist, "second"), Blocklist, bare=True)
        assert gate.gate.order("mail") == ("blocklist", "second", "blocklist2")
        with pytest.raises(PluginError, match="two plugins of this policy are called second"):
            policy(instance(Blocklist, "second"), instance(Blocklist, "second"))

    def test_a_hook_that_is_none_is_refused_as_in_production(self, policy: Any) -> None:
        class Misspelt:
            @hookimpl
            def rctp(self) -> None: ...

        for plugin in (Misspelt, Misspelt()):
            with pytest.raises(PluginError, match=r"misspelt: it implements 'rctp'.*did you mean rcpt"):
                policy(plugin)

    def test_a_misspelt_declaration_is_refused_as_in_production(self, policy: Any) -> None:
        class Misspelt:
            skip_trused = True

            @hookimpl
            def mail(self) -> None: ...

        for plugin in (Misspelt, Misspelt()):
            with pytest.raises(PluginError, match=r"misspelt: it declares skip_trused.*did you mean skip_trusted"):
                policy(plugin)

    def test_a_table_that_does_not_go_with_the_plugin_is_refused_as_in_production(self, policy: Any) -> None:
        with pytest.raises(PluginError, match=r"saying: mode: it grants delivery, so it cannot be observed"):
            policy(instance(saying("queue", None, grants="delivery"), mode="observe"))
        with pytest.raises(PluginError, match=r"blocklist: phases: it does not take part in 'rcpt', but in mail"):
            policy(instance(Blocklist, phases=["rcpt"]))

    def test_a_service_that_is_none_is_refused(self, policy: Any) -> None:
        class Wanting:
            def __init__(self, database: object) -> None: ...

            @hookimpl
            def mail(self) -> None: ...

        with pytest.raises(PluginError, match="wanting: its constructor asks for 'database'"):
            policy(Wanting)

    async def test_startup_runs_before_the_first_client_and_shutdown_at_the_end(self, policy: Any) -> None:
        alive = Alive()
        gate = policy(alive)
        await gate.connect()
        await gate.connect()
        await gate.close()
        assert alive.called == ["startup", "connect, elsewhere", "connect, elsewhere", "shutdown"]

    async def test_startup_can_be_left_to_the_test(self, policy: Any) -> None:
        alive = Alive()
        await policy(alive, startup=False).connect()
        assert alive.called == ["connect, elsewhere"]


class TestToml:
    async def test_the_text_of_a_configuration(self, policy: Any) -> None:
        gate = policy(TOML)
        assert (await (await gate.connect()).transaction()).code == 451
        await gate.clock.advance("10s")
        assert (await (await gate.connect()).transaction()).code == 250

    async def test_a_file(self, policy: Any, tmp_path: Path) -> None:
        (tmp_path / "gatepost.toml").write_text(f'hostname = "gate.example"\n{TOML}')
        session = await policy(tmp_path / "gatepost.toml").connect()
        assert session.banner.text == "gate.example ESMTP"
        assert (await session.transaction()).code == 451

    async def test_a_local_plugin(self, policy: Any, tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(
            "from gatepost import deny, hookimpl\n\n@hookimpl\ndef mail():\n    return deny('mine')\n"
        )
        gate = policy('[plugins]\norder = ["mine"]\n[plugins.mine]\nuse = "mine.py"\n', folder=tmp_path)
        assert (await (await gate.connect()).transaction()).text == "mine"

    async def test_limits_score_and_an_order_of_a_listener(self, policy: Any) -> None:
        gate = policy(
            '[limits]\nrecipients = 1\n[score]\ndeny_at = 3\n[plugins]\norder = ["greylist"]\n'
            '[listen.inner]\nbind = ["127.0.0.1:0"]\nplugins = []\n'
        )
        assert gate.gate.score.deny_at == 3.0
        gate.dns.name("192.0.2.1")
        assert (await (await gate.connect()).transaction()).code == 451
        session = await gate.connect(listener="inner")
        assert (await session.transaction()).code == 250
        await session.mail()
        await session.rcpt()
        assert (await session.rcpt("c@example.org")).code == 452

    def test_all_mistakes_are_named(self, policy: Any) -> None:
        with pytest.raises(ConfigError, match=r"policy:2: plugins\.order\[1\]: (?s:.*):4: limits\.recipients"):
            policy('[plugins]\norder = ["greylist", 3]\n[limits]\nrecipients = "many"\n')
        with pytest.raises(ConfigError, match="did you mean greylist"):
            policy('[plugins]\norder = ["greylst"]\n')


class TestStandIns:
    async def test_the_kit_vouches_and_delivers_where_nobody_can(self, policy: Any) -> None:
        gate = policy()
        reply = await (await gate.connect()).transaction("a@example.com", "b@example.org", b"Subject: x\r\n\r\nhi\r\n")
        assert reply.code == 250
        (message,) = gate.next_hop.messages
        assert (message.sender, message.recipients) == ("a@example.com", ("b@example.org",))
        assert message.content.startswith(b"Received: ") and message.content.endswith(b"Subject: x\r\n\r\nhi\r\n")

    async def test_bare_it_does_neither(self, policy: Any) -> None:
        reply = await (await policy(bare=True).connect()).transaction()
        assert (reply.code, reply.ruling.plugin) == (450, "gatepost")

    async def test_it_does_not_stand_in_for_who_is_there(self, policy: Any) -> None:
        gate = policy('[plugins]\norder = ["recipients", "discard"]\n[plugins.recipients]\ndomains = ["example.org"]\n')
        session = await gate.connect()
        assert (await session.transaction()).code == 250
        assert not gate.next_hop.messages
        await session.mail()
        assert (await session.rcpt("x@elsewhere.example")).code == 550


class TestReplies:
    async def test_a_refusal_has_its_text_its_id_and_who_said_it(self, policy: Any) -> None:
        gate = policy(Blocklist)
        session = await gate.connect()
        await session.ehlo()
        delayed = await session.mail("x@bad.example")
        assert delayed.code == 250 and delayed.ruling.refuses and delayed.ruling.spoken_at == "rcpt"
        reply = await session.rcpt()
        assert (reply.code, reply.status, reply.text) == (550, "5.7.1", "bad.example is not welcome here")
        assert reply.wire == f"550 5.7.1 {reply.text} [{reply.id}]\r\n".encode()
        assert (reply.ruling.plugin, reply.ruling.phase) == ("blocklist", "mail")
        assert gate.records[-1].id == reply.id == reply.ruling.id

    async def test_what_was_accepted_has_its_rulings_too(self, policy: Any) -> None:
        session = await policy(Blocklist).connect()
        assert session.banner.ruling is None
        await session.ehlo()
        assert [str(said) for said in (await session.mail()).ruling.said] == ["no opinion"]
        reply = await session.rcpt()
        assert reply.ruling.vouched and [ruling.phase for ruling in reply.rulings] == ["rcpt"]
        reply = await session.data()
        assert (reply.ruling.phase, reply.ruling.plugin) == ("queue", "(delivering)")

    async def test_a_message_that_is_refused(self, policy: Any) -> None:
        class Picky:
            @hookimpl
            def headers(self) -> Any:
                return deny("no such headers")

        reply = await (await policy(Picky).connect()).transaction()
        assert (reply.text, reply.ruling.phase) == ("no such headers", "headers")

    async def test_ehlo_is_as_many_lines(self, policy: Any) -> None:
        session = await policy().connect()
        reply = await session.ehlo()
        assert reply.status is None and reply.text.splitlines()[:2] == ["mx.example.org", "PIPELINING"]

    async def test_a_long_text_is_one_again(self, policy: Any) -> None:
        text = " ".join(["word"] * 200)

        class Verbose:
            @hookimpl
            def connect(self) -> Any:
                return deny(text)

        session = await policy(Verbose).connect()
        assert session.banner.text == text and session.banner.wire.count(b"\r\n") > 1
        assert session.banner.closed and session.closed

    async def test_after_the_end_nothing_can_be_said(self, policy: Any) -> None:
        session = await policy().connect()
        assert (await session.quit()).closed
        with pytest.raises(AssertionError, match="'NOOP' cannot be sent: the connection is closed"):
            await session.say("NOOP")

    async def test_records_events_and_log(self, policy: Any) -> None:
        class Failing:
            on_error = "pass"

            def __init__(self, log: Any) -> None:
                self.log = log

            @hookimpl
            def helo(self) -> None:
                self.log.warning("about_to_fail", why="a test")
                raise RuntimeError("as announced")

        gate = policy(Failing, failures="expected")
        await (await gate.connect()).transaction()
        assert [record.event for record in gate.records] == ["accepted"]
        (failure,) = gate.events.named("plugin_failed")
        assert str(failure["error"]).startswith("RuntimeError: as announced (test_policy.py:")
        (line,) = gate.log.warnings
        assert (line.name, line.source, line.facts) == ("about_to_fail", "failing", {"why": "a test"})


class TestTime:
    async def test_a_wait_takes_no_time(self, policy: Any) -> None:
        gate = policy(instance(Waiting, delay="25s"))
        session = await gate.connect()
        await session.ehlo()
        assert session.waited == 25.0
        await session.say("NOOP")
        assert session.waited == 0.0
        assert gate.clock.monotonic() == 25.0

    async def test_a_time_limit_ends_a_wait(self, policy: Any) -> None:
        gate = policy(instance(Waiting, delay="45s", time_limit="20s"))
        assert (await (await gate.connect()).ehlo()).code == 250  # a refusal at helo is spoken at rcpt
        assert 20.0 <= gate.clock.monotonic() <= 21.0
        assert gate.events.named("plugin_failed")

    async def test_a_thread_at_work_is_not_outrun(self, policy: Any) -> None:
        gate = policy(instance(Threaded, time_limit="1s"))
        session = await gate.connect()
        assert (await session.ehlo()).code == 250
        assert session.waited == 0.0 and not gate.events.named("plugin_failed")

    async def test_by_hand(self, policy: Any) -> None:
        gate = policy()
        await gate.clock.advance("6s")
        await gate.clock.advance(1.5)
        assert gate.clock.monotonic() == 7.5

    async def test_who_waits_for_what_is_not_on_the_clock_fails_the_test(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gatepost.testing.clock.PATIENCE", 0.05)
        with pytest.raises(AssertionError, match="but not for the clock"):
            await wait_for(asyncio.Event().wait(), TestClock())

    async def test_a_wait_without_end_fails_the_test(self, policy: Any) -> None:
        with pytest.raises(AssertionError, match="no result within 3600 virtual seconds"):
            await policy(Never).connect()


class TestStore:
    async def test_what_plugins_remember_can_be_looked_at_and_put_in(self, policy: Any) -> None:
        gate = policy(Listed, dns="lenient")
        await gate.store.of("listed").put("before", [1, 2], 30.0)
        await gate.connect("192.0.2.7")
        assert gate.store.contents("listed") == {"before": [1, 2], "192.0.2.7": True}
        assert gate.store.contents("other") == {}
        await gate.clock.advance(30)
        assert gate.store.contents("listed") == {"192.0.2.7": True}

    async def test_a_broken_store_is_an_error_of_the_plugin(self, policy: Any) -> None:
        gate = policy(Listed, dns="lenient")
        gate.store.broken.add("listed")
        assert (await gate.connect()).banner.code == 421
        assert "StoreError" in str(gate.events.named("plugin_failed"))


def test_the_kit_needs_no_pytest() -> None:
    program = (
        "import sys; sys.modules['pytest'] = None; import asyncio; from gatepost.testing import Policy\n"
        "print(asyncio.run(Policy().connect()).banner)"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "220 mx.example.org ESMTP\n"


def test_a_policy_needs_no_loop() -> None:
    assert Policy(Blocklist).gate.order("mail") == ("blocklist",)
