"""Loading makes instances and gates in the configured order, or names every mistake at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pluggy
import pytest

from gatepost.config import load_config
from gatepost.events import NULL_RECORDER
from gatepost.hookspecs import PROJECT, Hookspecs
from gatepost.options import ListFiles
from gatepost.plugins.load import deprecated, load_policy, read_options
from gatepost.rehearsal.offline import offline_services
from tests.core.plugins.packages import LISTEN, ONE, Packages, body


def test_each_listener_may_have_an_order_of_its_own_over_the_same_instances(packages: Packages) -> None:
    packages.install("one")
    packages.install("two")
    policy = packages.load(
        """
        [listen.smtp]
        bind = ["127.0.0.1:2525"]
        [listen.other]
        bind = ["127.0.0.1:2526"]
        plugins = ["two", "one"]
        [plugins]
        order = ["one", "two"]
        """
    )
    assert policy.gates["smtp"].order("mail") == policy.default.order("mail") == ("one", "two")
    assert policy.gates["other"].order("mail") == ("two", "one")
    assert policy.gates["smtp"].instances[0] is policy.gates["other"].instances[1]


def test_one_plugin_may_have_several_instances_and_one_may_be_off(packages: Packages) -> None:
    packages.install("thing")
    policy = packages.load(
        f"""{LISTEN}
[plugins]
order = ["again", "thing", "off"]
[plugins.again]
use = "thing"
mode = "observe"
time_limit = "5s"
on_error = "pass"
reject_at = "mail"
phases = ["mail"]
[plugins.off]
use = "no such plugin"
mode = "off"
"""
    )
    assert policy.gates["smtp"].order("mail") == ("again", "thing")
    made = policy.instances["again"]
    assert (made.observed, made.time_limit, made.on_error, made.reject_at) == (True, 5.0, "pass", "mail")
    assert made.phases == {"mail"}
    assert policy.instances["thing"].plugin is not made.plugin


@pytest.mark.parametrize("declared", ["defer", "pass"])
@pytest.mark.parametrize("written", ["defer", "pass", ""])
def test_on_error_in_toml_wins_over_the_class(packages: Packages, declared: str, written: str) -> None:
    hook = "@hookimpl\n    def mail(self): ..."
    packages.install("thing", body(hook, f"on_error = {declared!r}"))
    table = f'[plugins.thing]\non_error = "{written}"\n' if written else ""
    policy = packages.load(f'{LISTEN}\n[plugins]\norder = ["thing"]\n{table}')
    assert policy.instances["thing"].on_error == (written or declared)


class OldSpecs(Hookspecs):
    """The phases of a gatepost that is about to lose one, and an argument of another."""

    @pluggy.HookspecMarker(PROJECT)(warn_on_impl=DeprecationWarning("vrfy will not be asked from 9.0 on"))
    def vrfy(self, session: Any, argument: str) -> Any: ...

    @pluggy.HookspecMarker(PROJECT)(
        warn_on_impl_args={"sender": DeprecationWarning("mail will have no sender from 9.0 on: see envelope.sender")}
    )
    def mail(self, session: Any, envelope: Any, sender: Any, parameters: Any) -> Any: ...


OLD = """
class Plugin:
    @hookimpl
    def mail(self, sender): return None
    @hookimpl
    def vrfy(self): return None
