"""Loading is strict: every mistake is a sentence that names plugin, package and version, and all come at once."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Iterator
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import pluggy
import pytest

from gatepost import HOOKS_VERSION, NextHops, deny, hookimpl
from gatepost import config as configuration
from gatepost.errors import ConfigError
from gatepost.hookspecs import PROJECT, Hookspecs
from gatepost.plugins.discovery import find_plugins, installed
from gatepost.plugins.load import Policy as Loaded
from gatepost.plugins.load import deprecated, load_policy, make_gate
from gatepost.plugins.services import Services
from tests.policy import Events, Policy, instance

HEAD = "from __future__ import annotations\nfrom gatepost import *\nfrom gatepost import hookimpl, deny\n"
GOOD = """
class Plugin:
    @hookimpl
    def mail(self, sender: Address) -> Decision | None:
        return deny("no")
"""


class Runtime:
    """A folder of installed packages, a configuration, and what loading it says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.toml = folder / "gatepost.toml"
        self.events = Events()

    def install(
        self,
        plugin: str,
        body: str = GOOD,
        *,
        package: str = "",
        version: str = "1.0",
        target: str = "",
        requires: Iterable[str] = (),
    ) -> None:
        """Install a package that offers ``plugin`` as ``module:Plugin`` of ``body``."""
        package = package or f"gatepost-{plugin}"
        module = package.replace("-", "_") + "_module"
        (self.folder / f"{module}.py").write_text(HEAD + textwrap.dedent(body))
        facts = self.folder / f"{package.replace('-', '_')}-{version}.dist-info"
        facts.mkdir()
        required = "".join(f"Requires-Dist: {each}\n" for each in requires)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n{required}")
        target = target or f"{module}:Plugin"
        (facts / "entry_points.txt").write_text(f"[gatepost.plugins]\n{plugin} = {target.format(module=module)}\n")

    def file(self, name: str, body: str) -> None:
        """Write a plugin of one's own beside the configuration."""
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEAD + textwrap.dedent(body))

    def load_policy(self, toml: str) -> Loaded:
        self.toml.write_text(textwrap.dedent(toml))
        policy = Policy()
        services = Services(
            dns=policy.dns,
            store=policy.store,
            clock=policy.clock,
            next_hop=NextHops(policy.clock, "mx.example.org"),
            log=lambda name: name,  # type: ignore[arg-type, return-value]
        )
        return load_policy(configuration.load_config(self.toml, {}), services, self.events)

    def mistakes(self, toml: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(toml)
        return [
            f"{Path(mistake.where).name}:{mistake.line}: {mistake.key}: {mistake.message}"
            for mistake in caught.value.mistakes
        ]


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    """Return a folder of packages that Python finds until the test ends."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield Runtime(tmp_path)
    for name in set(sys.modules) - before:
        del sys.modules[name]


LISTEN = '[listen.smtp]\nbind = ["127.0.0.1:2525"]\n'
ONE = f'{LISTEN}[plugins]\norder = ["thing"]\n'


# What is loaded.


def test_an_installed_plugin_does_nothing_before_it_is_named_in_the_order(runtime: Runtime) -> None:
    runtime.install("thing")
    assert "thing" in {offer.name for offer in installed()}
    policy = runtime.load(LISTEN)
    assert (policy.instances, policy.gates["smtp"].order("mail")) == ({}, ())
    policy = runtime.load(ONE)
    assert policy.gates["smtp"].order("mail") == ("thing",)
    made = policy.instances["thing"]
    assert (made.package, made.version) == ("gatepost-thing", "1.0")


def test_a_plugin_that_nobody_names_is_not_even_imported(runtime: Runtime) -> None:
    runtime.install("broken", "raise RuntimeError")
    assert runtime.load(LISTEN).instances == {}


def test_each_listener_may_have_an_order_of_its_own_over_the_same_instances(runtime: Runtime) -> None:
    runtime.install("one")
    runtime.install("two")
    policy = runtime.load(
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


def test_one_plugin_may_have_several_instances_and_one_may_be_off(runtime: Runtime) -> None:
    runtime.install("thing")
    policy = runtime.load(
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


def test_a_constructor_gets_the_services_that_it_names(runtime: Runtime) -> None:
    runtime.install(
        "thing",
        """
        class ThingOptions(Options):
            delay: Duration = 5.0

        class Plugin:
            Options = ThingOptions
            grants = ("recipients", "delivery")
            on_error = "pass"
            skip_trusted = True

            def __init__(self, log, options, name, dns, clock, next_hop, store):
                self.got = (log, name, options.delay)
                self.dns, self.clock, self.next_hop, self.store = dns, clock, next_hop, store

            @property
            def longest_wait(self):
                return 7

            @hookimpl
            def connect(self): ...
        """,
    )
    policy = runtime.load(ONE + '[plugins.thing]\ndelay = "2m"')
    made = policy.instances["thing"]
    assert made.plugin.got == ("thing", "thing", 120.0)
    assert isinstance(made.plugin.next_hop, NextHops)
    assert (made.grants, made.on_error, made.skip_trusted) == ({"recipients", "delivery"}, "pass", True)
    assert made.longest_wait == 7.0
    assert policy.default.chains["connect"].budget == 37.0


DECLARING = """
class Plugin:
    @property
    def phases(self):
        return ("mail", "rcpt")
    @hookimpl
    def helo(self): ...
    @hookimpl
    def mail(self): ...
    @hookimpl
    def rcpt(self): ...
"""


@pytest.mark.parametrize(("table", "phases"), [("", {"mail", "rcpt"}), ('phases = ["helo", "mail"]', {"mail"})])
def test_a_plugin_is_asked_in_no_other_phases_than_it_declares(runtime: Runtime, table: str, phases: set[str]) -> None:
    runtime.install("thing", DECLARING)
    policy = runtime.load(f"{ONE}[plugins.thing]\n{table}")
    assert {phase for phase in ("helo", "mail", "rcpt") if policy.default.order(phase)} == phases


async def test_each_instance_has_a_namespace_of_the_store_to_itself(runtime: Runtime) -> None:
    runtime.install(
        "thing",
        "class Plugin:\n    def __init__(self, store): self.store = store\n    @hookimpl\n    def mail(self): ...",
    )
    policy = runtime.load(f'{LISTEN}[plugins]\norder = ["thing", "again"]\n[plugins.again]\nuse = "thing"')
    one, two = (made.plugin.store for made in policy.instances.values())
    await one.put("key", 1, 60)
    assert (await one.get("key"), await two.get("key")) == (1, None)


def test_a_module_with_hook_functions_is_a_plugin(runtime: Runtime) -> None:
    runtime.install("thing", "@hookimpl\ndef mail(sender): return deny('no')", target="{module}")
    policy = runtime.load(ONE)
    assert policy.gates["smtp"].order("mail") == ("thing",)


@pytest.mark.parametrize("future", [True, False])
def test_a_local_file_needs_no_package(runtime: Runtime, future: bool) -> None:
    runtime.file(
        "plugins/my thing.py",
        """
        import dataclasses

        class ThingOptions(Options):
            delay: Duration = 5.0
            domains: frozenset[str]

        @dataclasses.dataclass
        class Memory:
            seen: int = 0

        class Thing:
            Options = ThingOptions

            def __init__(self, options: ThingOptions) -> None:
                self.options = options
                self.memory = Memory()

            @hookimpl
            def mail(self, sender: Address) -> Decision | None:
                return None
        """,
    )
    path = runtime.folder / "plugins/my thing.py"
    if not future:
        path.write_text(path.read_text().replace("from __future__ import annotations\n", ""))
    policy = runtime.load(ONE + '[plugins.thing]\nuse = "plugins/my thing.py"\ndomains = ["a.example"]\ndelay = "1m"')
    made = policy.instances["thing"]
    assert (made.plugin.options.delay, made.plugin.options.domains) == (60.0, {"a.example"})
    assert (made.package, made.version) == (str(path), "")


def test_a_local_file_may_be_a_module_with_hook_functions_and_be_used_twice(runtime: Runtime) -> None:
    runtime.file("mine.py", "@hookimpl\ndef mail(sender): return None")
    policy = runtime.load(
        f'{LISTEN}[plugins]\norder = ["a", "b"]\n[plugins.a]\nuse = "mine.py"\n[plugins.b]\nuse = "mine.py"'
    )
    assert policy.default.order("mail") == ("a", "b")


def test_a_phase_that_this_gatepost_does_not_know_may_be_optional(runtime: Runtime) -> None:
    runtime.install("thing", GOOD + "    @hookimpl(optionalhook=True)\n    def dream(self): ...\n")
    assert runtime.load(ONE).default.order("mail") == ("thing",)


# What is refused: a sentence for each.


def body(hook: str, declarations: str = "") -> str:
    return f"class Plugin:\n    {declarations or 'pass'}\n    {hook}\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (body("@hookimpl\n    def mial(self): ..."), "it implements 'mial', which is no phase; did you mean mail?"),
        (body("@hookimpl\n    def zzz(self): ..."), "it implements 'zzz', which is no phase"),
        (body("def mail(self): ..."), "it implements no phase; its hooks are those marked with @hookimpl"),
        (
            body("@hookimpl\n    def mail(self, session, recipient): ..."),
            "its mail asks for 'recipient', but mail has session, envelope, sender, parameters",
        ),
        (
            body("@hookimpl\n    def mail(self, *, sender): ..."),
            "its mail takes sender, but a hook takes plain arguments only",
        ),
        (
            body("@hookimpl\n    def mail(self, *args): ..."),
            "its mail takes *args, but a hook takes plain arguments only",
        ),
        (body("@hookimpl\n    def mail(self, **kwargs): ..."), "its mail takes **kwargs, but a hook"),
        (
            body("@hookimpl(wrapper=True)\n    def mail(self): yield"),
            "its mail is marked wrapper, which would break the order that the configuration states",
        ),
        (body("@hookimpl(tryfirst=True)\n    def mail(self): ..."), "its mail is marked tryfirst, which would break"),
        (body("@hookimpl(trylast=True)\n    def mail(self): ..."), "its mail is marked trylast, which would break"),
        (
            body("@hookimpl(ahead=True)\n    def mail(self): ..."),
            "its mail is marked ahead=True, which is for an async def",
        ),
        (
            body("@hookimpl(blocking=True)\n    async def mail(self): ..."),
            "its mail is marked blocking=True, which is for a plain def",
        ),
        (
            body("@hookimpl(ahead=True)\n    async def queue(self): ..."),
            "its queue is marked ahead=True, which is for a look-up that may be asked in vain",
        ),
        (body("@hookimpl\n    async def ruled(self): ..."), "its ruled must be a plain def: nobody waits for it"),
        (
            body("@hookimpl\n    def mail(self): ...", "def __init__(self, options, cache): ..."),
            "its constructor asks for 'cache'; there are options, dns, store, clock, next_hop, log, name",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "def __init__(self): raise ValueError('no')"),
            "its constructor failed: ValueError: no",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "def __init__(self): raise SystemExit(3)"),
            "its constructor failed: SystemExit: 3",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "grants = 'everything'"),
            "it declares the grant 'everything'; there are recipients, logins, delivery",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "on_error = 'accept'"),
            'its on_error is neither "defer" nor "pass"',
        ),
        (body("@hookimpl\n    def mail(self): ...", "on_error = []"), 'its on_error is neither "defer" nor "pass"'),
        (
            body("@hookimpl\n    def mail(self): ...", "grants = 5"),
            "its grants is neither a name nor several; there are recipients, logins, delivery",
        ),
        (body("@hookimpl\n    def mail(self): ...", "grants = ('delivery', [])"), "its grants is neither a name nor"),
        (
            body("@hookimpl\n    def mail(self): ...", "longest_wait = 'soon'"),
            "what it declares cannot be read: ValueError: could not convert string to float: 'soon'",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "longest_wait = property(lambda self: 1 / 0)"),
            "what it declares cannot be read: ZeroDivisionError: division by zero",
        ),
        (
            body("@hookimpl\n    def mail(self): ...", "phases = ('mail', 'rcpd')"),
            "what it declares cannot be read: PluginError: its phases names 'rcpd', which is no phase",
        ),
        (body("@hookimpl\n    def mail(self): ...", "Options = dict"), "its Options is no gatepost.Options"),
    ],
)
def test_a_plugin_with_a_mistake_is_refused_with_plugin_package_and_version(
    runtime: Runtime, text: str, complaint: str
) -> None:
    runtime.install("thing", text, version="2.5")
    (mistake,) = runtime.mistakes(ONE)
    assert mistake.startswith(f"gatepost.toml:4: plugins.thing: gatepost-thing 2.5: {complaint}")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("raise RuntimeError('broken')", "RuntimeError: broken"),
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("raise SystemExit(1)", "SystemExit: 1"),
        ("def (:", "SyntaxError: "),
        ("", "AttributeError: module 'gatepost_thing_module' has no attribute 'Plugin'"),
    ],
)
def test_a_plugin_that_cannot_be_imported_is_named(runtime: Runtime, text: str, complaint: str) -> None:
    runtime.install("thing", text)
    (mistake,) = runtime.mistakes(ONE)
    assert mistake.startswith(
        f"gatepost.toml:4: plugins.thing: thing of gatepost-thing 1.0 cannot be imported: {complaint}"
    )


def test_two_packages_that_offer_one_name_are_both_named(runtime: Runtime) -> None:
    runtime.install("thing", package="gatepost-thing")
    runtime.install("thing", package="gatepost-rival", version="0.3")
    (mistake,) = runtime.mistakes(ONE)
    assert mistake.endswith(
        "thing is offered by two packages, gatepost-rival 0.3 and gatepost-thing 1.0; uninstall one"
    )


def test_a_package_that_offers_the_name_of_a_built_in_plugin_stops_the_start_with_both_names(runtime: Runtime) -> None:
    runtime.install("dnsbl", version="0.3")
    (mistake,) = runtime.mistakes(f'{LISTEN}[plugins]\norder = ["dnsbl"]\n[plugins.dnsbl]\nzones = {{ a = 1 }}')
    ours = installed_version("gatepost")
    assert mistake.endswith(f"dnsbl is offered by two packages, gatepost {ours} and gatepost-dnsbl 0.3; uninstall one")


def test_two_packages_with_one_name_do_no_harm_while_nobody_names_it(runtime: Runtime) -> None:
    runtime.install("thing", package="gatepost-thing")
    runtime.install("thing", package="gatepost-rival")
    runtime.install("other")
    assert runtime.load(f'{LISTEN}[plugins]\norder = ["other"]').default.order("mail") == ("other",)


# Made for another gatepost


OURS = installed_version("gatepost")


@pytest.mark.parametrize("requirement", ["gatepost>=99", "gatepost>=99,<100", "Gatepost ~= 99.1"])
def test_a_plugin_made_for_a_newer_gatepost_is_refused_before_it_is_imported(
    runtime: Runtime, requirement: str
) -> None:
    runtime.install("thing", "raise RuntimeError('was imported')", version="2.5", requires=[requirement])
    wanted = requirement[len("gatepost") :].replace(" ", "")
    assert runtime.mistakes(ONE) == [
        f"gatepost.toml:4: plugins.thing: thing of gatepost-thing 2.5 is made for gatepost {wanted}, and this is {OURS}"
    ]


def test_a_plugin_made_for_an_older_gatepost_only_is_refused_too(runtime: Runtime) -> None:
    runtime.install("thing", requires=["gatepost<0.0.1"])
    (mistake,) = runtime.mistakes(ONE)
    assert mistake.endswith(f"is made for gatepost <0.0.1, and this is {OURS}")


@pytest.mark.parametrize(
    "requirement",
    [
        "gatepost",
        f"gatepost>={OURS}",
        f"gatepost[new]=={OURS}",
        "gatepost>=99; python_version < '3'",
        "gatepost>=99; extra == 'testing'",
        "gatepost-other>=99",
        "gatepost is nice",
    ],
)
def test_a_plugin_whose_requirements_are_met_or_do_not_count_is_taken(runtime: Runtime, requirement: str) -> None:
    runtime.install("thing", requires=[requirement])
    assert runtime.load(ONE).default.order("mail") == ("thing",)


@pytest.mark.parametrize(
    ("ours", "requirement", "is_met"),
    [
        ("0.4.0.dev1", "gatepost>=0.4,<0.5", True),
        ("0.4.0rc1", "gatepost>=0.4", True),
        ("0.4.0.dev1", "gatepost>=0.4.1", False),
        ("0.4.1.dev1", "gatepost==0.4.0", False),
    ],
)
def test_a_pre_release_counts_as_what_it_leads_to(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, ours: str, requirement: str, is_met: bool
) -> None:
    runtime.install("thing", requires=[requirement])
    monkeypatch.setattr("importlib.metadata.version", lambda name: ours)
    if is_met:
        assert runtime.load(ONE).default.order("mail") == ("thing",)
    else:
        assert runtime.mistakes(ONE)[0].endswith(f"and this is {ours}")


def test_a_class_made_for_later_hooks_is_refused_with_that_sentence_only(runtime: Runtime) -> None:
    later = f"hooks_version = {HOOKS_VERSION + 1}"
    runtime.install("thing", body("@hookimpl\n    def dream(self, session, depth): ...", later), version="2.5")
    assert runtime.mistakes(ONE + '[plugins.thing]\ndepth = "all"') == [
        f"gatepost.toml:5: plugins.thing: gatepost-thing 2.5: it is made for hooks version {HOOKS_VERSION + 1}, "
        f"and this gatepost has {HOOKS_VERSION}: a newer one is needed"
    ]


def test_a_local_file_made_for_later_hooks_is_refused_too(runtime: Runtime) -> None:
    runtime.file("mine.py", f"hooks_version = {HOOKS_VERSION + 1}\n@hookimpl\ndef dream(session): ...")
    (mistake,) = runtime.mistakes(ONE + '[plugins.thing]\nuse = "mine.py"')
    assert "mine.py: it is made for hooks version" in mistake


def test_a_class_made_for_these_hooks_is_taken(runtime: Runtime) -> None:
    runtime.install("thing", body("@hookimpl\n    def mail(self): ...", f"hooks_version = {HOOKS_VERSION}"))
    assert runtime.load(ONE).default.order("mail") == ("thing",)


# What goes away


class OldSpecs(Hookspecs):
    """The phases of a gatepost that is about to lose one, and an argument of another."""

    @pluggy.HookspecMarker(PROJECT)(warn_on_impl=DeprecationWarning("vrfy is asked no more from 9.0 on"))
    def vrfy(self, session: Any, argument: str) -> Any: ...

    @pluggy.HookspecMarker(PROJECT)(
        warn_on_impl_args={"sender": DeprecationWarning("mail gives no sender from 9.0 on: see envelope.sender")}
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
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gatepost.plugins.load.Hookspecs", OldSpecs)
    runtime.install("thing", OLD, version="2.5")
    runtime.install("good", body("@hookimpl\n    def mail(self, session): ..."))
    policy = runtime.load(
        f'{LISTEN}[listen.b]\nbind = ["127.0.0.1:2526"]\nplugins = ["thing"]\n[plugins]\norder = ["good", "thing"]'
    )
    assert policy.default.order("mail") == ("good", "thing")
    sentences = ["vrfy is asked no more from 9.0 on", "mail gives no sender from 9.0 on: see envelope.sender"]
    assert {str(each) for each in policy.deprecations} == {
        f"{runtime.toml}:7: plugins.thing: gatepost-thing 2.5: {sentence}" for sentence in sentences
    }
    assert sorted(runtime.events.named("deprecated"), key=lambda facts: str(facts["reason"]), reverse=True) == [
        {"plugin": "thing", "package": "gatepost-thing", "version": "2.5", "reason": sentence} for sentence in sentences
    ]


def test_nothing_of_the_present_hooks_goes_away(runtime: Runtime) -> None:
    runtime.install("thing", OLD)
    assert list(deprecated(tuple(runtime.load(ONE).instances.values()))) == []


# Found without being made


def test_plugins_are_found_by_table_or_installed_name_and_not_made(runtime: Runtime) -> None:
    runtime.install("thing", body("@hookimpl\n    def mail(self): ...", "def __init__(self): raise ValueError"))
    runtime.file("mine.py", GOOD)
    runtime.toml.write_text('[plugins.own]\nuse = "mine.py"\n[plugins.again]\nuse = "thing"\n')
    found, mistakes = find_plugins(configuration.load_config(runtime.toml, {}), ["own", "again", "thing", "nonesuch"])
    assert {name: origin for name, (_, origin) in found.items()} == {
        "own": str(runtime.folder / "mine.py"),
        "again": "gatepost-thing 1.0",
        "thing": "gatepost-thing 1.0",
    }
    assert [mistake.key for mistake in mistakes] == ["plugins.nonesuch"]


def test_a_missing_plugin_is_named_with_the_nearest_one(runtime: Runtime) -> None:
    runtime.install("thing")
    (mistake,) = runtime.mistakes(f'{LISTEN}[plugins]\norder = ["thng"]')
    assert mistake == "gatepost.toml:4: plugins.thng: no installed package offers a plugin 'thng'; did you mean thing?"
    (mistake,) = runtime.mistakes(f'{LISTEN}[plugins]\norder = ["xyzzy"]')
    assert mistake.endswith("no installed package offers a plugin 'xyzzy'")


@pytest.mark.parametrize(
    ("use", "text", "complaint"),
    [
        ("nowhere.py", None, "is no Python file that can be read"),
        ("mine.py", "raise OSError('no')", "mine.py cannot be imported: OSError: no"),
        ("mine.py", GOOD + GOOD.replace("Plugin", "Other"), "mine.py holds several plugins: Plugin, Other"),
        ("mine.py", "x = 1", "mine.py: it implements no phase"),
    ],
)
def test_a_local_file_with_a_mistake_is_named_at_its_line(
    runtime: Runtime, use: str, text: str | None, complaint: str
) -> None:
    if text is not None:
        runtime.file("mine.py", text)
    (mistake,) = runtime.mistakes(f'{ONE}[plugins.thing]\nuse = "{use}"')
    assert mistake.startswith(("gatepost.toml:6: plugins.thing.use: ", "gatepost.toml:5: plugins.thing: "))
    assert complaint in mistake


def test_a_module_can_be_used_once_only(runtime: Runtime) -> None:
    runtime.install("thing", "@hookimpl\ndef mail(sender): return None", target="{module}")
    (mistake,) = runtime.mistakes(f'{LISTEN}[plugins]\norder = ["thing", "again"]\n[plugins.again]\nuse = "thing"')
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


def test_mistakes_of_options_come_all_at_once_with_their_lines(runtime: Runtime) -> None:
    runtime.install("thing", OPTIONS)
    found = runtime.mistakes(
        ONE + '[plugins.thing]\ndelay = "soon"\ndomain = ["a.example"]\nmode = "observe"\nphases = ["mail", "rcpt"]'
    )
    assert [mistake.partition(": ")[0] for mistake in found] == [f"gatepost.toml:{line}" for line in (5, 6, 7, 8, 9)]
    assert "plugins.thing.domains" in found[0]
    assert "plugins.thing.delay" in found[1]
    assert 'did you mean "domains"?' in found[2]
    assert "it grants recipients, so it cannot be observed: use enforce or off" in found[3]
    assert "it does not take part in 'rcpt', but in mail" in found[4]


def test_a_plugin_without_options_takes_none(runtime: Runtime) -> None:
    runtime.install("thing")
    (mistake,) = runtime.mistakes(ONE + "[plugins.thing]\ndelay = 5")
    assert mistake == "gatepost.toml:6: plugins.thing.delay: gatepost-thing 1.0 takes no options"


def test_mistakes_of_all_plugins_come_at_once(runtime: Runtime) -> None:
    runtime.install("one", "raise RuntimeError")
    runtime.install("two", body("@hookimpl\n    def mial(self): ..."))
    found = runtime.mistakes(f'{LISTEN}[plugins]\norder = ["one", "two", "three"]')
    assert [mistake.split(": ")[1] for mistake in found] == ["plugins.one", "plugins.two", "plugins.three"]


def test_a_plugin_is_loaded_without_running_its_properties() -> None:
    class Loud:
        @property
        def loud(self) -> Any:
            raise AssertionError("was run")

        @hookimpl
        def mail(self) -> Any:
            return deny("no")

    policy = Policy()
    assert make_gate([instance(Loud())], policy.clock, policy.events).order("mail") == ("loud",)


def test_a_hook_that_pluggy_itself_has_marked_is_taken(runtime: Runtime) -> None:
    runtime.install(
        "thing",
        "import pluggy\nmark = pluggy.HookimplMarker('gatepost')\nclass Plugin:\n    @mark\n    def mail(self): ...",
    )
    assert runtime.load(ONE).default.order("mail") == ("thing",)