"""


def test_a_plugin_that_uses_what_goes_away_is_named_once_and_works(
    packages: Packages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatepost.plugins.load.Hookspecs", OldSpecs)
    packages.install("thing", OLD, version="2.5")
    packages.install("good", body("@hookimpl\n    def mail(self, session): ..."))
    policy = packages.load(
        f'{LISTEN}[listen.b]\nbind = ["127.0.0.1:2526"]\nplugins = ["thing"]\n[plugins]\norder = ["good", "thing"]'
    )
    assert policy.default.order("mail") == ("good", "thing")
    sentences = ["vrfy will not be asked from 9.0 on", "mail will have no sender from 9.0 on: see envelope.sender"]
    assert {str(each) for each in policy.deprecations} == {
        f"{packages.toml}:7: plugins.thing: gatepost-thing 2.5: {sentence}" for sentence in sentences
    }
    assert sorted(packages.events.named("deprecated"), key=lambda facts: str(facts["reason"]), reverse=True) == [
        {"plugin": "thing", "package": "gatepost-thing", "version": "2.5", "reason": sentence} for sentence in sentences
    ]


def test_nothing_of_the_present_hooks_goes_away(packages: Packages) -> None:
    packages.install("thing", OLD)
    assert list(deprecated(tuple(packages.load(ONE).instances.values()))) == []


def test_a_module_can_be_used_once_only(packages: Packages) -> None:
    packages.install("thing", "@hookimpl\ndef mail(sender): return None", target="{module}")
    (mistake,) = packages.mistakes(f'{LISTEN}[plugins]\norder = ["thing", "again"]\n[plugins.again]\nuse = "thing"')
    assert (
        mistake == "gatepost.toml:6: plugins.again.use: it is the same module as thing; a module can be used once only"
    )


OPTIONS = """
class ThingOptions(Options):
    domains: frozenset[str]
    delay: Duration = 5.0

class Plugin:
    Options = ThingOptions
    grants = "recipients"

    @hookimpl
    def mail(self): ...
"""


def test_mistakes_of_options_come_all_at_once_with_their_lines(packages: Packages) -> None:
    packages.install("thing", OPTIONS)
    found = packages.mistakes(
        ONE + '[plugins.thing]\ndelay = "soon"\ndomain = ["a.example"]\nmode = "observe"\nphases = ["mail", "rcpt"]'
    )
    assert [mistake.partition(": ")[0] for mistake in found] == [f"gatepost.toml:{line}" for line in (5, 6, 7, 8, 9)]
    assert "plugins.thing.domains" in found[0]
    assert "plugins.thing.delay" in found[1]
    assert 'did you mean "domains"?' in found[2]
    assert "it grants recipients, so it cannot be observed: use enforce or off" in found[3]
    assert "it does not take part in 'rcpt', but in mail" in found[4]


def test_a_plugin_without_options_takes_none(packages: Packages) -> None:
    packages.install("thing")
    (mistake,) = packages.mistakes(ONE + "[plugins.thing]\ndelay = 5")
    assert mistake == "gatepost.toml:6: plugins.thing.delay: gatepost-thing 1.0 takes no options"


def test_mistakes_of_all_plugins_come_at_once(packages: Packages) -> None:
    packages.install("one", "raise RuntimeError")
    packages.install("two", body("@hookimpl\n    def mial(self): ..."))
    found = packages.mistakes(f'{LISTEN}[plugins]\norder = ["one", "two", "three"]')
    assert [mistake.split(": ")[1] for mistake in found] == ["plugins.one", "plugins.two", "plugins.three"]


def test_what_was_read_in_a_thread_before_is_not_parsed_again(tmp_path: Path) -> None:
    (tmp_path / "people").write_text("bob@example.org\n")
    (tmp_path / "gatepost.toml").write_text(
        f'hostname = "mx.example.org"\nstate_dir = "{tmp_path}"\n{LISTEN}\n'
        '[plugins]\norder = ["recipients", "discard"]\n[plugins.recipients]\nfiles = ["people"]\n'
    )
    config = load_config(tmp_path / "gatepost.toml", {})
    services = replace(offline_services(config), files=ListFiles())
    (options,) = [each for each in read_options(config, services, NULL_RECORDER) if hasattr(each, "files")]
    policy = load_policy(config, services, NULL_RECORDER)
    (read,), (used,) = options.files, policy.instances["recipients"].plugin._files
    assert used is not read
    assert used._content[2] is read._content[2] is not None
